// Shows the view that the address names, and keeps its numbers new while the page is visible.

import { forgetAll, key } from "./api.js";
import { controls } from "./controls.js";
import * as dimensions from "./dimensions.js";
import { h, name } from "./dom.js";
import * as events from "./events.js";
import * as freshness from "./freshness.js";
import * as readiness from "./readiness.js";
import { href, parse } from "./route.js";
import * as scroll from "./scroll.js";
import { model } from "./views/model.js";
import { overview } from "./views/overview.js";
import { provider } from "./views/provider.js";
import { requests } from "./views/requests.js";

const VIEWS = { overview, provider, model, requests };
const POLL_SECONDS = 15;
// While events tell of new numbers.
const LIVE_POLL_SECONDS = 45;
// Pages that hear of the same event ask within this time, and not all at once.
const SPREAD_MS = 400;
const LONGEST_PAUSE_SECONDS = 120;
// After stale numbers, which are being recomputed when they are served, and after failures, the service is asked again
// soon, some times.
const SOON_SECONDS = 3;
const SOON_TIMES = 4;
const FEW_MONTHS = 7;
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const main = document.getElementById("main");
let current = null; // {route, view, heading, crumbs, abort, used: whether the user has begun to use the view}
let timer = null;
let failures = 0;
let unsettled = 0;
let recovered = false;
let pressed = false; // whether a pointer is
let announced = false; // whether newer numbers were published since they were last asked for

