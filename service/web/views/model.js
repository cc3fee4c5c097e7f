// One model: its totals, its series, latency against tokens, its last requests.

import { analysis } from "../analysis.js";
import { resource } from "../api.js";
import { h, name } from "../dom.js";
import { filterBar } from "../filters.js";
import * as format from "../format.js";
import { lastName } from "../names.js";
import { cards, figure, knows, panel, part } from "../panel.js";
import { href, requestsHref } from "../route.js";
import { scatter } from "../scatter.js";
import * as tables from "../tables.js";
import { showLatency } from "./overview.js";
import { showSeriesTotals } from "./series_totals.js";

export function model(route, zone) {
  const { id, range } = route;
  const totals = cards(["Requests", "Success rate", "Tokens", "Latency", "Cost"]);
  const { at, series, resources, parts: shared, bar, charts, table } = analysis(route, zone, totals, { model_id: id });
  const { model_id: _, ...others } = at;
  const row = resource("Model", `chat-requests/models/${encodeURIComponent(id)}`, others);
  const plot = resource("Latency against tokens", "chat-requests/plot-data", at);
  const recent = resource("Recent requests", "chat-requests", { ...at, limit: 20 }, { cached: false });

  const identifiers = h("p", { class: "note identifiers" });
  const parts = [
    figure(scatter(), plot),
    panel("Recent requests", recent, tables.requests(route, { withModel: false }), h("a", { href: requestsHref(route) }, "All requests")),
    part(null, row, { update: show, fail: () => {} }),
    part(null, series, { update: (points, metadata) => showSeriesTotals(totals, points, metadata), fail: () => {} }),
    ...shared,
  ];
  const [sample, recentTable] = parts.map(({ element }) => element);

  function show(data, metadata) {
    const { stats } = data;
    const known = (field, shown) => (knows(metadata, field) ? shown(stats[field]) : format.NONE);
    totals.set("Requests", format.total(stats.total_requests), { title: format.exact(stats.total_requests) });
    totals.set("Tokens", known("total_tokens", format.count), {
      title: known("total_tokens", format.exact),
      note: `${known("total_input_tokens", format.count)} in, ${known("total_output_tokens", format.count)} out`,
    });
    showLatency(totals, stats, metadata);
    const [identifier, upstream] = [data.model_identifier, data.provider_model_id];
    const shown = [identifier, upstream === identifier ? null : upstream].filter(Boolean);
    identifiers.replaceChildren(...shown.map((text) => h("code", {}, name(text))));
  }

  return {
    title: () => (row.data && tables.modelName(row.data)) || lastName("model", id) || `Model ${id}`,
    crumbs() {
      const owner = row.data?.provider;
      return owner ? [{ text: owner.name ?? owner.slug, href: href({ view: "provider", id: owner.id, range }) }] : [];
    },
    missing: () => (row.error?.status === 404 || row.error?.parameter === "model_id" ? row.error.message : null),
    series,
    resources: [row, ...resources, plot, recent],
    parts,
    identifiers,
    subtitle: filterBar(route),
    element: h("div", { class: "view" }, totals.element, bar, h("div", { class: "grid" }, charts, sample), table, recentTable),
  };
}
