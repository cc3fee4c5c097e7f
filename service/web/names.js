// The names under which providers and models were last shown: a view has its title, and a filter its words, at once.

const names = new Map();

export const remember = (view, id, text) => names.set(`${view}/${id}`, text);

/** The name under which the provider or model was last shown, if it was. */
export const lastName = (view, id) => names.get(`${view}/${id}`) || null;

/** The name of a value of a dimension, for those that have ids. */
export const nameOf = (dimension, value) => lastName(dimension.replace(/_id$/, ""), value);
