// The ranges of time, of windows that end now and of any other, and the length of the series' buckets over each.

import * as format from "./format.js";

/** The button's label, the API's window, the length of the series' buckets. */
export const RANGES = [
  { label: "1H", name: "Last hour", window: "1h", bucket: "15m" },
  { label: "1D", name: "Last 24 hours", window: "24h", bucket: "1h" },
  { label: "1W", name: "Last 7 days", window: "7d", bucket: "1h" },
  { label: "1M", name: "Last 30 days", window: "30d", bucket: "1d" },
  { label: "6M", name: "Last 180 days", window: "180d", bucket: "1d" },
  { label: "1Y", name: "Last 365 days", window: "365d", bucket: "1w" },
  { label: "All", name: "All time", window: "all", bucket: "1mo" },
];
export const DEFAULT_RANGE = RANGES[2];

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Up to which length of the range its buckets are so long. */
const BUCKETS = [[DAY_MS / 4, "15m"], [8 * DAY_MS, "1h"], [200 * DAY_MS, "1d"], [1000 * DAY_MS, "1w"], [Infinity, "1mo"]];

/** A range between two moments (numbers or texts); null when it is none. Its end is exclusive. */
export function between(start, end) {
  const [from, to] = [new Date(start), new Date(end)];
  if (!(from < to)) return null;
  const bucket = BUCKETS.find(([longest]) => to - from <= longest)[1];
  const [first, last] = [from.toISOString(), to.toISOString()];
  return { label: "Custom", name: `${format.minute(from)} to ${format.minute(to)}`, window: null, start: first, end: last, bucket };
}

/** What the API calls this range. */
export function timeOf({ window, start, end }) {
  return window ? { window } : { start_date: start, end_date: end };
}

/** The same until now: what is not over yet is compared with as much of the period before. */
export function elapsed(range) {
  const now = new Date(new Date().setSeconds(0, 0)).toISOString();
  return timeOf(range.window === null && range.start < now && range.end > now ? { ...range, end: now } : range);
}

const startOfDay = (days) => new Date(new Date().setHours(0, 0, 0, 0)).setDate(new Date().getDate() + days);
const startOfMonth = (months) => new Date(new Date().getFullYear(), new Date().getMonth() + months, 1);

/** Ranges of the calendar, by their names. */
export const CALENDAR = [
  { name: "Today", of: () => between(startOfDay(0), startOfDay(1)) },
  { name: "Yesterday", of: () => between(startOfDay(-1), startOfDay(0)) },
  { name: "This month", of: () => between(startOfMonth(0), startOfMonth(1)) },
  { name: "Last month", of: () => between(startOfMonth(-1), startOfMonth(0)) },
];
