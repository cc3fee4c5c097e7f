// The tables of providers, models and requests.

import { openRequest } from "./details.js";
import { h, name } from "./dom.js";
import * as format from "./format.js";
import { remember } from "./names.js";
import { FAILED, href, requestsHref, tableState } from "./route.js";
import { table } from "./table.js";

/** A link to a provider or model; its name is remembered, so that the view has its title at once. */
export function link(view, id, route, text) {
  const { range, compare } = route;
  const filters = route.filters.filter(([dimension]) => !/^(provider|model)_id!?$/.test(dimension));
  remember(view, id, text);
  return h("a", { href: href({ view, id, range, compare, filters }) }, name(text));
}

/** The share of requests that failed, as a link to them: [columns of table()]. */
export function failures(route, whole, filterOf, known = () => true) {
  const rate = (row) => (known("failed_requests") && whole(row).total_requests ? whole(row).failed_requests / whole(row).total_requests : null);
  return {
    label: "Failed", numeric: true, value: rate,
    cell(row) {
      const { failed_requests: failed } = whole(row);
      if (!failed || rate(row) === null) return format.percent(rate(row));
      const requests = `${format.exact(failed)} failed requests`;
      return h("a", { href: requestsHref(route, [...filterOf(row), FAILED]), title: requests },
        format.percent(rate(row)), h("span", { class: "hidden" }, `: ${requests}`));
    },
  };
}

/** A number, with a bar that compares it to the largest. */
function share(value, largest) {
  const bar = h("span", { class: "share", "aria-hidden": "true" }, h("span", { class: "share-fill" }));
  bar.firstChild.style.width = `${largest > 0 ? (100 * value) / largest : 0}%`;
  return [bar, h("span", { class: "compared" }, format.exact(value))];
}

export function providers(route) {
  let [whole, largest] = [0, 0];
  let known = () => true;
  const shown = table({
    caption: "Providers",
    rowId: (row) => row.provider_id,
    memory: tableState(route, "providers"),
    text: (row) => `${row.name ?? ""} ${row.slug ?? ""}`,
    sort: 2,
    first: 12,
    empty: "No requests in this range.",
    columns: [
      {
        label: "Provider", wide: true, value: (row) => row.name ?? row.slug,
        cell: (row) => link("provider", row.provider_id, route, row.name ?? row.slug),
      },
      { label: "Models", numeric: true, optional: true, value: (row) => row.models_with_requests, cell: (row) => format.exact(row.models_with_requests) },
      { label: "Requests", numeric: true, value: (row) => row.total_requests, cell: (row) => share(row.total_requests, largest) },
      {
        label: "Share", numeric: true, optional: true, value: (row) => row.total_requests,
        cell: (row) => format.percent(whole ? row.total_requests / whole : null),
      },
      failures(route, (row) => row, (row) => [["provider_id", row.provider_id]], (field) => known(field)),
      numbers((row) => row, "p50", "p50_processing_time_ms", format.duration, (field) => known(field), { optional: true }),
      numbers((row) => row, "Cost", "total_cost_usd", format.dollars, (field) => known(field)),
    ],
  });
  return {
    element: shown.element,
    update(rows, metadata) {
      known = (field) => !(metadata?.unavailable ?? []).includes(field);
      whole = rows.reduce((sum, row) => sum + row.total_requests, 0);
      largest = rows.reduce((most, row) => Math.max(most, row.total_requests), 0);
      shown.update(rows);
    },
  };
}

/** A column of numbers; where the method cannot know them there are none. */
export function numbers(whole, label, field, show, known, extra = {}) {
  return {
    label, numeric: true, ...extra,
    value: (row) => (known(field) ? whole(row)[field] ?? null : null),
    cell: (row) => (known(field) ? show(whole(row)[field]) : format.NONE),
  };
}

export const modelName = (row) => row.model_name || row.model_identifier || row.provider_model_id;

const providerName = (provider) => provider.name ?? provider.slug;

/** Which of several models of one name this is: on a narrow screen the column of providers is hidden. */
function modelCell(row, route, { withProvider, twins }) {
  const identifier = [row.model_identifier, row.provider_model_id].find((text) => text && text !== modelName(row));
  return [
    link("model", row.model_id, route, modelName(row)),
    withProvider && h("span", { class: "which narrow" }, name(providerName(row.provider))),
    twins.has(twinKey(row)) && h("span", { class: "which" }, name(identifier ?? `id ${row.model_id}`)),
  ].filter(Boolean);
}

