// Elements, made without HTML: a string can only ever become text.

/**
 * Return an element. Attributes: `on...` are listeners, null and false are left out, true is an empty one.
 * Children: nodes and texts, in lists as deep as they come; null is left out.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A name from the database: isolated, so that its writing direction ends with it. */
export function name(text, fallback = "(no name)") {
  const shown = text === null || text === undefined || String(text).trim() === "" ? fallback : String(text);
  return h("bdi", { class: "name", title: shown }, shown);
}
