// Charts by Chart.js, which arrives after the numbers and tables; each has the same data as a table beneath.

import { h } from "./dom.js";

let library = null;

/** Load Chart.js once; as a module, since a script element's address is guarded by trusted types. */
function load() {
  library ??= leisure()
    .then(() => import(new URL(document.documentElement.dataset.chartLibrary, document.baseURI).href))
    .then(() => globalThis.Chart)
    .catch((error) => {
      library = null; // tried again with the next numbers
      throw error;
    });
  return library;
}

/** Wait until the figures and tables, which matter more and take less, are drawn. */
function leisure() {
  return new Promise((done) => {
    if (globalThis.requestIdleCallback) requestIdleCallback(done, { timeout: 500 });
    else setTimeout(done, 50);
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
dark.addEventListener("change", () => {
  for (const chart of drawn) chart.redraw();
});

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * One figure. `spec(data, metadata)` returns what to draw of the data:
 *   {type, label: the text alternative, note: of what is not drawn, or null,
 *    series: [{label, colour, points: [{x, y}], ...}], stacked,
 *    partial: of points that cover only a part of their interval, by index,
 *    x: {kind, min, max, title, format, ticks(pixels): of a time axis, a Map of times to texts}, y: {...},
 *    tooltip(item): text, head(items): text,
 *    table: {columns: [text], rows: () => [[text]]}}
 * or null when there is nothing to draw.
 */
export function chart({ title, note = null, spec, empty = "No requests in this range." }) {
  const canvas = h("canvas", { role: "img", "aria-label": title });
  const message = h("p", { class: "chart-message" }, "Loading");
  const frame = h("div", { class: "chart-frame" }, canvas, message);
  const rows = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `${title}, as a table` });
  const details = h("details", { class: "chart-data", ontoggle: () => tabulate() }, h("summary", {}, "Show as a table"), h("div", { class: "chart-table" }, rows));
  const legend = h("ul", { class: "legend" });
  const remark = h("p", { class: "note", hidden: !note }, note);
  const element = h("figure", { class: "panel chart", "data-state": "loading" },
    h("figcaption", {}, h("h2", {}, title), remark, legend), frame, details);
  const self = { element, update, fail, redraw, destroy };
  let instance = null;
  let current = null;

  function say(state, text = "") {
    element.dataset.state = state;
    message.textContent = text;
    canvas.hidden = state !== "ready";
    details.hidden = state !== "ready";
  }

  async function update(data, metadata) {
    current = spec(data, metadata);
    legend.replaceChildren(...entries(current));
    remark.textContent = current?.note ?? note ?? "";
    remark.hidden = !remark.textContent;
    if (current === null) return say("empty", empty);
    canvas.setAttribute("aria-label", `${title}: ${current.label}`);
    tabulate();
    try {
      await load();
    } catch {
      say("failed", "The charts could not be loaded.");
      details.hidden = false;
      return undefined;
    }
    if (current !== null) draw();
    return undefined;
  }

  function draw() {
    say("ready");
    const options = configuration(current);
    if (instance && instance.config.type === current.type) {
      instance.options = options;
      instance.data.datasets = datasets(current);
      instance.update("none");
    } else {
      instance?.destroy();
      instance = new globalThis.Chart(canvas, { type: current.type, data: { datasets: datasets(current) }, options });
    }
    drawn.add(self);
  }

  function tabulate() {
    if (!details.open || current === null) return;
    rows.replaceChildren(
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
    if (instance && current) draw();
  }

  function destroy() {
    drawn.delete(self);
    instance?.destroy();
    instance = null;
  }

  return self;
}

/** The legend; a single series needs no entry, the title says what it is. */
function entries(current) {
  if (current === null) return [];
  const marks = current.series.length === 1 ? [] : current.series.map(({ label, colour: ink }) => [ink, label]);
  if (current.partial?.size) marks.push(["partial", "Partial interval"]);
  return marks.map(([ink, label]) => h("li", {}, h("span", { class: `swatch swatch-${ink}`, "aria-hidden": "true" }), label));
}

function datasets({ type, series, stacked, partial = new Map() }) {
  return series.map((one) => {
    const ink = colour(one.colour);
    const common = { label: one.label, data: one.points, backgroundColor: ink, borderColor: ink, parsing: false, normalized: type !== "scatter" };
    if (type === "bar") {
      const paler = ({ dataIndex }) => (partial.has(dataIndex) ? `${ink}73` : ink);
      return { ...common, backgroundColor: paler, borderColor: paler, stack: stacked ? "all" : undefined, borderRadius: 1, barPercentage: 0.92, categoryPercentage: 0.92, maxBarThickness: 36, minBarLength: 0 };
    }
    if (type === "scatter") return { ...common, backgroundColor: `${ink}66`, borderWidth: 0, radius: 2.5, hoverRadius: 5 };
    const dashed = ({ p0DataIndex, p1DataIndex }) => (partial.has(p0DataIndex) || partial.has(p1DataIndex) ? [3, 3] : undefined);
    return { ...common, segment: { borderDash: dashed }, clip: 8, borderWidth: 1.75, pointRadius: one.points.length > 45 ? 0 : 2, pointHoverRadius: 4, tension: 0.25, cubicInterpolationMode: "monotone", spanGaps: false };
  });
}

function configuration({ type, stacked, x, y, tooltip, head }) {
  const faint = colour("muted");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 11 };
  const axis = ({ kind = "linear", title = null, format = null, ticks = null, grid, ...rest }) => ({
    type: kind,
    ...(kind === "time" ? { offset: false, afterFit: pad, ...given(ticks) } : {}),
    ...(kind === "logarithmic" ? { afterBuildTicks: decades } : {}),
    title: { display: Boolean(title), text: title ?? "", color: faint, font },
    grid: { display: grid, color: colour("grid"), drawTicks: false, offset: false },
    border: { display: false },
    ticks: { color: faint, font, padding: 6, maxRotation: 0, autoSkip: kind === "linear", autoSkipPadding: 18, ...(format ? { callback: format } : {}) },
    ...rest,
  });
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    interaction: type === "scatter" ? { mode: "nearest", intersect: true } : { mode: "index", intersect: false },
    scales: {
      x: axis({ ...x, grid: type === "scatter", stacked }),
      y: axis({ ...y, grid: true, afterFit: widen, stacked, ...(y.kind === "logarithmic" ? {} : { beginAtZero: true, grace: "4%" }) }),
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: colour("tooltip"), titleColor: colour("tooltip-text"), bodyColor: colour("tooltip-text"),
        padding: 10, cornerRadius: 6, boxPadding: 4, usePointStyle: true, titleFont: { ...font, weight: "600" }, bodyFont: font,
        itemSort: (one, other) => one.datasetIndex - other.datasetIndex,
        callbacks: { title: head, label: tooltip },
      },
    },
  };
}

