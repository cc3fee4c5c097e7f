// One request in full, in a dialog: all its columns, its error first.

import { h, name } from "./dom.js";
import * as format from "./format.js";

const SHOWN = {
  created_at: format.moment, processing_time_ms: format.duration, cost_usd: format.dollars,
  input_tokens: format.exact, output_tokens: format.exact, total_tokens: format.exact,
};

/** Show it; the focus returns to where it was when the dialog is closed. */
export function openRequest(row) {
  const copied = h("span", { class: "note", role: "status" });
  const { models, error_message: error, ...columns } = row;
  const all = { ...columns, model: models?.model_name, provider: models?.providers?.name };
  const json = JSON.stringify(row, null, 2);
  const raw = h("pre", { class: "command", tabindex: "0", "aria-label": "JSON", hidden: true }, json);
  const heading = h("h2", { id: "request-heading" }, "Request ", name(row.request_id ?? row.id));
  const dialog = h("dialog", { class: "request", "aria-labelledby": heading.id },
    h("div", { class: "request-head" }, heading,
      h("form", { method: "dialog" }, h("button", { type: "submit", class: "close", "aria-label": "Close" }, "×"))),
    error && h("p", { class: "request-error" }, name(error)),
    h("dl", {}, Object.entries(all).flatMap(([label, value]) => [h("dt", {}, label), h("dd", {}, shown(label, value))])),
    h("div", { class: "row" }, h("button", { type: "button", onclick: copy }, "Copy as JSON"), copied),
    raw);

  async function copy() {
    try {
      await navigator.clipboard.writeText(json);
      copied.textContent = "Copied.";
    } catch {
      raw.hidden = false;
      copied.textContent = "Copy the text below."; // without TLS there is no clipboard
    }
  }

  const close = () => dialog.close(); // another view has other requests
  addEventListener("hashchange", close);
  dialog.addEventListener("close", () => {
    removeEventListener("hashchange", close);
    dialog.remove();
  });
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // beside it
  document.body.append(dialog);
  dialog.showModal();
}

function shown(label, value) {
  if (value === null || value === undefined) return format.NONE;
  if (typeof value === "object") return h("code", {}, JSON.stringify(value));
  return SHOWN[label] ? SHOWN[label](value) : name(value);
}
