// All providers: the totals, the series, the providers, the top models, the last requests.

import { analysis } from "../analysis.js";
import { resource } from "../api.js";
import { h } from "../dom.js";
import { filterBar } from "../filters.js";
import * as format from "../format.js";
import { cards, knows, panel, part } from "../panel.js";
import { requestsHref } from "../route.js";
import * as tables from "../tables.js";
import { welcome } from "../welcome.js";

export function overview(route, zone) {
  const totals = cards(["Requests", "Success rate", "Tokens", "Latency", "Cost"]);
  const { at, series, resources, parts: shared, bar, charts, table } = analysis(route, zone, totals);
  const summary = resource("Totals", "chat-requests/summary", at);
  const providers = resource("Providers", "chat-requests/providers", at);
  const models = resource("Models", "chat-requests/models", at);
  const recent = resource("Recent requests", "chat-requests", { ...at, limit: 10 }, { cached: false });

  const greeting = welcome();
  const parts = [
    panel("Providers", providers, tables.providers(route)),
    panel("Top models", models, tables.models(route, { withProvider: true, first: 12 })),
    panel("Recent requests", recent, tables.requests(route, { withModel: true }), h("a", { href: requestsHref(route) }, "All requests")),
    part(null, summary, {
      update(data, metadata) {
        showTotals(totals, data, metadata);
        greeting.update(data);
      },
      fail: () => {},
    }),
    part(null, models, { update: (rows) => totals.note("Requests", `${format.exact(rows.length)} models`), fail: () => {} }),
    ...shared,
  ];
  const [providerTable, modelTable, recentTable] = parts.map(({ element }) => element);
  return {
    title: () => "All providers",
    crumbs: () => [],
    subtitle: filterBar(route),
    missing: () => null,
    series,
    resources: [summary, providers, models, ...resources, recent],
    parts,
    element: h("div", { class: "view" },
      greeting.element, totals.element, bar, h("div", { class: "grid" }, charts), table, providerTable, modelTable, recentTable),
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
