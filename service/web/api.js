// Reads the API: each answer is kept with its validator, its age and what went wrong last.

const BASE = new URL("api/monitoring/", document.baseURI);
const KEY = "chat-stats-api-key";
const TIMEOUT_MS = 20_000;
// Pauses before the first numbers are asked for again: a service or a machine that is only just starting is not worth
// a banner. After a time-out only one more attempt is made, since each takes long.
const RETRY_MS = [250, 1000, 2500];
// What is stale is being recomputed when it is served. It is late only when that takes longer than this, or than twice
// the time that the last computation took.
const RECOMPUTING_MS = 6000;
const KEPT = 60;
// A 304 says how old the numbers are and whether they are stale, but not by which method they were
// computed this time: now and then the whole answer is asked for.
const FULL_EVERY = 4;
// Paths of what is published between two refreshes, and the length from which on it is not asked for so often.
const TOTALS = /\/chat-requests\/(summary|providers|models)(\/[^/]*)?$/;
const LARGE = 200_000;

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Failure extends Error {
  /** `status`: of the HTTP answer, 0 when there was none. */
  constructor(message, { status = 0, parameter = null, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, parameter, retryAfter });
  }

  /** Whether the service gave no answer: it cannot be reached, or it cannot reach what it needs. */
  get silent() {
    return this.status === 0 || this.status >= 500;
  }
}

/** One address of the API, with the last good answer. */
export class Resource {
  data = null;
  metadata = null;
  error = null;
  receivedAt = 0;
  staleSince = null;
  version = 0;
  #etag = null;
  #polls = 0;
  #length = 0;
  #running = null;

  constructor(label, path, parameters, { cached = true } = {}) {
    this.label = label;
    this.cached = cached;
    this.url = new URL(path, BASE);
    for (const [name, given] of Object.entries(parameters)) {
      for (const value of [given].flat()) {
        if (value !== null && value !== undefined) this.url.searchParams.append(name, value);
      }
    }
  }

  get settled() {
    return this.data !== null || this.error !== null;
  }

  /** Whether it shows what is published of these windows between two refreshes. A large answer waits for the refresh. */
  hasTotalsOf(windows) {
    return TOTALS.test(this.url.pathname) && windows.includes(this.url.searchParams.get("window")) && this.#length < LARGE;
  }

  /** Age of the numbers in seconds, by the server's clock at receipt and ours since then. */
  get ageSeconds() {
    return (this.metadata?.cache_age_seconds ?? 0) + (Date.now() - this.receivedAt) / 1000;
  }

  /** Whether stale numbers are still so although there was time to recompute them. */
  get late() {
    return this.staleSince !== null
      && Date.now() - this.staleSince > Math.max(RECOMPUTING_MS, 2 * (this.metadata.compute_ms ?? 0));
  }

  /** Ask for newer numbers; never throws, see `error`. Two calls at a time are one request. */
  refresh(signal) {
    // One that the last view began, and gave up when it was left, is no answer for this one.
    if (this.#running === null || this.#running.signal.aborted) {
      const running = { signal };
      running.done = this.#load(signal).finally(() => {
        if (this.#running === running) this.#running = null;
      });
      this.#running = running;
    }
    return this.#running.done;
  }

  async #load(signal, attempt = 0) {
    try {
      await this.#request(AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]));
      this.error = null;
    } catch (error) {
      if (signal.aborted) return;
      const failure = error instanceof Failure ? error : new Failure(said(error));
      const attempts = error.name === "TimeoutError" ? 1 : RETRY_MS.length;
      if (!this.settled && failure.silent && attempt < attempts) {
        await new Promise((done) => setTimeout(done, RETRY_MS[attempt]));
        return signal.aborted ? undefined : this.#load(signal, attempt + 1);
      }
      if (failure.parameter === "timezone" && this.url.searchParams.has("timezone")) {
        this.url.searchParams.set("timezone", "UTC"); // a zone that the browser knows and Postgres does not
        return this.#load(signal);
      }
      this.error = failure;
    }
  }

  async #request(signal) {
    const sent = headers("application/json");
    this.#polls += 1;
    if (this.#etag && this.#polls % FULL_EVERY !== 0) sent.set("If-None-Match", this.#etag);
    // no-store: the browser's own cache would answer for half a minute, and not say that it did.
    const response = await fetch(this.url, { headers: sent, signal, cache: "no-store", credentials: "same-origin" });
    if (response.status === 304 && this.data !== null) {
      this.#received({ ...this.metadata, ...freshness(response.headers) });
      return;
    }
    const text = await response.text();
    const body = json(text);
    if (!response.ok || body?.success === false || body?.data === undefined) {
      throw failure(response, body);
    }
    const etag = response.headers.get("ETag");
    if (this.data === null || etag === null || etag !== this.#etag) this.version += 1;
    this.data = body.data;
    this.#etag = etag;
    this.#length = text.length;
    this.#received(body.metadata ?? {});
  }

  #received(metadata) {
    const now = Date.now();
    const askedAllAlong = now - this.receivedAt < 60_000; // not while the tab was hidden
    this.staleSince = metadata.cache === "stale" ? (askedAllAlong && this.staleSince) || now : null;
    this.metadata = metadata;
    this.receivedAt = now;
  }
}

