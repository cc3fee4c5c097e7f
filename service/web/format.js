// Numbers, times and durations as people read them.

const LOCALE = "en-US";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });
const cents = new Intl.NumberFormat(LOCALE, { minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const short = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 3 });

export const NONE = "–";

const missing = (value) => value === null || value === undefined || Number.isNaN(Number(value));

/** 12,345: exact. */
export function exact(value) {
  return missing(value) ? NONE : whole.format(value);
}

/** 9,999, then 12.3K, 1.24M. */
export function count(value) {
  if (missing(value)) return NONE;
  return Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value);
}

/** 345,678, then 1.24M: for a figure that has room. */
export function total(value) {
  return missing(value) || Math.abs(value) >= 1_000_000 ? count(value) : whole.format(value);
}

/** 8.2 ms, 812 ms, 1.24 s, 12.4 s, 3.2 min. */
export function duration(ms) {
  if (missing(ms)) return NONE;
  const value = Number(ms);
  if (value === 0) return "0 ms";
  if (value < 999.5) return `${value.toFixed(value < 9.95 ? 1 : 0)} ms`;
  const seconds = value / 1000;
  if (seconds < 99.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  return seconds < 600 ? `${Math.round(seconds)} s` : `${(seconds / 60).toFixed(1)} min`;
}

/** The same without needless zeros, for an axis: 200 ms, 10 s. */
export function tick(ms) {
  const value = Number(ms);
  if (value < 1000) return `${short.format(value)} ms`;
  return value < 6_000_000 ? `${short.format(value / 1000)} s` : `${short.format(value / 60_000)} min`;
}

/** $0.00042, $4.83, $1,204, $1.2M. */
export function dollars(value) {
  if (missing(value)) return NONE;
  const amount = Number(value);
  if (amount === 0) return "$0";
  if (amount < 0.1) return `$${cents.format(amount)}`;
  if (amount < 1000) return `$${amount.toFixed(2)}`;
  return amount < 100_000 ? `$${whole.format(amount)}` : `$${compact.format(amount)}`;
}

/** The same for an axis: $16. */
export function dollarTick(value) {
  return Number.isInteger(value) && value < 1000 ? `$${value}` : dollars(value);
}

/** 98.01 %; never 100 % where anything failed. */
export function percent(share) {
  if (missing(share)) return NONE;
  const value = Number(share) * 100;
  if (value === 0 || value === 100) return `${value}%`;
  const places = value > 99 ? 2 : 1;
  const step = 10 ** places;
  return `${(Math.min(Math.round(value * step), 100 * step - 1) / step).toFixed(places)}%`;
}

/** 12 s, 4 min, 3 h, 2 days. */
export function age(seconds) {
  const value = Math.max(0, seconds);
  if (value < 90) return `${Math.floor(value)} s`;
  if (value < 90 * 60) return `${Math.round(value / 60)} min`;
  if (value < 36 * 3600) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} days`;
}

/** +12.3%, −4%, for a share of change; null: there was nothing before. */
export function change(share) {
  if (missing(share)) return "new";
  if (Number(share) === 0) return "±0%";
  const value = Math.abs(Number(share) * 100);
  return `${share > 0 ? "+" : "−"}${value >= 1000 ? count(Math.round(value)) : value.toFixed(value < 10 ? 1 : 0)}%`;
}

const MOMENT = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" };
const moments = new Intl.DateTimeFormat(LOCALE, { ...MOMENT, hourCycle: "h23" });
const days = new Intl.DateTimeFormat(LOCALE, { month: "short", day: "numeric" });
const daysOfYears = new Intl.DateTimeFormat(LOCALE, { month: "short", day: "numeric", year: "numeric" });
const months = new Intl.DateTimeFormat(LOCALE, { month: "short", year: "numeric" });
const hourClock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** Jan 4, 2026, 12:00:00, in the browser's time zone. */
export function moment(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? NONE : moments.format(date);
}

/** The day alone, without the year if it is this year: Jan 4. */
export function day(value) {
  const date = new Date(value);
  return (date.getFullYear() === new Date().getFullYear() ? days : daysOfYears).format(date);
}

/** Jan 4, 12:00 */
export function minute(value) {
  return `${day(value)}, ${hour(value)}`;
}

/** 12:00 */
export function hour(value) {
  return hourClock.format(new Date(value));
}

/** Jan 2026 */
export function month(value) {
  return months.format(new Date(value));
}

/** 12:00:00 */
export function time(value) {
  return clock.format(new Date(value));
}

const BUCKETS = {
  "15m": { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  "1h": { weekday: "short", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  "1d": { weekday: "short", year: "numeric", month: "short", day: "numeric" },
  "1w": { year: "numeric", month: "short", day: "numeric" },
  "1mo": { year: "numeric", month: "long" },
};

/** The start of a bucket, in the words that its length calls for. */
export function bucket(value, length) {
  const text = new Intl.DateTimeFormat(LOCALE, BUCKETS[length] ?? MOMENT).format(new Date(value));
  return length === "1w" ? `Week of ${text}` : text;
}
