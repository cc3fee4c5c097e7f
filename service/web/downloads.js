// What is shown, taken along: as CSV, as Parquet, as a curl command.

import { ask, key } from "./api.js";
import { h } from "./dom.js";

const MOST = 100_000;
const TYPES = { csv: "text/csv", parquet: "application/vnd.apache.parquet" };

/** Buttons for an address of the API with these parameters. */
export function downloads(path, parameters) {
  const said = h("p", { class: "note", role: "status" });
  const command = h("pre", { class: "command", tabindex: "0", "aria-label": "Command", hidden: true });
  const save = (format, label) => h("button", { type: "button", onclick: (event) => download(event.target, format) }, label);

  async function download(button, format) {
    button.disabled = true;
    said.textContent = "Downloading";
    try {
      // Fetched, not linked to: a link sends no key, and would save an error as if it were the file.
      const answer = await ask(address(path, { ...parameters, limit: MOST, format }), { accept: TYPES[format] });
      const file = URL.createObjectURL(await answer.blob());
      h("a", { href: file, download: `requests.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(file), 60_000);
      said.textContent = `Downloaded up to ${MOST.toLocaleString("en-US")} requests.`;
    } catch (error) {
      said.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }

  async function copy() {
    command.textContent = curl(path, parameters);
    command.hidden = false;
    try {
      await navigator.clipboard.writeText(command.textContent);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "Copy the command below."; // without TLS there is no clipboard
    }
  }

  return h("div", { class: "downloads" },
    h("div", { class: "row", role: "group", "aria-label": "Take along" },
      save("csv", "Download CSV"), save("parquet", "Download Parquet"),
      h("button", { type: "button", onclick: copy }, "Copy as curl"), said),
    command);
}

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, given] of Object.entries(parameters)) {
    for (const value of [given].flat()) if (value !== null && value !== undefined) query.append(name, value);
  }
  return `${path}?${query}`;
}

/** The command for the same requests; the key is taken from a variable, since commands are kept and shared. */
function curl(path, parameters) {
  const quoted = new URL(`api/monitoring/${address(path, parameters)}`, document.baseURI).href.replaceAll("'", "%27");
  const secret = key.get() ? "-H \"X-API-Key: $CHAT_STATS_API_KEY\" " : "";
  return `curl -s ${secret}'${quoted}'`;
}