function show(route, { focus }) {
  current?.abort.abort();
  current?.view?.parts.forEach(({ destroy }) => destroy?.());
  const create = VIEWS[route.view];
  if (!create) return missing("There is no such page.");
  const view = create(route, ZONE);
  const heading = h("h1", { tabindex: "-1", "data-focus": "heading" });
  const crumbs = h("nav", { class: "crumbs", "aria-label": "Path" });
  current = { route, view, heading, crumbs, abort: new AbortController(), used: false };
  main.replaceChildren(
    h("div", { class: "view-head" }, h("div", {}, crumbs, heading, view.identifiers ?? null), controls(route, ZONE)),
    view.subtitle ?? "", view.element);
  for (const link of document.querySelectorAll(".views a")) {
    const here = link.dataset.view === route.view;
    link.setAttribute("href", href({ view: link.dataset.view, range: route.range, filters: route.filters }));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  render();
  if (focus !== null) main.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  poll();
  return undefined;
}

/** What keeps the focus when the view is drawn again: the same control, or else the heading. */
function focusKey() {
  const active = document.activeElement;
  if (!main.contains(active) || active === main) return null;
  return active.dataset.focus ?? "heading";
}

function render() {
  if (!current?.view) return;
  const { view, route, heading, crumbs } = current;
  if (view.resources.some(({ error }) => error?.status === 401)) return askForKey();
  const absent = view.missing();
  if (absent) return missing(absent);
  const title = view.title();
  if (heading.textContent !== title) heading.replaceChildren(name(title));
  document.title = route.view === "overview" ? "chat-stats" : `${title} · chat-stats`;
  const path = [{ text: "All providers", href: href({ view: "overview", range: route.range }) }, ...view.crumbs()];
  const trail = ["overview", "requests"].includes(route.view) ? "" : path.map(({ text }) => text).join("\n");
  if (crumbs.dataset.trail !== trail) {
    crumbs.dataset.trail = trail;
    crumbs.replaceChildren(...(trail ? [h("ol", {}, path.map((step) => h("li", {}, h("a", { href: step.href }, name(step.text)))))] : []));
  }
  if (route.range.bucket === "1mo" && !current.used && view.series?.data?.length > 0 && view.series.data.length <= FEW_MONTHS) return refine();
  view.parts.forEach((part) => part.render());
  scroll.restore({ complete: view.resources.every(({ settled }) => settled) });
  document.getElementById("forget-key").hidden = !key.get();
  tick();
  return undefined;
}

/** Show all time by days: over a short history, months are but a handful of bars. Not while a view is in use. */
function refine() {
  const { route } = current;
  const focus = focusKey();
  scroll.stay();
  show({ ...route, range: { ...route.range, bucket: "1d" } }, { focus });
}

function tick() {
  if (current?.view) freshness.show(current.view.resources, poll);
}

/** Ask for everything that the view shows, then plan the next time: later and later while nothing answers. */
async function poll() {
  clearTimeout(timer);
  if (document.hidden || !current?.view) return;
  announced = false;
  const { view, abort } = current;
  const [found] = await Promise.all([readiness.look(abort.signal), ...view.resources.map((one) => one.refresh(abort.signal).then(() => {
    if (!abort.signal.aborted) render();
  }))]);
  if (abort.signal.aborted || document.hidden) return;
  tick();
  const errors = view.resources.map(({ error }) => error).filter((error) => error?.silent);
  failures = errors.length === view.resources.length ? failures + 1 : 0;
  unsettled = errors.length > 0 || view.resources.some(({ staleSince }) => staleSince !== null) ? unsettled + 1 : 0;
  // Some parts of this answer may be from memory still, as one request finds out that Redis is back.
  recovered ||= found;
  const soon = recovered || failures > 0 || (unsettled > 0 && unsettled <= SOON_TIMES);
  recovered = false;
  const asked = failures ? Math.max(...errors.map(({ retryAfter }) => retryAfter)) : 0;
  const pause = Math.min(LONGEST_PAUSE_SECONDS, Math.max(asked, (soon ? SOON_SECONDS : events.live() ? LIVE_POLL_SECONDS : POLL_SECONDS) * 2 ** Math.max(0, failures - 1)));
  plan(performance.now() + (announced ? Math.random() * SPREAD_MS : pause * 1000));
  if (failures === 0) events.listen(heard);
}

/** A generation was published: ask for its numbers, unless all that is shown has them. */
function heard({ generation, windows }) {
  if (windows !== null) return hearTotals(generation, windows);
  const cached = current?.view?.resources.filter((one) => one.cached) ?? [];
  if (cached.every(({ metadata }) => metadata?.generation >= generation)) return;
  announced = true;
  plan(performance.now() + Math.random() * SPREAD_MS);
  return undefined;
}

/**
 * Ask for new totals of these windows alone, beside the polls; while nothing answers, the polls find out first. They
 * come each second: while the user presses or selects something, nothing is drawn beneath it.
 */
function hearTotals(generation, windows) {
  const { view, abort } = current;
  const newer = view?.resources.filter((one) => one.hasTotalsOf(windows) && !(one.metadata?.generation >= generation)) ?? [];
  if (newer.length === 0 || failures > 0) return;
  setTimeout(() => {
    if (abort.signal.aborted || document.hidden || busy()) return;
    for (const one of newer) one.refresh(abort.signal).then(() => abort.signal.aborted || busy() || render());
  }, Math.random() * SPREAD_MS);
}

const busy = () => pressed || !getSelection().isCollapsed;

/** Poll at that time; until then, while Redis is away, ask every few seconds whether it is back, and poll then. */
function plan(due) {
  clearTimeout(timer);
  const pause = due - performance.now();
  if (readiness.trouble === null || pause <= SOON_SECONDS * 1000) {
    timer = setTimeout(poll, Math.max(0, pause));
    return;
  }
  timer = setTimeout(async () => {
    const { signal } = current.abort;
    recovered = await readiness.look(signal);
    if (signal.aborted || document.hidden) return;
    if (recovered) poll();
    else plan(due);
  }, SOON_SECONDS * 1000);
}

function missing(text) {
  const inside = main.contains(document.activeElement);
  leave("Not found");
  const heading = h("h1", { tabindex: "-1" }, "Not found");
  main.replaceChildren(h("div", { class: "notice" }, heading, h("p", {}, text), h("p", {}, h("a", { href: "#/" }, "All providers"))));
  if (inside) heading.focus({ preventScroll: true });
}

/** Reading needs a key: ask for one, and keep it for this tab alone. */
function askForKey() {
  const refused = Boolean(key.get());
  const route = current.route;
  leave("API key needed");
  key.forget();
  forgetAll();
  dimensions.forget();
  const input = h("input", { type: "password", id: "key", autocomplete: "off", required: true, "aria-describedby": "key-note", "aria-invalid": refused ? "true" : null });
  const form = h("form", {
    class: "notice",
    onsubmit: (event) => {
      event.preventDefault();
      key.set(input.value.trim());
      show(route, { focus: "heading" });
    },
  },
  h("h1", {}, "An API key is needed"),
  h("p", { id: "key-note", role: refused ? "alert" : null },
    refused ? "This key is not accepted. Check it and try again." : "This service shows its statistics to those who have a key. It is kept in this tab alone."),
  h("label", { for: "key" }, "API key"), h("div", { class: "row" }, input, h("button", { type: "submit" }, "Show the statistics")));
  main.replaceChildren(form);
  input.focus();
}

function leave(title) {
  current?.abort.abort();
  current?.view?.parts.forEach(({ destroy }) => destroy?.());
  clearTimeout(timer);
  events.stop();
  current = { route: current?.route ?? null, view: null, abort: new AbortController() };
  freshness.show([], poll);
  document.title = `${title} · chat-stats`;
}

for (const use of ["focusin", "click"]) {
  main.addEventListener(use, ({ target }) => {
    if (current && target !== current.heading && !target.closest(".controls")) current.used = true;
  });
}
addEventListener("pointerdown", () => { pressed = true; });
for (const release of ["pointerup", "pointercancel", "blur"]) addEventListener(release, () => { pressed = false; });
addEventListener("hashchange", () => {
  const route = parse(location.hash);
  if (route === null) return;
  const before = current?.route;
  const same = before?.view === route.view && before?.id === route.id;
  scroll.move({ otherwise: same ? scrollY : 0 });
  show(route, { focus: same ? focusKey() : "heading" });
});
document.addEventListener("visibilitychange", () => {
  tick();
  if (document.hidden) {
    clearTimeout(timer);
    events.stop(); // browsers open few connections to one host
  } else poll();
});
addEventListener("online", poll);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would otherwise replace the view's
  main.focus();
});
document.getElementById("sources").addEventListener("toggle", tick);
document.getElementById("forget-key").addEventListener("click", () => {
  key.forget();
  location.reload();
});
setInterval(tick, 1000);
show(parse(location.hash) ?? parse(""), { focus: null });
