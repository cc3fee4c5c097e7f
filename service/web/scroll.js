// Keeps the scroll position of each entry of the browser's history: the browser would restore it before there is
// anything to scroll.

const KEY = "chat-stats-scroll";
const KEPT = 50;

history.scrollRestoration = "manual";
const positions = new Map(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
let entry = identify();
let wanted = positions.get(entry) ?? null;

/** The id of the current entry of the history; a new entry gets one. */
function identify() {
  if (!history.state?.entry) history.replaceState({ entry: crypto.getRandomValues(new Uint32Array(2)).join("") }, "");
  return history.state.entry;
}

function store() {
  positions.delete(entry);
  positions.set(entry, wanted ?? scrollY);
  if (positions.size > KEPT) positions.delete(positions.keys().next().value);
}

/** Before another view is drawn: keep the position of the one that is left, find that of the one to come. */
export function move({ otherwise }) {
  store();
  entry = identify();
  wanted = positions.get(entry) ?? otherwise;
}

/** Stay here while a view is drawn again. */
export function stay() {
  wanted ??= scrollY;
}

/** Scroll to where the view is to be; again and again until all of it is drawn, since parts grow as they arrive. */
export function restore({ complete }) {
  if (wanted === null) return;
  if (Math.abs(scrollY - wanted) > 1) scrollTo(0, wanted);
  if (complete) wanted = null;
}

// The user scrolls: from then on the position is the user's.
for (const use of ["wheel", "touchmove", "pointerdown", "keydown"]) {
  addEventListener(use, () => {
    wanted = null;
  }, { passive: true });
}
addEventListener("pagehide", () => {
  store();
  sessionStorage.setItem(KEY, JSON.stringify([...positions]));
});
