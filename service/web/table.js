// A table that sorts by its header's buttons, is searched, and keeps both, and the focus, when numbers change. The
// address keeps them too, so that Back and a change of the range find them.

import { h } from "./dom.js";
import { exact } from "./format.js";

let tables = 0;

/**
 * columns: {label, value(row): what it sorts by, cell(row): node or text, numeric, optional: hidden on a phone}
 * options: caption (for screen readers), rowId(row), text(row): what the search looks at (none: no search),
 *          sort: index of the column sorted by at first (none: the order of the rows), empty: said without rows,
 *          first: how many rows are shown until all are asked for, memory: of route.js's tableState()
 */
export function table({ caption, columns, rowId, memory, text = null, sort = null, empty = "Nothing in this range.", first = 50 }) {
  tables += 1;
  const initial = { sort, descending: sort !== null && Boolean(columns[sort].numeric) };
  const { search: searched = "", all = false } = memory.given;
  const state = { rows: [], ...(sorting(memory.given.sort) ?? initial), search: text ? searched : "", all };
  const body = h("tbody");
  const summary = h("p", { class: "table-note", role: "status" });
  const more = h("button", { type: "button", class: "link", onclick: showAll });
  const headers = columns.map((column, index) => header(column, () => sortBy(index)));
  const search = text && h("input", {
    type: "search", id: `search-${tables}`, placeholder: "Search", autocomplete: "off", spellcheck: "false",
    value: state.search || null,
    oninput: (event) => change({ search: event.target.value }),
  });
  const element = h("div", { class: "table" },
    search && h("div", { class: "table-tools" },
      h("label", { class: "hidden", for: search.id }, `Search: ${caption}`), search, summary),
    h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
      h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, headers)), body)),
    more);

  function sortBy(index) {
    change({ sort: index, descending: state.sort === index ? !state.descending : Boolean(columns[index].numeric) });
  }

  /** What the user changes, the address keeps; what is as it was at first, it does not mention. */
  function change(changes) {
    show(changes);
    const same = state.sort === initial.sort && state.descending === initial.descending;
    const by = same ? "" : `${state.descending ? "-" : ""}${key(columns[state.sort])}`;
    memory.keep({ search: state.search.trim(), sort: by, all: state.all });
  }

  /** A column's key, behind a minus when descending, as the address has it; null when there is no such column. */
  function sorting(by = "") {
    const found = columns.findIndex((column) => key(column) === by.replace(/^-/, ""));
    return found < 0 ? null : { sort: found, descending: by.startsWith("-") };
  }

  function show(changes) {
    Object.assign(state, changes);
    const focus = focused(body);
    const found = matching();
    const shown = state.all ? found : found.slice(0, first);
    body.replaceChildren(...(shown.length ? shown.map(line) : [nothing()]));
    refocus(body, focus);
    headers.forEach((cell, index) => {
      const order = state.descending ? "descending" : "ascending";
      cell.setAttribute("aria-sort", state.sort === index ? order : "none");
    });
    more.hidden = shown.length === found.length;
    more.textContent = `Show all ${exact(found.length)}`;
    const note = state.search.trim() ? `${exact(found.length)} of ${exact(state.rows.length)}` : exact(state.rows.length);
    if (summary.textContent !== note) summary.textContent = note;
  }

  /** The button goes with the click: who pressed it from the keyboard goes on at the first row that is new. */
  function showAll() {
    const before = body.rows.length;
    change({ all: true });
    const added = body.rows[before];
    (added?.querySelector("a, button") ?? element.querySelector(".scroll")).focus({ preventScroll: true });
  }

  function matching() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length
      ? state.rows.filter((row) => words.every((word) => text(row).toLowerCase().includes(word)))
      : [...state.rows];
    if (state.sort === null) return found;
    const { value } = columns[state.sort];
    return found.sort((one, other) => compare(value(one), value(other), state.descending));
  }

  function line(row) {
    return h("tr", { "data-row": String(rowId(row)) }, columns.map((column, index) =>
      h(index === 0 ? "th" : "td", { class: classes(column), scope: index === 0 ? "row" : null }, column.cell(row))));
  }

  function nothing() {
    const said = state.rows.length ? "Nothing matches the search." : empty;
    return h("tr", {}, h("td", { colspan: columns.length, class: "nothing" }, said));
  }

  show({});
  return { element, update: (rows) => show({ rows }) };
}

const key = ({ label }) => label.toLowerCase();

function header(column, onclick) {
  return h("th", { scope: "col", class: classes(column), "aria-sort": "none" },
    h("button", { type: "button", onclick }, column.label, h("span", { class: "arrow", "aria-hidden": "true" })));
}

function classes({ numeric, optional, wide }) {
  return [numeric && "numeric", optional && "optional", wide && "wide"].filter(Boolean).join(" ") || null;
}

/** Missing values come last, whichever way it is sorted. */
function compare(one, other, descending) {
  const absent = (value) => value === null || value === undefined || value === "";
  if (absent(one) || absent(other)) return Number(absent(one)) - Number(absent(other));
  const order = typeof one === "number" && typeof other === "number"
    ? one - other
    : String(one).localeCompare(String(other), undefined, { numeric: true, sensitivity: "base" });
  return descending ? -order : order;
}

function focused(body) {
  const row = body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
  return row && { id: row.dataset.row, index: [...row.querySelectorAll("a, button")].indexOf(document.activeElement) };
}

function refocus(body, focus) {
  if (!focus) return;
  const row = [...body.rows].find((candidate) => candidate.dataset.row === focus.id);
  row?.querySelectorAll("a, button")[focus.index]?.focus({ preventScroll: true });
}
