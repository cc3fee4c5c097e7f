// Listens to the service's events: one for each refresh that was published, and for totals between two of them.

import { headers } from "./api.js";

const ADDRESS = new URL("api/monitoring/events", document.baseURI);
// After this time without a word the stream is dead, whatever the browser thinks: comments come every 15 seconds.
const SILENT_MS = 45_000;
// A service that cannot or will not send events is asked again after a while: the page polls without them.
const REFUSED_MS = 60_000;
const LONGEST_RETRY_MS = 60_000;
// Without an event for so long, polling is what finds new numbers.
const LIVE_MS = 60_000;

let running = null;
let last = { id: null, at: 0 };
let retryMs = 3000;

/** Whether events come, so that there is less need to poll. */
export const live = () => running !== null && Date.now() - last.at < LIVE_MS;

/**
 * Call `heard` with each generation that is published, until `stop`: {generation, windows: those of which there are
 * new totals alone, or null}. EventSource sends no keys.
 */
export function listen(heard) {
  if (running !== null) return;
  const mine = new AbortController();
  running = mine;
  follow(mine.signal, heard).finally(() => {
    if (running === mine) running = null;
  });
}

export function stop() {
  running?.abort();
  running = null;
}

async function follow(signal, heard) {
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const began = Date.now();
    const wanted = await connect(signal, heard).catch(() => true);
    if (Date.now() - began > SILENT_MS) attempt = 0;
    const pause = wanted ? Math.min(LONGEST_RETRY_MS, retryMs * 2 ** attempt) : REFUSED_MS;
    await sleep(pause * (0.75 + Math.random() / 2), signal);
  }
}

/** Read one stream to its end; returns false when the service refuses it. */
async function connect(signal, heard) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENT_MS);
  try {
    const sent = headers("text/event-stream");
    if (last.id !== null) sent.set("Last-Event-ID", last.id);
    const response = await fetch(ADDRESS, { headers: sent, signal: AbortSignal.any([signal, silence.signal]), cache: "no-store", credentials: "same-origin" });
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MS);
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) take(block, heard);
    }
  } finally {
    clearTimeout(timer);
  }
}

function take(block, heard) {
  const fields = new Map(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
  if (fields.has("retry")) retryMs = Number(fields.get("retry")) || retryMs;
  const totals = fields.get("event") === "totals";
  if (!totals && fields.get("event") !== "generation") return;
  last = { id: fields.get("id"), at: Date.now() };
  heard({ generation: last.id, windows: totals ? JSON.parse(fields.get("data")).windows : null });
}

function sleep(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      done();
    }, { once: true });
  });
}
