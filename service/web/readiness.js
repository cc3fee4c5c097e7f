// Whether the service reaches its Redis, by its own account. Numbers that it has in memory look like any others.

import { sentence } from "./api.js";

const ADDRESS = new URL("health/ready", document.baseURI);
const TIMEOUT_MS = 5000;

/** Why answers come without the cache; null while Redis answers, or while that is not known. */
export let trouble = null;

/** Ask once. Returns whether Redis was away and is back. */
export async function look(signal) {
  const before = trouble;
  try {
    const response = await fetch(ADDRESS, { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]), cache: "no-store" });
    const { redis } = await response.json();
    trouble = redis?.ok === false ? sentence(redis.detail ?? "Redis does not answer") : null;
  } catch {
    return false; // that there is no answer at all, the numbers say
  }
  return before !== null && trouble === null;
}
