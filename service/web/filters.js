// The filters of a view: each can be taken away, and others added, with the values that the requests have.

import { dimensions, filterValue, load, title, values, words } from "./dimensions.js";
import { h, name as isolated } from "./dom.js";
import { nameOf, remember } from "./names.js";
import { FAILED, href, merged } from "./route.js";

const TYPING_MS = 200;
let lists = 0;

/** The bar of a view. `quick` are filters of one click: [[label, [name, value]]]. */
export function filterBar(route, { quick = [["Failed", FAILED]], textual = [] } = {}) {
  const to = (filters) => href({ ...route, filters, cursor: null, tables: route.tables });
  const active = ([name, value]) => route.filters.some(([other, given]) => other === name && given === value);
  const chips = route.filters.map((filter, index) => chip(filter, to(route.filters.filter((_, other) => other !== index))));
  const offered = quick.filter(([, filter]) => !active(filter)).map(([label, filter]) =>
    h("li", {}, h("a", { class: "chip offer", href: to(merged(route.filters, [filter])), "data-focus": `filter-${label}` }, `+ ${label}`)));
  return h("div", { class: "filters" },
    h("ul", { class: "chips", "aria-label": "Filters" }, chips, offered),
    h("details", { class: "add-filter" }, h("summary", { "data-focus": "add-filter" }, "Add a filter"), form(route, to, textual)));
}

function chip(filter, without) {
  const [label, verb, value] = words(filter, nameOf);
  return h("li", { class: "chip" }, h("span", {}, [label, verb].filter(Boolean).join(" "), " "), value && h("b", {}, isolated(value)),
    h("a", { href: without, "aria-label": `Remove the filter ${[label, verb, value].filter(Boolean).join(" ")}`, "data-focus": "add-filter" }, "×"));
}

function form(route, to, textual) {
  lists += 1;
  const list = h("datalist", { id: `values-${lists}` });
  const dimension = h("select", { "aria-label": "Dimension" });
  const offer = () => {
    const chosen = dimension.value;
    dimension.replaceChildren(...[...dimensions(), ...textual].map((name) =>
      h("option", { value: name, selected: name === chosen }, title(name))));
  };
  offer();
  load().then(offer); // what operators declare
  const verb = h("select", { "aria-label": "Condition" }, h("option", { value: "" }, "is"), h("option", { value: "!" }, "is not"));
  const value = h("input", { type: "text", "aria-label": "Value", list: list.id, placeholder: "Value, empty: none", autocomplete: "off", spellcheck: "false" });
  let found = [];
  let asked = new AbortController();

  async function suggest() {
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    if (textual.includes(dimension.value)) return list.replaceChildren();
    try {
      found = await values(dimension.value, value.value, signal);
    } catch {
      return undefined; // without suggestions any value can be typed
    }
    if (signal.aborted) return undefined;
    for (const one of found) if (one.name) remember(dimension.value.replace(/_id$/, ""), one.value, one.name);
    list.replaceChildren(...found.map((one) => h("option", { value: one.name ?? one.value ?? "" }, one.name ? `id ${one.value}` : null)));
    return undefined;
  }

  let timer = null;
  value.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(suggest, TYPING_MS);
  });
  value.addEventListener("focus", suggest);
  dimension.addEventListener("change", () => {
    value.value = "";
    verb.disabled = textual.includes(dimension.value);
    suggest();
  });
  return h("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      const text = value.value.trim();
      const isText = textual.includes(dimension.value);
      if (isText && !text) return;
      // A name that is chosen stands for its id.
      const named = found.find((one) => one.name === text);
      const given = isText ? text : filterValue(named ? named.value : text === "" ? null : text);
      const name = dimension.value + (isText ? "" : verb.value);
      location.hash = to(isText ? merged(route.filters, [[name, given]]) : [...route.filters, [name, given]]);
    },
  }, dimension, verb, value, list, h("button", { type: "submit" }, "Add"));
}