// Charts beside each other have their ticks at the same places, whatever their values: so the axes of values are
// equally wide, and what is left for the axis of time is so too.
const VALUES_PIXELS = 58;
const END_PIXELS = 16; // for half of the last text
const LABEL_PIXELS = 56;

function widen(scale) {
  scale.width = Math.max(scale.width, VALUES_PIXELS);
}

function pad(scale) {
  Object.assign(scale, { paddingLeft: 0, paddingRight: END_PIXELS });
}

/** Hooks that give a time axis the ticks of `ticks(pixels)`, and their texts. */
function given(ticks) {
  let texts = new Map();
  return {
    afterBuildTicks(scale) {
      texts = ticks(scale.chart.width - VALUES_PIXELS);
      scale.ticks = [...texts.keys()].map((value) => ({ value }));
    },
    afterTickToLabelConversion(scale) {
      for (const tick of scale.ticks) tick.label = texts.get(tick.value);
    },
  };
}

/** Leave a logarithmic axis the powers of ten, and where there is room, two and five times them. */
function decades(scale) {
  const leading = (value) => Number((value / 10 ** Math.floor(Math.log10(value) + 1e-9)).toPrecision(6));
  const only = (shown) => scale.ticks.filter(({ value }) => shown.includes(leading(value)));
  const room = scale.axis === "x" ? (scale.chart.width - VALUES_PIXELS) / LABEL_PIXELS : Infinity;
  const fine = scale.max / scale.min < 1e3 ? only([1, 2, 5]) : [];
  const powers = only([1]);
  const step = Math.max(1, Math.ceil(powers.length / room));
  scale.ticks = fine.length > 0 && fine.length <= room ? fine : powers.filter((_, index) => index % step === 0);
}
