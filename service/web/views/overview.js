// All providers: the totals, the series, the providers, the top models, the last requests.

import { resource } from "../api.js";
import { h } from "../dom.js";
import * as figures from "../figures.js";
import * as format from "../format.js";
import { cards, figure, knows, panel, part } from "../panel.js";
import * as tables from "../tables.js";

export function overview(route, zone) {
  const { window, bucket } = route.range;
  const summary = resource("Totals", "chat-requests/summary", { window });
  const providers = resource("Providers", "chat-requests/providers", { window });
  const models = resource("Models", "chat-requests/models", { window });
  const series = resource("Time series", "chat-requests/timeseries", { window, bucket, timezone: zone });
  const recent = resource("Recent requests", "chat-requests", { window, limit: 10 }, { cached: false });

  const totals = cards(["Requests", "Success rate", "Tokens", "Latency", "Cost"]);
  const parts = [
    part(null, summary, { update: (data, metadata) => showTotals(totals, data, metadata), fail: () => {} }),
    part(null, models, { update: (rows) => totals.note("Requests", `${format.exact(rows.length)} models`), fail: () => {} }),
    panel("Providers", providers, tables.providers(route)),
    panel("Top models", models, tables.models(route, { withProvider: true, first: 12 })),
    figure(figures.requests(route.range), series),
    figure(figures.latency(route.range), series),
    figure(figures.tokens(route.range), series),
    figure(figures.cost(route.range), series),
    panel("Recent requests", recent, tables.requests(route, { withModel: true })),
  ];
  const [, , providerTable, modelTable, ...rest] = parts.map(({ element }) => element);
  return {
    title: () => "All providers",
    crumbs: () => [],
    missing: () => null,
    series,
    resources: [summary, providers, models, series, recent],
    parts,
    element: h("div", { class: "view" },
      totals.element,
      h("div", { class: "grid" }, rest.slice(0, 4)),
      h("div", { class: "grid uneven" }, providerTable, modelTable),
      rest[4]),
  };
}

export function showTotals(totals, data, metadata) {
  const known = (field, shown) => (knows(metadata, field) ? shown(data[field]) : format.NONE);
  totals.set("Requests", format.total(data.total_requests), { title: format.exact(data.total_requests) });
  totals.set("Success rate", data.total_requests ? known("success_rate", format.percent) : format.NONE, {
    note: knows(metadata, "failed_requests") ? `${format.count(data.failed_requests)} failed` : "",
  });
  totals.set("Tokens", known("total_tokens", format.count), {
    title: known("total_tokens", format.exact),
    note: `${known("total_input_tokens", format.count)} in, ${known("total_output_tokens", format.count)} out`,
  });
  showLatency(totals, data, metadata);
  totals.set("Cost", known("total_cost_usd", format.dollars), {
    note: data.total_requests && knows(metadata, "total_cost_usd") ? `${format.dollars(data.total_cost_usd / data.total_requests)} a request` : "",
  });
}

/** The median where percentiles are known, the average else. */
export function showLatency(totals, data, metadata) {
  const known = (field) => data[field] !== undefined && knows(metadata, field);
  const average = known("avg_processing_time_ms") ? format.duration(data.avg_processing_time_ms) : format.NONE;
  if (!data.total_requests) totals.set("Latency", format.NONE, { note: "" });
  else if (known("p50_processing_time_ms")) {
    totals.set("Latency", format.duration(data.p50_processing_time_ms), {
      note: `median, p95 ${format.duration(data.p95_processing_time_ms)}`,
      title: `average ${average}`,
    });
  } else totals.set("Latency", average, { note: "average" });
}
