// What all views of statistics have in common: the series, split by a dimension, beside the period before.

import { resource } from "./api.js";
import { breakdown } from "./breakdown.js";
import { title, valueIn } from "./dimensions.js";
import * as figures from "./figures.js";
import * as format from "./format.js";
import { figure, panel, part } from "./panel.js";
import { elapsed, timeOf } from "./ranges.js";
import { filterParameters } from "./route.js";
import { splitBar } from "./splits.js";

const GROUPS = 5;
const SERIES = "total_requests,failed_requests,total_tokens,p50_processing_time_ms,total_cost_usd";
const ROWS = `${SERIES},success_rate,p95_processing_time_ms`;
const CARDS = [
  ["Requests", "total_requests", format.count], ["Success rate", "success_rate", format.percent],
  ["Tokens", "total_tokens", format.count], ["Latency", "p50_processing_time_ms", format.duration], ["Cost", "total_cost_usd", format.dollars],
];

/** `scope`: the filter that the view itself is; `totals`: the cards, which get their changes. */
export function analysis(route, zone, totals, scope = {}) {
  const { range, by } = route;
  const filters = { ...filterParameters(route.filters), ...scope };
  const at = { ...timeOf(range), ...filters };
  const inBuckets = { bucket: range.bucket, timezone: zone };
  const isCompared = route.compare && range.window !== "all";
  const ask = (label, parameters) => resource(label, "chat-requests/query", parameters);

  const series = resource("Time series", "chat-requests/timeseries", { ...at, ...inBuckets });
  const before = isCompared ? ask("Period before", { ...elapsed(range), ...filters, ...inBuckets, measures: ROWS, compare: "previous" }) : null;
  const split = by ? ask(`Series by ${title(by).toLowerCase()}`, { ...at, ...inBuckets, group_by: by, measures: SERIES, limit: GROUPS }) : null;
  const rows = by ? ask(`By ${title(by).toLowerCase()}`, {
    ...(isCompared ? elapsed(range) : timeOf(range)), ...filters, group_by: by, measures: ROWS, compare: isCompared ? "previous" : null,
  }) : null;

  const context = {
    route,
    groups: () => (split?.data ? grouped(split.data, by) : null),
    before: () => (before?.data ? new Map(before.data.map((row) => [Date.parse(row.bucket_start), row.previous])) : null),
  };
  const more = [before, split].filter(Boolean);
  const charts = [
    figure(figures.requests(context), series, more),
    by && figure(figures.failed(context), series, more),
    figure(figures.latency(context), series, more),
    figure(figures.tokens(context), series, more),
    figure(figures.cost(context), series, more),
  ].filter(Boolean);
  const table = rows && panel(`By ${title(by).toLowerCase()}`, rows, breakdown(route));
  return {
    at,
    series,
    resources: [series, before, split, rows].filter(Boolean),
    parts: [
      ...charts, table,
      before && part(null, before, { update: (_rows, metadata) => showChanges(totals, metadata.total), fail: () => {} }),
    ].filter(Boolean),
    bar: splitBar(route),
    charts: charts.map(({ element }) => element),
    table: table?.element ?? null,
  };
}

/** The series of each group, those with most requests first: {label, at: time to point}. */
function grouped(rows, by) {
  const groups = new Map();
  for (const row of rows) {
    const value = String(row[by]);
    if (!groups.has(value)) groups.set(value, { label: valueIn(row, by), at: new Map() });
    groups.get(value).at.set(Date.parse(row.bucket_start), row);
  }
  return [...groups.values()];
}

function showChanges(totals, { previous, change }) {
  for (const [label, field, show] of CARDS) {
    const known = previous?.total_requests || field === "total_requests";
    totals.change(label, known ? `${format.change(change[field])} from ${show(previous[field])}` : "nothing before");
  }
}
