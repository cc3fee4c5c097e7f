// What the charts show: how the API's series and samples become points, words and table rows.

import { chart } from "./charts.js";
import * as format from "./format.js";
import { ticks, timeline } from "./timeaxis.js";

/** Points of the series over time; `of` returns null where a bucket has nothing to say. */
function overTime({ title, type, stacked = false, lines: all, linesOf = () => all, y, show, mark = show, cell = show, text }) {
  return ({ window, bucket }) => chart({
    title,
    spec(answer, metadata) {
      const { points, since, partial } = timeline(answer, metadata, { window, bucket });
      const lines = linesOf(points);
      const counted = points.filter((point) => point.total_requests > 0);
      if (counted.length === 0) return null;
      const times = points.map((point) => Date.parse(point.bucket_start));
      const [from, to] = [times[0], times.at(-1)];
      const margin = (to - from) / Math.max(1, points.length - 1) / 2 || 43_200_000;
      const named = points.map((point, index) => {
        const words = format.bucket(point.bucket_start, bucket);
        return partial.has(index) ? `${words} (partial: ${partial.get(index)})` : words;
      });
      return {
        type, stacked, partial,
        note: since && `No requests before ${format.day(since)}`,
        label: text(counted, (point) => named[points.indexOf(point)]),
        series: lines.map((line) => ({ ...line, points: points.map((point, index) => ({ x: times[index], y: line.of(point) })) })),
        x: { kind: "time", min: from - margin, max: to + margin, ticks: (pixels) => ticks(times, bucket, pixels) },
        y: { ...(typeof y === "function" ? y(points) : y), format: (value) => mark(value) },
        head: (items) => (items.length ? named[items[0].dataIndex] : ""),
        tooltip: (item) => ` ${item.dataset.label}: ${show(item.parsed.y)}`,
        table: {
          columns: ["From", ...lines.map((line) => line.label)],
          rows: () => points.map((point, index) => [named[index], ...lines.map((line) => cell(line.of(point)))]).reverse(),
        },
      };
    },
  });
}

const total = (points, of) => points.reduce((sum, point) => sum + Number(of(point) ?? 0), 0);
const peak = (points, of) => points.reduce((most, point) => (of(point) > of(most) ? point : most));

export const requests = overTime({
  title: "Requests",
  type: "bar",
  stacked: true,
  lines: [
    { label: "Successful", colour: "blue", of: (point) => point.total_requests - point.failed_requests },
    { label: "Failed", colour: "red", of: (point) => point.failed_requests },
  ],
  y: { precision: 0 },
  show: format.count,
  cell: format.exact,
  text(points, when) {
    const top = peak(points, (point) => point.total_requests);
    return `${format.exact(total(points, (point) => point.total_requests))} in all, `
      + `${format.exact(total(points, (point) => point.failed_requests))} of them failed; most on ${when(top)}: ${format.exact(top.total_requests)}.`;
  },
});

export const tokens = overTime({
  title: "Tokens",
  type: "bar",
  stacked: true,
  lines: [
    { label: "Input", colour: "teal", of: (point) => point.total_input_tokens },
    { label: "Output", colour: "amber", of: (point) => point.total_output_tokens },
  ],
  y: { precision: 0 },
  show: format.count,
  cell: format.exact,
  text(points, when) {
    const top = peak(points, (point) => point.total_tokens);
    return `${format.count(total(points, (point) => point.total_input_tokens))} input and `
      + `${format.count(total(points, (point) => point.total_output_tokens))} output; most on ${when(top)}: ${format.count(top.total_tokens)}.`;
  },
});

// Nothing was measured in an empty bucket: its line has a gap there, not a zero.
const timed = (field) => (point) => (point.total_requests > 0 ? point[field] ?? null : null);

