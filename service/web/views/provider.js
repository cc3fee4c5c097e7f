// One provider: its totals, its series, its models, its last requests.

import { resource } from "../api.js";
import { h } from "../dom.js";
import * as figures from "../figures.js";
import * as format from "../format.js";
import { cards, figure, knows, panel, part } from "../panel.js";
import * as tables from "../tables.js";
import { showSeriesTotals } from "./series_totals.js";

export function provider(route, zone) {
  const { id } = route;
  const { window, bucket } = route.range;
  const models = resource("Models", "chat-requests/models", { window, provider_id: id });
  const series = resource("Time series", "chat-requests/timeseries", { window, bucket, timezone: zone, provider_id: id });
  const recent = resource("Recent requests", "chat-requests", { window, limit: 10, provider_id: id }, { cached: false });
  // For the name of a provider without requests in this range.
  const providers = resource("Providers", "chat-requests/providers", { window: "all" });

  const totals = cards(["Requests", "Success rate", "Tokens", "Models", "Cost"]);
  const parts = [
    part(null, models, { update: (rows, metadata) => showModels(totals, rows, metadata), fail: () => {} }),
    part(null, series, { update: (points, metadata) => showSeriesTotals(totals, points, metadata), fail: () => {} }),
    panel("Models", models, tables.models(route, { withProvider: false, first: 25 })),
    figure(figures.requests(route.range), series),
    figure(figures.latency(route.range), series),
    figure(figures.tokens(route.range), series),
    figure(figures.cost(route.range), series),
    panel("Recent requests", recent, tables.requests(route, { withModel: true })),
  ];
  const listed = () => providers.data?.find((row) => String(row.provider_id) === String(id));
  const [, , modelTable, ...rest] = parts.map(({ element }) => element);
  return {
    title() {
      const found = models.data?.[0]?.provider ?? listed();
      return found?.name || found?.slug || tables.lastName("provider", id) || `Provider ${id}`;
    },
    crumbs: () => [],
    missing() {
      if (models.error?.parameter === "provider_id") return models.error.message;
      const absent = models.data?.length === 0 && providers.data !== null && !listed();
      return absent ? `No provider with the id ${id} has requests.` : null;
    },
    series,
    resources: [models, series, recent, providers],
    parts,
    element: h("div", { class: "view" }, totals.element, h("div", { class: "grid" }, rest.slice(0, 4)), modelTable, rest[4]),
  };
}

function showModels(totals, rows, metadata) {
  const sum = (field) => rows.reduce((all, row) => all + row.stats[field], 0);
  const known = (field, shown) => (knows(metadata, field) ? shown(sum(field)) : format.NONE);
  totals.set("Requests", format.total(sum("total_requests")), { title: format.exact(sum("total_requests")) });
  totals.set("Models", format.exact(rows.length), { note: "with requests" });
  totals.set("Tokens", known("total_tokens", format.count), {
    title: known("total_tokens", format.exact),
    note: `${known("total_input_tokens", format.count)} in, ${known("total_output_tokens", format.count)} out`,
  });
}
