// One model: its totals, its series, latency against tokens, its last requests.

import { resource } from "../api.js";
import { h, name } from "../dom.js";
import * as figures from "../figures.js";
import * as format from "../format.js";
import { cards, figure, knows, panel, part } from "../panel.js";
import { href } from "../route.js";
import * as tables from "../tables.js";
import { showLatency } from "./overview.js";
import { showSeriesTotals } from "./series_totals.js";

export function model(route, zone) {
  const { id, range } = route;
  const { window, bucket } = range;
  const row = resource("Model", `chat-requests/models/${encodeURIComponent(id)}`, { window });
  const series = resource("Time series", "chat-requests/timeseries", { window, bucket, timezone: zone, model_id: id });
  const plot = resource("Latency against tokens", "chat-requests/plot-data", { window, model_id: id });
  const recent = resource("Recent requests", "chat-requests", { window, limit: 20, model_id: id }, { cached: false });

  const totals = cards(["Requests", "Success rate", "Tokens", "Latency", "Cost"]);
  const identifiers = h("p", { class: "note identifiers" });
  const parts = [
    part(null, row, { update: show, fail: () => {} }),
    part(null, series, { update: (points, metadata) => showSeriesTotals(totals, points, metadata), fail: () => {} }),
    figure(figures.requests(range), series),
    figure(figures.latency(range), series),
    figure(figures.scatter(), plot),
    figure(figures.tokens(range), series),
    figure(figures.cost(range), series),
    panel("Recent requests", recent, tables.requests(route, { withModel: false })),
  ];

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

  const [requests, latency, scatter, tokens, cost, table] = parts.slice(2).map(({ element }) => element);
  return {
    title: () => (row.data && tables.modelName(row.data)) || tables.lastName("model", id) || `Model ${id}`,
    crumbs() {
      const owner = row.data?.provider;
      return owner ? [{ text: owner.name ?? owner.slug, href: href({ view: "provider", id: owner.id, range }) }] : [];
    },
    missing: () => (row.error?.status === 404 || row.error?.parameter === "model_id" ? row.error.message : null),
    series,
    resources: [row, series, plot, recent],
    parts,
    subtitle: identifiers,
    element: h("div", { class: "view" }, totals.element,
      h("div", { class: "grid" }, requests, latency, scatter, tokens), cost, table),
  };
}
