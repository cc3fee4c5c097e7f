// What there is to group and filter by: known before the service is asked, but for what operators declare.

import { ask, parsed } from "./api.js";

const TITLES = { provider_id: "Provider", model_id: "Model", status: "Status", error_kind: "Error kind", model_name: "Model name" };
const NULL = "__null__";
const PAUSES_MS = [250, 1000, 2500, 5000, 10_000];

let names = ["provider_id", "model_id", "status", "error_kind"];
let loading = null;

/** The dimensions that can be used, as far as they are known. */
export const dimensions = () => names;

/** Ask the service once which there are; resolves when they are known, or cannot be for now. */
export function load() {
  loading ??= read().catch(() => {
    loading = null; // asked again with the next view
  });
  return loading;
}

/** A service that only just starts gives no answer at first. */
async function read(attempt = 0) {
  try {
    const { data } = await parsed(await ask("chat-requests/dimensions"));
    names = data.filter(({ trouble }) => !trouble).map(({ name }) => name);
  } catch (error) {
    if (!error.silent || attempt === PAUSES_MS.length) throw error;
    await new Promise((done) => setTimeout(done, PAUSES_MS[attempt]));
    await read(attempt + 1);
  }
}

/** Forget them, as when the key changes. */
export function forget() {
  loading = null;
}

/** user_id: User. The name as it is, where two would read the same. */
export function title(name) {
  if (TITLES[name]) return TITLES[name];
  const text = name.replace(/_id$/, "").replaceAll("_", " ");
  const same = names.some((other) => other !== name && other.replace(/_id$/, "").replaceAll("_", " ") === text);
  return same || text === "" ? name : text[0].toUpperCase() + text.slice(1);
}

/** What a row of a question calls its value of a dimension; null: the requests without one. */
export function valueIn(row, name) {
  const value = row[name] ?? null;
  if (value === null) return name === "error_kind" ? "No error" : "None";
  if (value === "unresolved") return "Unresolved";
  return { provider_id: row.provider_name, model_id: row.model_name }[name] || String(value) || "(empty)";
}

/** The text that filters by a value. */
export function filterValue(value) {
  if (value === null || value === undefined) return NULL;
  return value === NULL ? `\\${NULL}` : String(value);
}

/** How a filter reads: ["Status", "is not", "completed"]. */
export function words([name, value], nameOf = () => null) {
  const dimension = name.replace(/!$/, "");
  if (name === "error_kind!" && value === NULL) return ["Failed requests", "", ""];
  const shown = value === NULL ? "none" : nameOf(dimension, value) ?? value.replace(/^\\(?=__null__$)/, "");
  return [title(dimension), dimension === "model_name" ? "contains" : name.endsWith("!") ? "is not" : "is", shown];
}

/** The values of a dimension that begin with a text: [{value, name, total_requests}]. */
export async function values(name, prefix, signal) {
  const query = new URLSearchParams({ name, limit: "20", ...(prefix ? { prefix } : {}) });
  const body = await parsed(await ask(`chat-requests/dimensions?${query}`, { signal }));
  return body?.data ?? [];
}