const AVERAGE = [{ label: "Average", colour: "blue", of: timed("avg_processing_time_ms") }];
const PERCENTILES = [
  { label: "p50", colour: "blue", of: timed("p50_processing_time_ms") },
  { label: "p90", colour: "teal", of: timed("p90_processing_time_ms") },
  { label: "p95", colour: "amber", of: timed("p95_processing_time_ms") },
  { label: "p99", colour: "violet", of: timed("p99_processing_time_ms") },
];
const hasPercentiles = (points) => points.some((point) => point.p50_processing_time_ms > 0);

export const latency = overTime({
  title: "Latency",
  type: "line",
  linesOf: (points) => (hasPercentiles(points) ? PERCENTILES : AVERAGE),
  // Tails are long: on a linear axis one slow hour would flatten all that is usual.
  y: (points) => (hasPercentiles(points) ? { kind: "logarithmic" } : {}),
  show: format.duration,
  mark: format.tick,
  text(points, when) {
    const last = points.at(-1);
    if (!hasPercentiles(points)) return `on ${when(last)} a request took ${format.duration(last.avg_processing_time_ms)} on average.`;
    const top = peak(points, (point) => point.p99_processing_time_ms ?? 0);
    return `on ${when(last)} half of the requests took at most ${format.duration(last.p50_processing_time_ms)}, `
      + `95% at most ${format.duration(last.p95_processing_time_ms)}; highest p99 on ${when(top)}: ${format.duration(top.p99_processing_time_ms)}.`;
  },
});

export const cost = overTime({
  title: "Cost",
  type: "bar",
  lines: [{ label: "US dollars", colour: "violet", of: (point) => Number(point.total_cost_usd) }],
  y: {},
  show: format.dollars,
  mark: format.dollarTick,
  text(points, when) {
    const top = peak(points, (point) => Number(point.total_cost_usd));
    return `${format.dollars(total(points, (point) => point.total_cost_usd))} in all; most on ${when(top)}: ${format.dollars(top.total_cost_usd)}.`;
  },
});

/** Latency against tokens, of a sample of single requests; both axes logarithmic, as both spread over decades. */
export function scatter() {
  return chart({
    title: "Latency against tokens",
    note: "A sample of single requests, on logarithmic axes",
    empty: "No requests with tokens and a time in this range.",
    spec({ plot_data: plot }) {
      const points = [];
      for (let index = 0; index < plot.tokens.length; index += 1) {
        const [x, y] = [Number(plot.tokens[index]), Number(plot.latency[index])];
        if (x > 0 && y > 0) points.push({ x, y, at: plot.timestamps[index] });
      }
      if (points.length === 0) return null;
      points.sort((one, other) => one.x - other.x); // Chart.js takes points that it need not parse for sorted
      const decades = byDecade(points);
      return {
        type: "scatter",
        label: `${format.exact(points.length)} requests. ${decades.map(([range, , median]) => `${range} tokens: half took at most ${median}`).join("; ")}.`,
        series: [{ label: "A request", colour: "blue", points }],
        x: { kind: "logarithmic", title: "Tokens", format: (value) => format.count(value) },
        y: { kind: "logarithmic", format: (value) => format.tick(value) },
        head: () => "",
        tooltip: (item) => ` ${format.exact(item.raw.x)} tokens, ${format.duration(item.raw.y)} (${format.moment(item.raw.at)})`,
        table: { columns: ["Tokens", "Requests shown", "Median latency"], rows: () => decades },
      };
    },
  });
}

function byDecade(points) {
  const groups = new Map();
  for (const { x, y } of points) {
    const power = Math.floor(Math.log10(x));
    groups.get(power)?.push(y) ?? groups.set(power, [y]);
  }
  return [...groups].sort(([one], [other]) => one - other).map(([power, latencies]) => [
    `${format.count(10 ** power)} to ${format.count(10 ** (power + 1))}`,
    format.exact(latencies.length),
    format.duration(latencies.sort((one, other) => one - other)[Math.floor((latencies.length - 1) / 2)]),
  ]);
}
