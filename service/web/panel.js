// The frame around a part of a view: waiting, shown, not available, or kept from before.

import { h } from "./dom.js";
import { moment, NONE } from "./format.js";

/** A section with a heading, and a note beside it; its content, {element, update(data)}, comes from one resource. */
export function panel(title, resource, content, note = null) {
  const message = h("p", { class: "panel-message" }, "Loading");
  const element = h("section", { class: "panel", "data-state": "loading" },
    h("div", { class: "panel-head" }, h("h2", {}, title), note),
    message, content.element);
  content.element.hidden = true;
  return part(element, resource, {
    update(data, metadata) {
      content.update(data, metadata);
      content.element.hidden = false;
      message.hidden = true;
      element.dataset.state = "ready";
    },
    fail(text) {
      message.textContent = text;
      element.dataset.state = "unavailable";
    },
  });
}

/** A figure of charts.js over one resource, that looks at others too. */
export function figure(chart, resource, others = []) {
  return { ...part(chart.element, resource, { update: chart.update, fail: chart.fail }, others), destroy: chart.destroy };
}

/** What is drawn again when, and only when, its resource, or one of the others that it looks at, has other numbers. */
export function part(element, resource, { update, fail }, others = []) {
  const kept = h("p", { class: "kept", hidden: true });
  if (element) element.append(kept);
  let shown = "";
  return {
    element,
    render() {
      const { data, error, metadata } = resource;
      const version = [resource, ...others].map((one) => one.version).join();
      if (data !== null && version !== shown) {
        shown = version;
        update(data, metadata);
      }
      // Why there is no answer, the banner says once for all parts.
      const reason = error && !error.silent ? ` ${error.message}` : "";
      if (error && data === null) fail(`Not available.${reason}`);
      kept.hidden = !(error && data !== null);
      if (!kept.hidden) kept.textContent = `Not renewed since ${moment(resource.receivedAt)}.${reason}`;
    },
  };
}

/** The row of key figures; `set(label, value, {note, title})` fills one of them, `note(label, text)` its note. */
export function cards(names) {
  const parts = new Map(names.map((label) => [label, { value: h("dd", { class: "value" }, NONE), note: h("dd", { class: "note" }), change: h("dd", { class: "change", hidden: true }) }]));
  const element = h("dl", { class: "cards" }, [...parts].map(([label, { value, note, change }]) =>
    h("div", { class: "card" }, h("dt", {}, label), value, note, change)));
  return {
    element,
    note(label, text) {
      parts.get(label).note.textContent = text;
    },
    /** How much it changed since the period before, in words. */
    change(label, text) {
      const found = parts.get(label)?.change;
      if (!found) return;
      found.textContent = text;
      found.hidden = false;
    },
    set(label, shown, { note = null, title = null } = {}) {
      const found = parts.get(label);
      found.value.textContent = shown;
      if (note !== null) found.note.textContent = note;
      if (title) found.value.title = title;
      else found.value.removeAttribute("title");
    },
  };
}

/** Whether these numbers can say what the field is: a fallback method that only counts says 0, which is not it. */
export function knows(metadata, field) {
  return !(metadata?.unavailable ?? []).some((unknown) => unknown === field || unknown.endsWith(`.${field}`));
}
