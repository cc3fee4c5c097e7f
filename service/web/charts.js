// Charts by uPlot; each has the same data as a table beneath. One cursor runs through all charts over time; a drag over
// one of them chooses a range; a click says what is behind a bar; the legend switches series.

import { h } from "./dom.js";
import { legend } from "./legend.js";
import { options, rows } from "./plot_options.js";

let library = null;

/** Load uPlot once; as a module, since a script element's address is guarded by trusted types. */
function load() {
  library ??= import(new URL(document.documentElement.dataset.chartLibrary, document.baseURI).href)
    .then((module) => module.default)
    .catch((error) => {
      library = null; // tried again with the next numbers
      throw error;
    });
  return library;
}

const drawn = new Set();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of drawn) chart.redraw();
});

/**
 * One figure. `spec(data, metadata)` returns what to draw of the data:
 *   {type: bar, line or scatter, label: the text alternative, note: of what is not drawn, or null,
 *    series: [{label, colour, values: [number or null], ghost}], stacked, xs: [number, ascending],
 *    partial: of points that cover only a part of their interval, by index,
 *    x: {min, max, title, ticks(pixels): a Map of values to texts}, y: {log, format(value)}, show(value): text,
 *    at(index): what the cursor is at, links(index): [{text, href}] of what is behind it,
 *    zoom(from, to): of a drag over the axis of x, or none,
 *    table: {columns: [text], rows: () => [[text or node]]}}
 * or null when there is nothing to draw.
 */
export function chart({ title, note = null, spec, empty = "No requests in this range." }) {
  const image = h("div", { class: "plot", role: "img", "aria-label": title });
  const message = h("p", { class: "chart-message" }, "Loading");
  const frame = h("div", { class: "chart-frame" }, image, message);
  const readout = h("p", { class: "readout" });
  const cells = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `${title}, as a table` });
  const details = h("details", { class: "chart-data", ontoggle: () => tabulate() }, h("summary", {}, "Show as a table"), h("div", { class: "chart-table" }, cells));
  const hidden = new Set();
  const key = legend((label) => {
    if (!hidden.delete(label)) hidden.add(label);
    redraw();
  });
  const remark = h("p", { class: "note", hidden: !note }, note);
  const element = h("figure", { class: "panel chart", "data-state": "loading" },
    h("figcaption", {}, h("h2", {}, title), remark, key.element), frame, readout, details);
  const self = { element, update, fail, redraw, destroy };
  const observer = new ResizeObserver(() => instance && current && instance.setSize(size()));
  let instance = null;
  let current = null;
  let pinned = false; // by a click: until the next one, so that the links can be reached

  const size = () => ({ width: frame.clientWidth, height: frame.clientHeight });

  function say(state, text = "") {
    element.dataset.state = state;
    message.textContent = text;
    image.hidden = state !== "ready";
    readout.hidden = state !== "ready";
    details.hidden = state !== "ready";
  }

  async function update(data, metadata) {
    current = spec(data, metadata);
    key.show(current, hidden);
    remark.textContent = [note, current?.note].filter(Boolean).join(". ");
    remark.hidden = !remark.textContent;
    if (current === null) return say("empty", empty);
    image.setAttribute("aria-label", `${title}: ${current.label}`);
    tabulate();
    try {
      await load();
    } catch {
      say("failed", "The charts could not be loaded.");
      details.hidden = false;
      return undefined;
    }
    if (current !== null && element.isConnected) await draw();
    return undefined;
  }

  async function draw() {
    const uPlot = await load();
    say("ready");
    const shown = current.series.filter(({ label }) => !hidden.has(label));
    instance?.destroy();
    instance = new uPlot({ ...size(), ...options(uPlot, current, shown, { point, pin }) }, rows(current, shown), image);
    instance.root.plot = instance;
    pinned = false;
    point(null);
    observer.observe(frame);
    drawn.add(self);
  }

  /** Say what the cursor is at: in the legend the values, beneath the chart the moment. */
  function point(index) {
    key.values(current, index);
    if (pinned) return;
    const text = index === null ? "" : current.at(index);
    if (readout.textContent !== text) readout.replaceChildren(text);
  }

  /** Keep it there, with links to what is behind it. */
  function pin(index) {
    const links = current.links?.(index) ?? [];
    pinned = links.length > 0;
    readout.replaceChildren(current.at(index), ...links.flatMap(({ text, href }) => [" ", h("a", { href }, text)]));
  }

  function tabulate() {
    if (!details.open || current === null) return;
    cells.replaceChildren(
      h("table", {}, h("caption", { class: "hidden" }, title),
        h("thead", {}, h("tr", {}, current.table.columns.map((label, index) =>
          h("th", { scope: "col", class: index ? "numeric" : null }, label)))),
        h("tbody", {}, current.table.rows().map(([first, ...others]) =>
          h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "numeric" }, cell)))))));
  }

  function fail(text) {
    if (current === null) say("unavailable", text);
  }

  function redraw() {
    if (!instance || !current) return;
    key.show(current, hidden);
    draw();
  }

  function destroy() {
    observer.disconnect();
    drawn.delete(self);
    instance?.destroy();
    instance = null;
  }

  return self;
}