const twinKey = (row) => `${row.provider.id}\n${modelName(row)}`;

/** The names that more than one model of a provider has. */
function twinsOf(rows) {
  const seen = new Set();
  return new Set(rows.map(twinKey).filter((key) => seen.has(key) || !seen.add(key)));
}

export function models(route, { withProvider, first }) {
  let largest = 0;
  let twins = new Set();
  let known = () => true;
  const number = (label, field, show, extra) => numbers((row) => row.stats, label, field, show, (name) => known(name), extra);
  const columns = [
    {
      label: "Model", wide: true, value: modelName,
      cell: (row) => modelCell(row, route, { withProvider, twins }),
    },
    withProvider && {
      label: "Provider", optional: true, value: (row) => providerName(row.provider),
      cell: (row) => name(providerName(row.provider)),
    },
    { label: "Requests", numeric: true, value: (row) => row.stats.total_requests, cell: (row) => share(row.stats.total_requests, largest) },
    failures(route, (row) => row.stats, (row) => [["model_id", row.model_id]], (field) => known(field)),
    number("Tokens", "total_tokens", format.count, { optional: true }),
    number("p50", "p50_processing_time_ms", format.duration, { optional: true }),
    number("p95", "p95_processing_time_ms", format.duration, { optional: true }),
    number("Cost", "total_cost_usd", format.dollars),
  ].filter(Boolean);
  const shown = table({
    caption: "Models",
    rowId: (row) => row.model_id,
    memory: tableState(route, "models"),
    text: (row) => [row.model_name, row.model_identifier, row.provider_model_id, row.provider.name, row.provider.slug].filter(Boolean).join(" "),
    sort: columns.findIndex((column) => column.label === "Requests"),
    first,
    empty: "No requests in this range.",
    columns,
  });
  return {
    element: shown.element,
    update(rows, metadata) {
      largest = rows.reduce((most, row) => Math.max(most, row.stats.total_requests), 0);
      twins = twinsOf(rows);
      known = (field) => !(metadata?.unavailable ?? []).includes(field);
      shown.update(rows);
    },
  };
}

const SUCCESS = new Set(["completed", "complete", "success", "successful", "succeeded", "ok", "200"]);

export function requests(route, { withModel, caption = "Recent requests" }) {
  const shown = table({
    caption,
    rowId: (row) => row.id,
    memory: tableState(route, "requests"),
    empty: "No requests in this range.",
    columns: [
      {
        label: "Time", value: (row) => Date.parse(row.created_at),
        cell: (row) => h("button", { type: "button", class: "link", "aria-haspopup": "dialog", onclick: () => openRequest(row) },
          h("time", { datetime: row.created_at, title: format.moment(row.created_at) },
            h("span", { class: "optional" }, `${format.day(row.created_at)}, `), format.time(row.created_at))),
      },
      withModel && {
        label: "Model", wide: true, value: (row) => row.models && modelName(row.models),
        cell: (row) => (row.models ? [
          link("model", row.models.id, route, modelName(row.models)),
          row.models.providers && h("span", { class: "which" }, name(providerName(row.models.providers))),
        ] : format.NONE),
      },
      { label: "Status", value: (row) => row.status, cell: status },
      { label: "Input", numeric: true, optional: true, value: (row) => row.input_tokens, cell: (row) => format.exact(row.input_tokens) },
      { label: "Output", numeric: true, optional: true, value: (row) => row.output_tokens, cell: (row) => format.exact(row.output_tokens) },
      {
        label: "Took", numeric: true, value: (row) => row.processing_time_ms === null ? null : Number(row.processing_time_ms),
        cell: (row) => format.duration(row.processing_time_ms),
      },
      { label: "Cost", numeric: true, optional: true, value: (row) => row.cost_usd === null ? null : Number(row.cost_usd), cell: (row) => format.dollars(row.cost_usd) },
    ].filter(Boolean),
  });
  return shown;
}

function status(row) {
  const good = SUCCESS.has(String(row.status ?? "").trim().toLowerCase());
  return h("span", { class: `status ${good ? "good" : "bad"}`, title: row.error_message },
    h("bdi", {}, row.status ?? "unknown"),
    row.error_message && h("span", { class: "hidden" }, `: ${row.error_message}`));
}
