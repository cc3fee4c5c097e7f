// Which view is shown, in the part of the address behind the #: it survives a reload, can be sent to
// others, and needs nothing of the server, whatever path it is mounted at.
//
//   #/                        all providers
//   #/providers/3?range=7d    one provider
//   #/models/7?range=7d       one model

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

/** Return {view, id, range}, or null when the hash is none of ours (#main of the skip link). */
export function parse(hash) {
  if (hash !== "" && !hash.startsWith("#/")) return null;
  const [path, query = ""] = hash.slice(2).split("?", 2);
  const wanted = new URLSearchParams(query).get("range") ?? DEFAULT_WINDOW;
  const range = RANGES.find(({ window }) => window === wanted) ?? RANGES.find(({ window }) => window === DEFAULT_WINDOW);
  const [folder, id, ...rest] = path.split("/");
  const view = VIEWS[folder];
  if (view && id && rest.length === 0) {
    try {
      return { view, id: decodeURIComponent(id), range };
    } catch {
      return { view: "unknown", id: null, range };
    }
  }
  return { view: path === "" ? "overview" : "unknown", id: null, range };
}

export function href({ view, id, range }) {
  const folder = Object.keys(VIEWS).find((key) => VIEWS[key] === view);
  const path = folder ? `${folder}/${encodeURIComponent(id)}` : "";
  return `#/${path}${range.window === DEFAULT_WINDOW ? "" : `?range=${range.window}`}`;
}
