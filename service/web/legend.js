// The legend of a chart: switches its series, and says their values at the cursor.

import { h } from "./dom.js";

/** `toggle(label)` shows or hides a series. A single series needs no switch: the title says what it is. */
export function legend(toggle) {
  const element = h("ul", { class: "legend" });
  let shown = "";
  let outputs = [];

  return {
    element,
    show(chart, hidden) {
      const named = chart === null ? [] : chart.series;
      const partial = Boolean(chart?.partial?.size);
      const key = JSON.stringify([named.map(({ label, colour }) => [label, colour, hidden.has(label)]), partial]);
      if (key === shown) return;
      shown = key;
      const focused = [...element.querySelectorAll("button")].indexOf(document.activeElement);
      outputs = named.map(() => h("span", { class: "at" }));
      element.replaceChildren(...named.map(({ label, colour, ghost }, index) => {
        const content = [h("span", { class: `swatch swatch-${ghost ? "ghost" : colour}`, "aria-hidden": "true" }), label, outputs[index]];
        return h("li", {}, named.length === 1 ? content
          : h("button", { type: "button", "aria-pressed": String(!hidden.has(label)), onclick: () => toggle(label) }, content));
      }), ...(partial ? [h("li", {}, h("span", { class: "swatch swatch-partial", "aria-hidden": "true" }), "Partial interval")] : []));
      if (focused >= 0) element.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
    },
    values(chart, index) {
      chart.series.forEach(({ values }, at) => {
        const text = index === null ? "" : chart.show(values[index]);
        if (outputs[at] && outputs[at].textContent !== text) outputs[at].textContent = text;
      });
    },
  };
}
