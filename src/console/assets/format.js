// Times, durations and counts as text. Nothing here touches the page.

const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1, us: 0.001, 'µs': 0.001,
  ns: 0.000_001 };

/** Milliseconds of a duration as the API writes it, such as `1m30s`; `null` of what is none. */
export function millis(text) {
  if (typeof text === 'number') return text;
  if (typeof text !== 'string' || text === '') return null;
  let sum = 0;
  for (const [, sign, digits, unit] of text.matchAll(/(-?)(\d+(?:\.\d+)?)\s*(ms|us|µs|ns|[wdhms])/g)) {
    sum += (sign ? -1 : 1) * Number(digits) * UNITS[unit];
  }
  return sum;
}

/** A duration in its two largest units: `1 h 30 m`, `250 ms`. */
export function duration(value) {
  const ms = millis(value);
  if (ms === null || Number.isNaN(ms)) return '–';
  const sign = ms < 0 ? '−' : '';
  const length = Math.abs(ms);
  if (length < 1) return length === 0 ? '0 s' : `${sign}${Math.max(1, Math.round(length * 1000))} µs`;
  if (length < 1_000) return `${sign}${Math.round(length)} ms`;
  if (length < 60_000) return `${sign}${(length / 1_000).toFixed(length < 10_000 ? 1 : 0)} s`;
  const parts = [['d', UNITS.d], ['h', UNITS.h], ['m', UNITS.m], ['s', UNITS.s]];
  let rest = Math.round(length / 1_000) * 1_000;
  const shown = [];
  for (const [unit, of] of parts) {
    const count = Math.floor(rest / of);
    rest -= count * of;
    if (count > 0) shown.push(`${count} ${unit}`);
    else if (shown.length > 0) break;
    if (shown.length === 2) break;
  }
  return sign + shown.join(' ');
}

/** The distance of an instant: `in 3 m 20 s`, `5 h ago`. */
export function distance(instant, now) {
  const ms = Date.parse(instant) - now;
  if (Number.isNaN(ms)) return '–';
  const length = Math.abs(ms);
  if (length < 1_000) return 'now';
  const text = length < 60_000 ? `${Math.floor(length / 1_000)} s` : duration(Math.floor(length / 1_000) * 1_000);
  return ms > 0 ? `in ${text}` : `${text} ago`;
}

const two = (n) => String(n).padStart(2, '0');

/** An instant in UTC: `2026-11-30 21:05:09`, with milliseconds if there are any. */
export function utc(instant, millis_too = false) {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return '–';
  const text = date.toISOString().replace('T', ' ').replace('Z', '');
  return millis_too ? text : text.slice(0, 19);
}

/** The same in the zone of the one who looks. */
export function local(instant) {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return '–';
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

const formats = new Map();

/** The same in a named zone; `null` if the browser does not know the zone. */
export function zoned(instant, zone) {
  const date = new Date(instant);
  if (!zone || Number.isNaN(date.getTime())) return null;
  try {
    if (!formats.has(zone)) {
      formats.set(zone, new Intl.DateTimeFormat('sv-SE', {
        timeZone: zone, dateStyle: 'short', timeStyle: 'medium',
      }));
    }
    return formats.get(zone).format(date);
  } catch {
    return null;
  }
}

/** The zone of the one who looks. */
export const viewer_zone = Intl.DateTimeFormat().resolvedOptions().timeZone || 'local time';

/** The clock of an instant, with the day if it is not today's. */
export function clock(instant, now = Date.now()) {
  const text = local(instant);
  return text.slice(0, 10) === local(now).slice(0, 10) ? text.slice(11) : text.slice(5);
}

/** What a `datetime-local` field says, as an instant of the API; `null` if it says nothing. */
export function instant_of_field(value, zone) {
  if (!value) return null;
  const date = new Date(zone === 'utc' ? `${value}Z` : value);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

/** What a `datetime-local` field is to say for an instant. */
export function field_of_instant(instant, zone) {
  return (zone === 'utc' ? utc(instant) : local(instant)).slice(0, 19).replace(' ', 'T');
}

/** A word of the API as a person writes it: `timed_out` → `timed out`. */
export const words = (word) => String(word ?? '').replaceAll('_', ' ');

/** A whole number with thin spaces; a token or a term, which come as text, stays as it is. */
export function count(n) {
  if (n === null || n === undefined) return '–';
  if (typeof n === 'string') return n;
  return Math.abs(n) < 10_000 ? String(n) : n.toLocaleString('en').replaceAll(',', '\u202f');
}

/** A number that a body measured. */
export function measure(n) {
  if (Number.isInteger(n)) return count(n);
  return Number(n).toLocaleString('en', { maximumSignificantDigits: 6 }).replaceAll(',', '\u202f');
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** The start of a long id. */
export const short = (id) => String(id ?? '').slice(0, 8);
