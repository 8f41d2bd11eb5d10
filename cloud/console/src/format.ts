/** Owns how numbers, times and durations are written: fixed decimals, the site's time zone, SI symbols for durations. */

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatter(zone: string, kind: "time" | "date" | "zone"): Intl.DateTimeFormat {
  const key = `${zone}|${kind}`;
  let found = formatters.get(key);
  if (found === undefined) {
    const parts: Intl.DateTimeFormatOptions =
      kind === "time"
        ? { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }
        : kind === "date"
          ? { year: "numeric", month: "2-digit", day: "2-digit" }
          : { timeZoneName: "shortOffset" };
    found = new Intl.DateTimeFormat("en-CA", { timeZone: zone, ...parts });
    formatters.set(key, found);
  }
  return found;
}

function millis(at: string | number): number {
  return typeof at === "number" ? at : Date.parse(at);
}

/** HH:MM:SS in the site's time zone. */
export function clockTime(at: string | number, zone: string): string {
  return formatter(zone, "time").format(millis(at));
}

/** YYYY-MM-DD in the site's time zone. */
export function calendarDate(at: string | number, zone: string): string {
  return formatter(zone, "date").format(millis(at));
}

/** The time alone for today, with month and day before it for any other day, and the year where that is another. */
export function shortInstant(at: string | number, zone: string, nowMs: number): string {
  const time = clockTime(at, zone);
  const short = timeOrDay(at, zone, nowMs);
  return short === time ? time : `${short} ${time}`;
}

/** Where there is no room for both: the time for today, the day for any other day. */
export function timeOrDay(at: string | number, zone: string, nowMs: number): string {
  const day = calendarDate(at, zone);
  const today = calendarDate(nowMs, zone);
  if (day === today) return clockTime(at, zone);
  return day.slice(0, 4) === today.slice(0, 4) ? day.slice(5) : day;
}

/** What an axis writes at a tick: the day where one begins, else the time; the day alone when ticks are days apart. */
export function tickLabel(at: number, zone: string, apart_s: number): string {
  const time = clockTime(at, zone);
  if (apart_s >= 86_400 || time === "00:00:00") return calendarDate(at, zone).slice(apart_s >= 28 * 86_400 ? 0 : 5);
  return time.slice(0, apart_s < 60 ? 8 : 5);
}

/** The offset of the zone at that moment, such as UTC+8. */
export function zoneLabel(at: number, zone: string): string {
  const part = formatter(zone, "zone")
    .formatToParts(at)
    .find((p) => p.type === "timeZoneName");
  return (part?.value ?? zone).replace("GMT", "UTC");
}

/** A value with the point's decimals; what is not a number is a dash and never a 0. */
export function fixed(value: number | null | undefined, decimals: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  const text = value.toFixed(decimals);
  return /^-0(\.0*)?$/.test(text) ? text.slice(1) : text;
}

/** A set point as the standard writes it: no trailing zeros. */
export function plain(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** A duration in at most two SI steps: "45 s", "4 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86_400) return pair(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return pair(Math.floor(s / 86_400), "d", Math.floor((s % 86_400) / 3600), "h");
}

function pair(major: number, majorUnit: string, minor: number, minorUnit: string): string {
  return minor === 0 ? `${major} ${majorUnit}` : `${major} ${majorUnit} ${minor} ${minorUnit}`;
}

/** Digits in groups of three, for counters. */
export function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, " ");
}

/** Where a value lies in its range, from 0 to 1, held at the ends; null when range or value is not known. */
export function fraction(value: number | null, low: number | null, high: number | null): number | null {
  if (value === null || low === null || high === null || !(high > low) || !Number.isFinite(value)) return null;
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}
