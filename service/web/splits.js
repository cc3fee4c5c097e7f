// What the charts are split by, and whether the period before is shown: a row of buttons, each one click.

import { dimensions, load, title } from "./dimensions.js";
import { h } from "./dom.js";
import { href } from "./route.js";

export function splitBar(route) {
  const buttons = h("div", { class: "splits", role: "group", "aria-label": "Split by" });
  const fill = () => {
    const focused = buttons.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    buttons.replaceChildren(...[null, ...new Set([...dimensions(), ...(route.by ? [route.by] : [])])].map((name) =>
      button(name === null ? "Total" : title(name), name === route.by, `by-${name}`, { ...route, by: name })));
    if (focused) buttons.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };
  fill();
  load().then(fill); // what operators declare
  const canCompare = route.range.window !== "all";
  const compare = button("Compare", route.compare && canCompare, "compare", { ...route, compare: !route.compare });
  compare.title = canCompare ? "With the period of equal length before" : "Before all time there is nothing";
  compare.disabled = !canCompare;
  return h("div", { class: "split-bar" }, h("span", { class: "note", "aria-hidden": "true" }, "By"), buttons, compare);
}

function button(text, pressed, focus, target) {
  return h("button", {
    type: "button", "aria-pressed": String(pressed), "data-focus": focus,
    onclick: () => {
      location.hash = href(target);
    },
  }, text);
}
