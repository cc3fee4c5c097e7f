// Says how old what is shown is, how it was computed, and whether something is wrong with it.

import { h } from "./dom.js";
import { age, exact, moment, NONE, time } from "./format.js";
import * as readiness from "./readiness.js";

const METHODS = {
  rpc: "database function",
  query: "query of the requests",
  fallback_optimized: "fallback: one grouped query",
  fallback_with_counts: "fallback: counts only",
  fallback: "fallback: counts in slices",
};

const part = (id) => document.getElementById(id);

/** Show the state of all resources together: the worst of them. Called each second; speaks only of changes. */
export function show(resources, retry) {
  const found = assess(resources);
  for (const id of ["freshness", "sources"]) part(id).hidden = resources.length === 0; // it asks for a key, or has no such thing
  part("freshness").dataset.state = found.state;
  say(part("freshness-state"), found.word);
  part("freshness-age").textContent = found.age === null ? "" : `computed ${age(found.age)} ago`;
  banner(found, retry);
  if (part("sources").open) sources(resources);
}

function assess(resources) {
  const answered = resources.filter(({ data }) => data !== null);
  const failed = resources.filter(({ error }) => error !== null);
  const silent = failed.filter(({ error }) => error.silent);
  const ages = answered.filter(({ metadata }) => metadata.computed_at).map(({ ageSeconds }) => ageSeconds);
  const oldest = ages.length ? Math.max(...ages) : null;
  const stale = answered.filter(({ staleSince }) => staleSince !== null);
  const late = stale.filter((one) => one.late);
  const fallback = answered.filter(({ metadata }) => metadata.method?.startsWith("fallback"));
  const since = answered.length ? Math.min(...answered.map(({ receivedAt }) => receivedAt)) : null;
  const of = (some) => [...new Set(some.map(({ label }) => label))].join(", ");
  const reasons = said(silent.map(({ error }) => error.message));

  if (silent.length && silent.length === resources.filter(({ settled }) => settled).length) {
    const kept = since === null ? "" : ` The numbers below are the last good ones, from ${time(since)}.`;
    return { state: "error", word: "No answer", age: oldest, text: `${reasons}${kept}` };
  }
  // The worst of it names the state; the banner says all of it.
  const troubles = [];
  if (late.length) {
    const text = `Older than they should be: ${of(late)}. The service serves what it has until it can compute newer numbers.`;
    troubles.push({ state: "stale", word: "Stale", text });
  }
  if (fallback.length) {
    const unknown = [...new Set(fallback.flatMap(({ metadata }) => metadata.unavailable ?? []))];
    const cost = unknown.length ? `Not known this way: ${unknown.join(", ")}.` : "The numbers are the same; computing them costs more.";
    troubles.push({ state: "fallback", word: "Fallback", text: `Computed by a fallback: ${of(fallback)} (${fallback[0].metadata.method}). ${cost}` });
  }
  const absent = silent.filter(({ data }) => data === null);
  const kept = silent.filter(({ data }) => data !== null);
  if (absent.length) troubles.push({ state: "partial", word: "Incomplete", text: `Not available now: ${of(absent)}.` });
  if (kept.length) troubles.push({ state: "partial", word: "Incomplete", text: `Not renewed, for want of an answer: ${of(kept)}.` });
  if (silent.length) troubles.push({ text: reasons });
  if (withoutCache(answered)) {
    const text = `${readiness.trouble ?? "Redis does not answer."} Until it does, the service answers from its memory, or computes.`;
    troubles.push({ state: "partial", word: "Without cache", text });
  }
  if (troubles.length) return { ...troubles[0], age: oldest, text: troubles.map(({ text }) => text).join(" ") };
  if (resources.some(({ settled }) => !settled)) return { state: "loading", word: "Loading", age: oldest };
  if (document.hidden) return { state: "paused", word: "Paused", age: oldest };
  if (stale.length) return { state: "loading", word: "Updating", age: oldest };
  return { state: "live", word: "Live", age: oldest };
}

/** Each reason once; one that another one goes on from is in that one. */
function said(messages) {
  const different = [...new Set(messages)];
  const isPart = (one) => different.some((other) => other !== one && other.startsWith(one.replace(/\.$/, "")));
  return different.filter((one) => !isPart(one)).join(" ");
}

/** Single requests never come from the cache; statistics do, unless Redis is gone. */
function withoutCache(answered) {
  return readiness.trouble !== null || answered.some(({ cached, metadata }) => cached && metadata.cache === "bypass");
}

function banner({ state, text }, retry) {
  const element = part("banner");
  element.dataset.state = state;
  element.hidden = !text;
  if (element.dataset.text === (text ?? "")) return;
  element.dataset.text = text ?? "";
  const focused = element.contains(document.activeElement);
  element.replaceChildren(
    ...(text ? [h("p", {}, text), h("button", { type: "button", onclick: retry }, "Try again")] : []),
  );
  if (focused) (element.querySelector("button") ?? document.getElementById("main")).focus({ preventScroll: true });
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const FACTS = ["Method", "Computed at", "Age", "Cache", "Computing took", "Generation"];
let tabled = { resources: null, cells: [] };

/** Keep the table of the footer: its cells change, not the table, so that scrolling, focus and selection stay. */
function sources(resources) {
  if (tabled.resources !== resources) {
    tabled = { resources, cells: resources.map(() => FACTS.map(() => h("span"))) };
    part("sources-table").replaceChildren(table(resources, tabled.cells));
  }
  resources.forEach((one, row) => facts(one).forEach((text, column) => say(tabled.cells[row][column], text)));
}

function table(resources, cells) {
  const caption = "Where these numbers come from";
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, ["Part", ...FACTS].map((label) => h("th", { scope: "col" }, label)))),
    h("tbody", {}, resources.map(({ label }, row) =>
      h("tr", {}, h("th", { scope: "row" }, label), cells[row].map((cell) => h("td", {}, cell)))))));
}

function facts({ metadata, error, receivedAt, ageSeconds }) {
  if (!metadata) return [error ? error.message : "loading", ...Array(FACTS.length - 1).fill(NONE)];
  return [
    METHODS[metadata.method] ?? metadata.method ?? NONE,
    metadata.computed_at ? moment(metadata.computed_at) : moment(receivedAt),
    age(ageSeconds),
    error ? `${metadata.cache ?? ""} (${error.message})` : metadata.cache ?? NONE,
    metadata.compute_ms === undefined ? NONE : `${exact(metadata.compute_ms)} ms`,
    metadata.generation ?? NONE,
  ];
}
