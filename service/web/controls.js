// What all views have at their head: the range of time, what the charts are split by, the period before.

import { h } from "./dom.js";
import { CALENDAR, RANGES, between } from "./ranges.js";
import { href } from "./route.js";

export function controls(route, zone) {
  const go = (changes) => {
    location.hash = href({ ...route, cursor: null, ...changes });
  };
  return h("div", { class: "controls" }, ranges(route, go), h("p", { class: "note zone" }, `Times in ${zone}`));
}

function ranges(route, go) {
  const isCustom = route.range.window === null;
  const fixed = RANGES.map((range) => h("button", {
    type: "button", title: range.name, "aria-label": `${range.label}: ${range.name}`, "data-focus": `range-${range.label}`,
    "aria-pressed": String(range.window === route.range.window),
    onclick: () => go({ range }),
  }, range.label));
  const summary = h("summary", { "data-focus": "range-custom", "data-active": String(isCustom) }, isCustom ? route.range.name : "Custom");
  const custom = h("details", { class: "custom" }, summary, calendar(route, go));
  custom.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !custom.open) return;
    custom.open = false;
    summary.focus();
  });
  return h("div", { class: "ranges", role: "group", "aria-label": "Time range" }, fixed, custom);
}

function calendar(route, go) {
  const from = moment("From", route.range.start);
  const to = moment("To", route.range.end);
  const wrong = h("p", { class: "note", role: "alert" });
  return h("form", {
    class: "calendar",
    onsubmit: (event) => {
      event.preventDefault();
      const range = between(from.input.value, to.input.value);
      if (range) go({ range });
      else wrong.textContent = "The range must begin before it ends.";
    },
  },
  h("div", { class: "row" }, CALENDAR.map(({ name, of }) => h("button", { type: "button", onclick: () => go({ range: of() }) }, name))),
  from.element, to.element, wrong, h("button", { type: "submit" }, "Show"));
}

function moment(label, value) {
  const local = value ? new Date(new Date(value) - new Date(value).getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : null;
  const input = h("input", { type: "datetime-local", required: true, value: local });
  return { input, element: h("label", {}, `${label} `, input) };
}
