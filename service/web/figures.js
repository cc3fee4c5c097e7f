// What the charts over time show: how the API's series become points, words and table rows.

import { chart } from "./charts.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { between } from "./ranges.js";
import { FAILED, href, requestsHref } from "./route.js";
import { endOf, ticks, timeline } from "./timeaxis.js";

const GROUP_COLOURS = ["blue", "teal", "amber", "violet", "green"];

/**
 * A chart over time. `lines`, or `linesOf(points)`, are what it shows of all requests; `of` returns null where a bucket
 * has nothing to say. Split by a dimension it shows `measure` of each group and, if they add up, of all others.
 * `context` is of analysis.js: {route, groups(), before()}.
 */
function overTime({ title, type, measure, adds = true, lines: all, linesOf = () => all, note = null, y, show, mark = show, cell = show, text, behind = null }) {
  return (context) => chart({
    title,
    note,
    spec(answer, metadata) {
      const { route } = context;
      const { bucket } = route.range;
      const { points, since, partial } = timeline(answer, metadata, route.range);
      const counted = points.filter((point) => point.total_requests > 0);
      if (counted.length === 0) return null;
      const times = points.map((point) => Date.parse(point.bucket_start));
      const [from, to] = [times[0], times.at(-1)];
      const margin = (to - from) / Math.max(1, points.length - 1) / 2 || (endOf(from, bucket) - from) / 2;
      const named = points.map((point, index) => {
        const words = format.bucket(point.bucket_start, bucket);
        return partial.has(index) ? `${words} (partial: ${partial.get(index)})` : words;
      });
      const groups = context.groups();
      const own = groups ? byGroup(groups, points, times, measure, adds) : linesOf(points).map((line) => ({ ...line, values: points.map(line.of) }));
      const series = [...own, ...ghost(context.before(), times, measure)];
      const axis = typeof y === "function" && !groups ? y(points) : typeof y === "function" ? { log: true } : y;
      const range = (first, last = first) => between(Math.max(times[first], Date.parse(route.range.start) || 0), endOf(times[last], bucket));
      const nearest = (value) => times.findLastIndex((time) => time <= value);
      return {
        type, partial, series, show,
        stacked: type === "bar",
        note: [groups && !adds && "p50 of each group", since && `No requests before ${format.day(since)}`].filter(Boolean).join(". "),
        label: text(counted, (point) => named[points.indexOf(point)]),
        xs: times,
        x: { min: from - margin, max: to + margin, ticks: (pixels) => ticks(times, bucket, pixels) },
        y: { ...axis, format: mark },
        at: (index) => named[index],
        links: (index) => behindBar(route, points[index], range(index)),
        zoom(start, end) {
          const chosen = range(Math.max(0, nearest(start)), Math.max(0, nearest(end)));
          if (chosen) location.hash = href({ ...route, range: chosen, cursor: null });
        },
        table: {
          columns: ["From", ...series.map((line) => line.label)],
          rows: () => points.map((point, index) => [named[index], ...series.map(({ values, filters }) => {
            const shown = cell(values[index]);
            return behind && !groups && filters && values[index] ? h("a", { href: requestsHref(route, filters, range(index)) }, shown) : shown;
          })]).reverse(),
        },
      };
    },
  });
}

/** The requests of a bar, and those of them that failed. */
function behindBar(route, { total_requests: all, failed_requests: failed }, range) {
  return [
    all && { text: `${format.exact(all)} requests`, href: requestsHref(route, [], range) },
    failed && { text: `${format.exact(failed)} failed`, href: requestsHref(route, [FAILED], range) },
  ].filter(Boolean);
}

function byGroup(groups, points, times, measure, adds) {
  const shown = groups.map(({ label, at }, index) => ({
    label, colour: GROUP_COLOURS[index % GROUP_COLOURS.length],
    values: times.map((time) => {
      const point = at.get(time);
      if (adds) return Number(point?.[measure] ?? 0);
      return point?.total_requests > 0 ? point[measure] : null;
    }),
  }));
  if (!adds) return shown;
  const others = points.map((point, index) =>
    Math.max(0, Number(point[measure] ?? 0) - shown.reduce((sum, { values }) => sum + values[index], 0)));
  const largest = Math.max(...points.map((point) => Number(point[measure] ?? 0)));
  return others.some((value) => value > largest * 1e-6) ? [...shown, { label: "Others", colour: "others", values: others }] : shown;
}

/** The same measure of the period before, interval by interval. */
function ghost(before, times, measure) {
  if (before === null) return [];
  return [{ label: "Period before", colour: "ghost", ghost: true, values: times.map((time) => {
    const point = before.get(time);
    if (!point) return null;
    return measure.endsWith("_ms") && !point.total_requests ? null : Number(point[measure]);
  }) }];
}

const total = (points, of) => points.reduce((sum, point) => sum + Number(of(point) ?? 0), 0);
const peak = (points, of) => points.reduce((most, point) => (of(point) > of(most) ? point : most));

export const requests = overTime({
  title: "Requests",
  type: "bar",
  measure: "total_requests",
  lines: [
    { label: "Successful", colour: "blue", filters: [["error_kind", "__null__"]], of: (point) => point.total_requests - point.failed_requests },
    { label: "Failed", colour: "red", filters: [FAILED], of: (point) => point.failed_requests },
  ],
  behind: true,
  y: { whole: true },
  show: format.count,
  cell: format.exact,
  text(points, when) {
    const top = peak(points, (point) => point.total_requests);
    return `${format.exact(total(points, (point) => point.total_requests))} in all, `
      + `${format.exact(total(points, (point) => point.failed_requests))} of them failed; most on ${when(top)}: ${format.exact(top.total_requests)}.`;
  },
});

/** Shown when the charts are split: the groups' failures. */
export const failed = overTime({
  title: "Failed requests",
  type: "bar",
  measure: "failed_requests",
  lines: [{ label: "Failed", colour: "red", of: (point) => point.failed_requests }],
  y: { whole: true },
  show: format.count,
  cell: format.exact,
  text: (points) => `${format.exact(total(points, (point) => point.failed_requests))} in all.`,
});

export const tokens = overTime({
  title: "Tokens",
  type: "bar",
  measure: "total_tokens",
  lines: [
    { label: "Input", colour: "teal", of: (point) => point.total_input_tokens },
    { label: "Output", colour: "amber", of: (point) => point.total_output_tokens },
  ],
  y: { whole: true },
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
  measure: "p50_processing_time_ms",
  adds: false,
  note: "Percentiles within 2.5%",
  linesOf: (points) => (hasPercentiles(points) ? PERCENTILES : AVERAGE),
  // Tails are long: on a linear axis one slow hour would flatten all that is usual.
  y: (points) => (hasPercentiles(points) ? { log: true } : {}),
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
  measure: "total_cost_usd",
  lines: [{ label: "US dollars", colour: "violet", of: (point) => Number(point.total_cost_usd) }],
  y: {},
  show: format.dollars,
  mark: format.dollarTick,
  text(points, when) {
    const top = peak(points, (point) => Number(point.total_cost_usd));
    return `${format.dollars(total(points, (point) => point.total_cost_usd))} in all; most on ${when(top)}: ${format.dollars(top.total_cost_usd)}.`;
  },
});
