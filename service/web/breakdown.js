// The groups of a dimension in rows: requests, failures, tokens, latency, cost, and how they changed.

import { filterValue, title, valueIn } from "./dimensions.js";
import { h, name } from "./dom.js";
import * as format from "./format.js";
import { href, merged, tableState } from "./route.js";
import { table } from "./table.js";
import { failures, link, numbers } from "./tables.js";

export function breakdown(route) {
  const { by } = route;
  const note = h("p", { class: "note" });
  let known = () => true;
  const whole = (row) => row;
  const knows = (field) => known(field);
  const filterOf = (row) => [[by, filterValue(row[by])]];
  const changed = (label, field) => ({
    label, numeric: true, optional: true, value: (row) => row.change?.[field] ?? null,
    cell: (row) => h("span", { title: `Before: ${format.exact(row.previous?.[field])}` }, row.previous ? format.change(row.change[field]) : format.NONE),
  });
  const columns = [
    { label: title(by), wide: true, value: (row) => valueIn(row, by), cell: (row) => value(route, row, filterOf(row)) },
    numbers(whole, "Requests", "total_requests", format.exact, knows),
    route.compare && changed("Change", "total_requests"),
    failures(route, whole, filterOf, knows),
    numbers(whole, "Tokens", "total_tokens", format.count, knows, { optional: true }),
    numbers(whole, "p50", "p50_processing_time_ms", format.duration, knows, { optional: true }),
    numbers(whole, "p95", "p95_processing_time_ms", format.duration, knows, { optional: true }),
    numbers(whole, "Cost", "total_cost_usd", format.dollars, knows),
    route.compare && changed("Cost change", "total_cost_usd"),
  ].filter(Boolean);
  const shown = table({
    caption: `By ${title(by).toLowerCase()}`,
    rowId: (row) => String(row[by]),
    memory: tableState(route, "breakdown"),
    text: (row) => valueIn(row, by),
    sort: 1,
    first: 12,
    empty: "No requests in this range.",
    columns,
  });
  return {
    element: h("div", {}, shown.element, note),
    update(rows, metadata) {
      known = (field) => !(metadata.unavailable ?? []).includes(field);
      shown.update(rows);
      note.replaceChildren(...remarks(rows, metadata));
    },
  };
}

function value(route, row, filter) {
  const shown = valueIn(row, route.by);
  const view = { provider_id: "provider", model_id: "model" }[route.by];
  if (view && row[route.by] !== null && row[route.by] !== "unresolved") return link(view, row[route.by], route, shown);
  return h("a", { href: href({ ...route, by: null, filters: merged(route.filters, filter), tables: {} }) }, name(shown));
}

/** What is not in the rows, and how the rows can be had without reading all requests of the range. */
function remarks(rows, { others, total_groups: groups, source, suggested_rollup: command, incomplete_before: before }) {
  return [
    others?.total_requests > 0 && `${format.exact(groups - rows.length)} more groups have ${format.exact(others.total_requests)} requests. `,
    before && `Requests before ${format.moment(before)} were purged and are not in these numbers. `,
    source === "scan" && ["Read from the requests of the range. ", ...(command ? ["Kept computed by: ", h("code", {}, command)] : [])],
  ].flat().filter(Boolean);
}
