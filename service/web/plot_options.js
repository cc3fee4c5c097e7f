// What a chart is for uPlot: its scales, axes, series and cursor.

// Charts beside each other have their ticks at the same places, whatever their values: so the axes of values are
// equally wide, and what is left for the axis of time is so too.
const VALUES_PIXELS = 58;
const END_PIXELS = 16; // for half of the last text
const AXIS_PIXELS = 26;
const TITLE_PIXELS = 18;
const LABEL_PIXELS = 56;
const SHORTEST_DRAG = 8;
const SYNC = "time";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The columns of uPlot: of a stack, each series on top of those before it; the last is drawn first. */
export function rows(chart, shown) {
  if (!chart.stacked) return [chart.xs, ...shown.map(({ values }) => values)];
  const sums = chart.xs.map(() => 0);
  const stack = shown.filter(({ ghost }) => !ghost).map(({ values }) =>
    values.map((value, index) => (sums[index] += value ?? 0)));
  return [chart.xs, ...stack.reverse(), ...shown.filter(({ ghost }) => ghost).map(({ values }) => values)];
}

/** The series in the order of the columns. */
const ordered = (chart, shown) => (chart.stacked
  ? [...shown.filter(({ ghost }) => !ghost).reverse(), ...shown.filter(({ ghost }) => ghost)]
  : shown);

export function options(uPlot, chart, shown, { point, pin }) {
  const overTime = chart.type !== "scatter";
  return {
    ms: 1,
    padding: [8, END_PIXELS, 0, 0],
    legend: { show: false },
    scales: { x: { time: false, distr: chart.x.log ? 3 : 1, range: () => [chart.x.min, chart.x.max] }, y: values(chart) },
    axes: [horizontal(chart), vertical(chart)],
    series: [{}, ...ordered(chart, shown).map((one) => series(uPlot, chart, one))],
    cursor: {
      y: false,
      points: { show: chart.type === "line", size: 7 },
      drag: { x: Boolean(chart.zoom), y: false, setScale: false, dist: SHORTEST_DRAG },
      ...(overTime ? { sync: { key: SYNC, setSeries: false } } : {}),
      bind: { dblclick: () => null },
    },
    hooks: {
      setCursor: [({ cursor: { idx, left } }) => point(idx === null || idx === undefined || left < 0 ? null : idx)],
      setSelect: [(plot) => {
        const { left, width } = plot.select;
        if (width >= SHORTEST_DRAG) chart.zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
      }],
      ready: [(plot) => plot.over.addEventListener("click", () => {
        if (plot.select.width < SHORTEST_DRAG && typeof plot.cursor.idx === "number") pin(plot.cursor.idx);
      })],
    },
  };
}

function series(uPlot, chart, { label, colour: name, ghost }) {
  const ink = colour(ghost ? "control" : name);
  const points = { show: chart.xs.length <= 45, size: 4, fill: ink, stroke: ink };
  if (ghost) return { label, stroke: ink, width: 1.5, dash: [4, 4], points: { show: false } };
  if (chart.type === "scatter") return { label, paths: () => null, points: { show: true, size: 5, width: 0, fill: `${ink}66`, stroke: ink } };
  if (chart.type === "line") return { label, stroke: ink, width: 1.75, points, paths: uPlot.paths.spline(), spanGaps: false };
  const paler = `color-mix(in srgb, ${ink} 45%, ${colour("surface")})`;
  const fills = () => chart.xs.map((_, index) => (chart.partial?.has(index) ? paler : ink));
  const bars = uPlot.paths.bars({ size: [0.88, 36], align: 0, disp: { fill: { unit: 3, values: fills }, stroke: { unit: 3, values: fills } } });
  return { label, fill: ink, stroke: ink, width: 0, paths: bars, points: { show: false } };
}

function values({ type, y, series: all }) {
  if (y.log) return { distr: 3, range: (_plot, low, high) => around(low, high) };
  const least = type === "bar" ? 1e-9 : 0;
  return { range: (_plot, _low, high) => [0, Math.max(high ?? 0, least, all.length ? 0 : 1) * 1.06 || 1] };
}

/** The next of 1, 2 and 5 times a power of ten below and above. */
function around(low, high) {
  if (!(low > 0) || !(high > 0)) return [1, 10];
  const steps = grid(low / 10, high * 10);
  return [steps.findLast((value) => value <= low), steps.find((value) => value >= high && value > low)];
}

function grid(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of [1, 2, 5]) found.push(Number((step * 10 ** power).toPrecision(6)));
  }
  return found;
}

/** Of a logarithmic axis the powers of ten, and where there is room, two and five times them. */
function decades(low, high, room) {
  const all = grid(low, high).filter((value) => value >= low * 0.999 && value <= high * 1.001);
  const powers = all.filter((value) => Number.isInteger(Number(Math.log10(value).toFixed(6))));
  const step = Math.max(1, Math.ceil(powers.length / room));
  return all.length <= room || powers.length < 2 ? all.slice(0, Math.max(2, room)) : powers.filter((_, index) => index % step === 0);
}

const common = () => ({
  stroke: colour("muted"), font: `11px ${getComputedStyle(document.body).fontFamily}`, ticks: { show: false }, gap: 6,
  grid: { stroke: colour("grid"), width: 1 }, border: { show: false },
});

function horizontal({ type, x }) {
  let texts = new Map();
  const grid_ = type === "scatter" ? {} : { grid: { show: false } };
  return {
    ...common(), ...grid_, size: AXIS_PIXELS,
    ...(x.title ? { label: x.title, labelSize: TITLE_PIXELS, labelFont: common().font } : {}),
    splits(plot) {
      const pixels = plot.width - VALUES_PIXELS - END_PIXELS;
      if (x.ticks) texts = x.ticks(pixels + END_PIXELS);
      else texts = new Map(decades(x.min, x.max, Math.floor(pixels / LABEL_PIXELS)).map((value) => [value, x.format(value)]));
      return [...texts.keys()];
    },
    filter: (_plot, splits) => splits,
    values: (_plot, splits) => splits.map((value) => texts.get(value) ?? ""),
  };
}

function vertical({ y }) {
  return {
    ...common(), size: VALUES_PIXELS, space: 34,
    ...(y.log ? { splits: (_plot, _axis, low, high) => decades(low, high, 8), filter: (_plot, splits) => splits } : {}),
    ...(y.whole ? { incrs: [1, 2, 5].flatMap((step) => Array.from({ length: 16 }, (_, power) => step * 10 ** power)).sort((one, other) => one - other) } : {}),
    values: (_plot, splits) => splits.map((value) => y.format(value)),
  };
}
