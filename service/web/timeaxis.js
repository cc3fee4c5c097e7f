// The axis of a series over time, the same for all charts of the series: where it begins, which of its intervals are
// partial, and where its ticks are.

import * as format from "./format.js";

const HOUR_MS = 3_600_000;
const UNIT_MS = { h: HOUR_MS, d: 24 * HOUR_MS };
// A long range that is blank for longer than this share of it begins where its requests begin.
const LONG_MS = 45 * 24 * HOUR_MS;
const BLANK_SHARE = 0.25;

const startOf = (point) => Date.parse(point.bucket_start);

/**
 * Return {points, since, partial} of an answer: the points to draw, the start of the first one when those before it are
 * left out (else null), and for each partial point its index and what it covers, in words.
 */
export function timeline(points, metadata, range) {
  const first = points.findIndex((point) => point.total_requests > 0);
  const isLong = points.length > 1 && startOf(points.at(-1)) - startOf(points[0]) > LONG_MS;
  const blank = isLong && first > points.length * BLANK_SHARE;
  const shown = blank ? points.slice(first) : points;
  return { points: shown, since: blank ? shown[0].bucket_start : null, partial: partialOf(shown, metadata, range) };
}

function partialOf(points, metadata, { window, start: from, end: to, bucket }) {
  const partial = new Map();
  const now = Date.parse(metadata.computed_at);
  if (points.length === 0 || Number.isNaN(now)) return partial;
  const [, count, unit] = /^(\d+)([hd])$/.exec(window) ?? [];
  // All time begins with the first request.
  const start = window === null ? Date.parse(from) : unit ? now - count * UNIT_MS[unit] : -Infinity;
  const until = window === null ? Math.min(now, Date.parse(to)) : now;
  const last = points.length - 1;
  if (startOf(points[0]) < start) partial.set(0, `from ${format.minute(start)}`);
  if (endOf(startOf(points[last]), bucket) > until && startOf(points[last]) < until) {
    partial.set(last, [partial.get(last), `until ${format.minute(until)}`].filter(Boolean).join(" "));
  }
  return partial;
}

/** The end of the interval that begins then, exclusive. */
export function endOf(start, bucket) {
  const end = new Date(start);
  if (bucket === "1d") end.setDate(end.getDate() + 1);
  else if (bucket === "1w") end.setDate(end.getDate() + 7);
  else if (bucket === "1mo") end.setMonth(end.getMonth() + 1);
  else return start + (bucket === "15m" ? HOUR_MS / 4 : HOUR_MS);
  return end.getTime();
}

const hours = (every) => (time) => new Date(time).getMinutes() === 0 && new Date(time).getHours() % every === 0;
const monthStarts = (time) => new Date(time).getDate() === 1;
const all = () => true;
const inSteps = (of, steps, text, pixels) => steps.map((step) => ({ of, step, text, pixels }));
const hourOrDay = (time) => (hours(24)(time) ? format.day(time) : format.hour(time));

/** From fine to coarse: of the starts of buckets that are `of`, each `step`th, with a text that takes so many pixels. */
const LEVELS = {
  "15m": [...inSteps(all, [1, 2], hourOrDay, 64), ...[1, 2, 3, 6].flatMap((every) => inSteps(hours(every), [1], hourOrDay, 64))],
  "1h": [
    ...[1, 3, 6, 12].flatMap((every) => inSteps(hours(every), [1], hourOrDay, 64)),
    ...inSteps(hours(24), [1, 2, 3, 7], format.day, 64),
  ],
  "1d": [...inSteps(all, [1, 2, 3, 5, 7, 14], format.day, 64), ...inSteps(monthStarts, [1, 2, 3, 6, 12], format.month, 80)],
  "1w": inSteps(all, [1, 2, 4, 8, 13], format.day, 64),
  "1mo": inSteps(all, [1, 2, 3, 6, 12, 24], format.month, 80),
};

/** Return the ticks that fit: times, each with its text. They depend on no chart's values, only on its width. */
export function ticks(times, bucket, pixels) {
  const levels = LEVELS[bucket].map(({ of, step, text, pixels: each }) => {
    const values = times.filter(of).filter((_, index) => index % step === 0);
    return { values, text, fits: values.length > 0 && values.length * each <= pixels };
  });
  const { values, text } = levels.find(({ fits }) => fits) ?? levels.findLast(({ values: some }) => some.length > 0);
  return new Map(values.map((value) => [value, text(value)]));
}