/** Fetch an answer whole, for a download or a list; throws Failure. */
export async function ask(address, { accept = "application/json", signal = undefined } = {}) {
  const response = await fetch(new URL(address, BASE), { headers: headers(accept), signal, cache: "no-store", credentials: "same-origin" })
    .catch((error) => {
      throw new Failure(said(error));
    });
  if (!response.ok) throw failure(response, json(await response.text()));
  return response;
}

/** Parse an answer that `ask` returned; a body that cannot be parsed is null. */
export const parsed = async (response) => json(await response.text());

/** The headers of every request, with the key if there is one. */
export function headers(accept) {
  const sent = new Headers({ Accept: accept });
  const secret = key.get();
  if (secret) sent.set("X-API-Key", latin1(secret));
  return sent;
}

const known = new Map();

/** Return the resource of this address: the one from before, with its numbers, if there is one. */
export function resource(label, path, parameters = {}, options = {}) {
  const fresh = new Resource(label, path, parameters, options);
  const address = fresh.url.href;
  const found = known.get(address) ?? fresh;
  known.delete(address);
  known.set(address, found); // the last used is the last to go
  if (known.size > KEPT) known.delete(known.keys().next().value);
  return found;
}

/** Forget all numbers, as when the key changes. */
export function forgetAll() {
  known.clear();
}

/** The service's word for an error, as a sentence. */
export function sentence(text) {
  if (!text) return "";
  const start = text.replace(/^[a-z](?=[a-z]*[ ,:])/, (letter) => letter.toUpperCase()); // not a name, such as model_id
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

/** What an answer that is none says. */
function failure(response, body) {
  const text = response.status === 404 && body?.detail === "Not Found" ? "This service does not offer it." : sentence(body?.detail);
  return new Failure(text || `The service answered with status ${response.status}.`, {
    status: response.status,
    parameter: body?.parameter ?? null,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
}

/** Age and cache state from the headers of a 304 (Age, and RFC 9211's Cache-Status). */
function freshness(headers) {
  const status = headers.get("Cache-Status") ?? "";
  const ttl = /ttl=(-?\d+)/.exec(status);
  let cache = "hit";
  if (status.includes("fwd=bypass")) cache = "bypass";
  else if (status.includes("fwd=")) cache = "miss";
  else if (ttl && Number(ttl[1]) <= 0) cache = "stale";
  return { cache, cache_age_seconds: Number(headers.get("Age")) || 0 };
}

/** Parse; ids beyond 2^53 stay exact, as text, where the browser shows us their digits. */
function json(text) {
  try {
    if (!/\d{16}/.test(text)) return JSON.parse(text);
    return JSON.parse(text, (name, value, context) =>
      name.endsWith("id") && typeof value === "number" && !Number.isSafeInteger(value) && context?.source
        ? context.source
        : value,
    );
  } catch {
    return null;
  }
}

/** Header values are bytes: the key's UTF-8, each byte as a character. */
function latin1(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function said(error) {
  if (error?.name === "TimeoutError") return "The service did not answer in time.";
  return "The service cannot be reached.";
}
