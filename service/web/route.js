// Which view is shown, in the part of the address behind the #: it survives a reload, can be sent to
// others, and needs nothing of the server, whatever path it is mounted at.
//
//   #/                        all providers
//   #/providers/3?range=7d    one provider
//   #/models/7?range=7d       one model
//   #/requests?where.status=failed&order=-cost_usd&cursor=...    single requests
//
// All views: ?range=7d, or from= and to=; by=user_id splits the charts; compare=1 adds the period before; each where. is
// a filter of the API (where.status!=completed: all but these).
// Behind it stands how the view's tables are searched, sorted and opened, as far as the user has changed it:
//
//   #/?range=7d&models.search=gpt&models.sort=-tokens&models.all=1

import { between, DEFAULT_RANGE, RANGES } from "./ranges.js";

const VIEWS = { providers: "provider", models: "model" };
const WHERE = "where.";

/** Return {view, id, range, by, compare, filters, order, cursor, tables}, or null when the hash is none of ours. */
export function parse(hash) {
  if (hash !== "" && !hash.startsWith("#/")) return null;
  const [path, query = ""] = hash.slice(2).split(/\?(.*)/s, 2);
  const parameters = new URLSearchParams(query);
  const rest = {
    range: rangeIn(parameters),
    by: parameters.get("by"),
    compare: parameters.get("compare") === "1",
    filters: [...parameters].filter(([name]) => name.startsWith(WHERE)).map(([name, value]) => [name.slice(WHERE.length), value]),
    order: parameters.get("order"),
    cursor: parameters.get("cursor"),
    tables: tablesIn(parameters),
  };
  return { ...viewIn(path), ...rest };
}

function viewIn(path) {
  const [folder, id, ...others] = path.split("/");
  const view = VIEWS[folder];
  if (view && id && others.length === 0) {
    try {
      return { view, id: decodeURIComponent(id) };
    } catch {
      return { view: "unknown", id: null };
    }
  }
  return { view: { "": "overview", requests: "requests" }[path] ?? "unknown", id: null };
}

function rangeIn(parameters) {
  const named = RANGES.find(({ window }) => window === parameters.get("range"));
  return named ?? between(parameters.get("from"), parameters.get("to")) ?? DEFAULT_RANGE;
}

/** The address of a view; without `tables` these are as they are at first. */
export function href({ view, id, range, by = null, compare = false, filters = [], order = null, cursor = null, tables = {} }) {
  const folder = Object.keys(VIEWS).find((key) => VIEWS[key] === view);
  const path = folder ? `${folder}/${encodeURIComponent(id)}` : view === "requests" ? "requests" : "";
  const parameters = new URLSearchParams();
  if (range.window === null) {
    parameters.set("from", range.start);
    parameters.set("to", range.end);
  } else if (range.window !== DEFAULT_RANGE.window) parameters.set("range", range.window);
  if (by) parameters.set("by", by);
  if (compare) parameters.set("compare", "1");
  for (const [name, value] of filters) parameters.append(WHERE + name, value);
  if (order) parameters.set("order", order);
  if (cursor) parameters.set("cursor", cursor);
  for (const [table, { search, sort, all }] of Object.entries(tables)) {
    if (search) parameters.set(`${table}.search`, search);
    if (sort) parameters.set(`${table}.sort`, sort);
    if (all) parameters.set(`${table}.all`, "1");
  }
  return `#/${path}${parameters.size ? `?${parameters}` : ""}`;
}

/** The requests behind a number: those of a view, narrowed by further filters, over its range or another one. */
export function requestsHref(route, further = [], range = route.range) {
  const own = { provider: "provider_id", model: "model_id" }[route.view];
  const scope = own ? [[own, route.id]] : [];
  return href({ view: "requests", range, filters: merged([...scope, ...route.filters], further) });
}

/** Filters of which later ones take the place of earlier ones of the same name. */
export function merged(filters, further) {
  const replaced = new Set(further.map(([name]) => name));
  return [...filters.filter(([name]) => !replaced.has(name)), ...further];
}

/** Failed requests alone have a kind of error. */
export const FAILED = ["error_kind!", "__null__"];

/** Filters as parameters of the API: name to values. */
export function filterParameters(filters) {
  const parameters = {};
  for (const [name, value] of filters) (parameters[name] ??= []).push(value);
  return parameters;
}

/** What the address says of one table of the view, and how it is told of changes. */
export function tableState(route, table) {
  return {
    given: route.tables[table] ?? {},
    keep(state) {
      route.tables[table] = state;
      try {
        history.replaceState(history.state, "", href(route));
      } catch {
        // Browsers limit how often the address may change. The next change writes this one too.
      }
    },
  };
}

function tablesIn(parameters) {
  const tables = Object.create(null); // any name may stand there
  for (const [parameter, value] of parameters) {
    const [table, what] = parameter.split(".");
    if (parameter.startsWith(WHERE)) continue;
    if (["search", "sort", "all"].includes(what)) tables[table] = { ...tables[table], [what]: what === "all" ? value === "1" : value };
  }
  return tables;
}
