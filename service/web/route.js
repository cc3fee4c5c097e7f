// Which view is shown, in the part of the address behind the #: it survives a reload, can be sent to
// others, and needs nothing of the server, whatever path it is mounted at.
//
//   #/                        all providers
//   #/providers/3?range=7d    one provider
//   #/models/7?range=7d       one model
//
// Behind it stands how the view's tables are searched, sorted and opened, as far as the user has changed it:
//
//   #/?range=7d&models.search=gpt&models.sort=-tokens&models.all=1

/** The ranges: the button's label, the API's window, the length of the series' buckets. */
export const RANGES = [
  { label: "1D", name: "Last 24 hours", window: "24h", bucket: "1h" },
  { label: "1W", name: "Last 7 days", window: "7d", bucket: "1h" },
  { label: "1M", name: "Last 30 days", window: "30d", bucket: "1d" },
  { label: "6M", name: "Last 180 days", window: "180d", bucket: "1d" },
  { label: "1Y", name: "Last 365 days", window: "365d", bucket: "1w" },
  { label: "All", name: "All time", window: "all", bucket: "1mo" },
];

const DEFAULT_WINDOW = "7d";
const VIEWS = { providers: "provider", models: "model" };

/** Return {view, id, range, tables}, or null when the hash is none of ours (#main of the skip link). */
export function parse(hash) {
  if (hash !== "" && !hash.startsWith("#/")) return null;
  const [path, query = ""] = hash.slice(2).split("?", 2);
  const parameters = new URLSearchParams(query);
  const wanted = parameters.get("range") ?? DEFAULT_WINDOW;
  const tables = tablesIn(parameters);
  const range = RANGES.find(({ window }) => window === wanted) ?? RANGES.find(({ window }) => window === DEFAULT_WINDOW);
  const [folder, id, ...rest] = path.split("/");
  const view = VIEWS[folder];
  if (view && id && rest.length === 0) {
    try {
      return { view, id: decodeURIComponent(id), range, tables };
    } catch {
      return { view: "unknown", id: null, range, tables };
    }
  }
  return { view: path === "" ? "overview" : "unknown", id: null, range, tables };
}

/** The address of a view; without `tables` these are as they are at first. */
export function href({ view, id, range, tables = {} }) {
  const folder = Object.keys(VIEWS).find((key) => VIEWS[key] === view);
  const path = folder ? `${folder}/${encodeURIComponent(id)}` : "";
  const parameters = new URLSearchParams(range.window === DEFAULT_WINDOW ? {} : { range: range.window });
  for (const [table, { search, sort, all }] of Object.entries(tables)) {
    if (search) parameters.set(`${table}.search`, search);
    if (sort) parameters.set(`${table}.sort`, sort);
    if (all) parameters.set(`${table}.all`, "1");
  }
  return `#/${path}${parameters.size ? `?${parameters}` : ""}`;
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
    if (["search", "sort", "all"].includes(what)) tables[table] = { ...tables[table], [what]: what === "all" ? value === "1" : value };
  }
  return tables;
}
