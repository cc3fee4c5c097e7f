// Single requests: by every filter of the API, in pages, each in full, and all as a download.

import { resource } from "../api.js";
import { downloads } from "../downloads.js";
import { h } from "../dom.js";
import { filterBar } from "../filters.js";
import * as format from "../format.js";
import { panel } from "../panel.js";
import { timeOf } from "../ranges.js";
import { FAILED, filterParameters, href } from "../route.js";
import * as tables from "../tables.js";

const PAGE = 50;
const ORDERS = [
  [null, "Newest first"], ["created_at", "Oldest first"], ["-cost_usd", "Most expensive first"],
  ["-processing_time_ms", "Slowest first"], ["-input_tokens", "Most input first"], ["-output_tokens", "Most output first"],
];
const QUICK = [["Failed", FAILED], ["Without a model", ["model_id", "unresolved"]]];

/** The cursor of the page before each, as far as the pages were walked through; null: the first page. */
const before = new Map();

export function requests(route) {
  const question = { ...timeOf(route.range), ...filterParameters(route.filters), order_by: route.order };
  const page = resource("Requests", "chat-requests", { ...question, limit: PAGE, cursor: route.cursor }, { cached: false });
  const at = (cursor) => href({ ...route, cursor, tables: {} });
  const count = h("p", { class: "note", role: "status" });
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  const rows = tables.requests(route, { withModel: true, caption: "Requests" });
  const content = {
    element: h("div", {}, h("div", { class: "tools" }, count, order(route)), rows.element, pages),
    update(data, metadata) {
      rows.update(data);
      const { total_count: total, next_cursor: next } = metadata;
      const whole = (metadata.unavailable ?? []).includes("total_count") || total === null ? "" : ` of ${format.exact(total)}`;
      count.textContent = `${format.exact(data.length)}${whole} requests`;
      if (next) before.set(next, route.cursor);
      const link = (text, cursor) => h("a", { href: at(cursor), "data-focus": `page-${text}` }, text);
      const previous = before.get(route.cursor);
      pages.replaceChildren(...[
        route.cursor && link("First page", null),
        previous && link("Previous page", previous),
        next && link("Next page", next),
      ].filter(Boolean));
    },
  };
  const part = panel("Requests", page, content);
  return {
    title: () => "Requests",
    crumbs: () => [],
    missing: () => null,
    resources: [page],
    parts: [part],
    subtitle: filterBar(route, { quick: QUICK, textual: ["model_name"] }),
    element: h("div", { class: "view" }, downloads("chat-requests", question), part.element),
  };
}

function order(route) {
  return h("label", { class: "order" }, "Order ", h("select", {
    "data-focus": "order",
    onchange: (event) => {
      location.hash = href({ ...route, order: event.target.value || null, cursor: null, tables: {} });
    },
  }, ORDERS.map(([value, label]) => h("option", { value: value ?? "", selected: value === route.order }, label))));
}
