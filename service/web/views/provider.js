// One provider: its totals, its series, its models, its last requests.

import { analysis } from "../analysis.js";
import { resource } from "../api.js";
import { h } from "../dom.js";
import { filterBar } from "../filters.js";
import * as format from "../format.js";
import { lastName } from "../names.js";
import { cards, knows, panel, part } from "../panel.js";
import { requestsHref } from "../route.js";
import * as tables from "../tables.js";
import { showSeriesTotals } from "./series_totals.js";

export function provider(route, zone) {
  const { id } = route;
  const totals = cards(["Requests", "Success rate", "Tokens", "Models", "Cost"]);
  const { at, series, resources, parts: shared, bar, charts, table } = analysis(route, zone, totals, { provider_id: id });
  const models = resource("Models", "chat-requests/models", at);
  const recent = resource("Recent requests", "chat-requests", { ...at, limit: 10 }, { cached: false });
  // For the name of a provider without requests in this range.
  const providers = resource("Providers", "chat-requests/providers", { window: "all" });

  const parts = [
    panel("Models", models, tables.models(route, { withProvider: false, first: 25 })),
    panel("Recent requests", recent, tables.requests(route, { withModel: true }), h("a", { href: requestsHref(route) }, "All requests")),
    part(null, models, { update: (rows, metadata) => showModels(totals, rows, metadata), fail: () => {} }),
    part(null, series, { update: (points, metadata) => showSeriesTotals(totals, points, metadata), fail: () => {} }),
    ...shared,
  ];
  const [modelTable, recentTable] = parts.map(({ element }) => element);
  const listed = () => providers.data?.find((row) => String(row.provider_id) === String(id));
  return {
    title() {
      const found = models.data?.[0]?.provider ?? listed();
      return found?.name || found?.slug || lastName("provider", id) || `Provider ${id}`;
    },
    crumbs: () => [],
    subtitle: filterBar(route),
    missing() {
      if (models.error?.parameter === "provider_id") return models.error.message;
      const absent = models.data?.length === 0 && providers.data !== null && !listed();
      return absent ? `No provider with the id ${id} has requests.` : null;
    },
    series,
    resources: [models, ...resources, recent, providers],
    parts,
    element: h("div", { class: "view" }, totals.element, bar, h("div", { class: "grid" }, charts), table, modelTable, recentTable),
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
