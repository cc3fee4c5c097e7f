// The greeting of a database without requests: three steps to the first numbers.

import { resource } from "./api.js";
import { h } from "./dom.js";

export function welcome() {
  const element = h("section", { class: "panel welcome", hidden: true }, h("h2", {}, "No requests yet"),
    h("ol", {},
      step("Connect the gateway's database", "The statistics come from its tables of providers, models and requests; nothing in it changes but what migrate adds.", "CHAT_STATS_DATABASE_URL=postgresql://... chat-stats migrate"),
      step("Or import a log", "A CSV file, with a row for each request.", "chat-stats import requests.csv"),
      step("Or look at sample data first", "A local stack of its own, with 90 days of requests; it leaves this database alone.", "chat-stats demo")));
  return {
    element,
    /** Greet when there is no request at all, and not only none in this range. */
    async update({ total_requests: found }) {
      if (found) return element.setAttribute("hidden", "");
      const all = resource("Totals", "chat-requests/summary", { window: "all" });
      await all.refresh(AbortSignal.timeout(20_000));
      element.hidden = all.data?.total_requests !== 0;
      return undefined;
    },
  };
}

function step(title, text, command) {
  return h("li", {}, h("b", {}, title), h("p", { class: "note" }, text), h("pre", { class: "command", tabindex: "0", "aria-label": title }, command));
}
