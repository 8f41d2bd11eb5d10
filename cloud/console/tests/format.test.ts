/** Owns the proof that numbers, times and durations are written as promised. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { calendarDate, clockTime, duration, fixed, fraction, grouped, plain, shortInstant, tickLabel, timeOrDay, zoneLabel } from "../src/format.ts";

test("a value that is not known is a dash and never a 0", () => {
  for (const nothing of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) assert.equal(fixed(nothing, 1), "—");
});

test("a value has exactly its point's decimals, and zero has no sign", () => {
  assert.equal(fixed(28, 1), "28.0");
  assert.equal(fixed(1.4549, 3), "1.455");
  assert.equal(fixed(-0.04, 1), "0.0");
  assert.equal(fixed(-0.06, 1), "-0.1");
});

test("times are those of the site and not of the workstation", () => {
  const at = "2026-11-21T16:00:05.000Z";
  assert.equal(clockTime(at, "Asia/Shanghai"), "00:00:05");
  assert.equal(calendarDate(at, "Asia/Shanghai"), "2026-11-22");
  assert.equal(clockTime(at, "UTC"), "16:00:05");
  assert.equal(zoneLabel(Date.parse(at), "Asia/Shanghai"), "UTC+8");
});

test("another day's time carries its date", () => {
  const now = Date.parse("2026-11-22T04:00:00Z");
  assert.equal(shortInstant("2026-11-22T03:00:00Z", "Asia/Shanghai", now), "11:00:00");
  assert.equal(shortInstant("2026-11-21T03:00:00Z", "Asia/Shanghai", now), "11-21 11:00:00");
  assert.equal(timeOrDay("2026-11-21T16:00:00Z", "Asia/Shanghai", now), "00:00:00");
  assert.equal(timeOrDay("2026-11-21T15:59:59Z", "Asia/Shanghai", now), "11-21");
});

test("another year's time carries its year: a certificate that ends in two years does not end today", () => {
  const now = Date.parse("2026-11-22T04:00:00Z");
  assert.equal(shortInstant("2028-11-21T15:00:00Z", "Asia/Shanghai", now), "2028-11-21 23:00:00");
  assert.equal(shortInstant("2026-12-31T16:00:00Z", "Asia/Shanghai", now), "2027-01-01 00:00:00");
  assert.equal(timeOrDay("2025-11-22T03:00:00Z", "Asia/Shanghai", now), "2025-11-22");
});

test("a tick shows the day where one begins or when ticks are days apart, and the time otherwise", () => {
  const midnight = Date.parse("2026-11-21T16:00:00Z");
  const zone = "Asia/Shanghai";
  assert.equal(tickLabel(midnight + 30_000, zone, 10), "00:00:30");
  assert.equal(tickLabel(midnight + 3_600_000, zone, 3600), "01:00");
  assert.equal(tickLabel(midnight, zone, 3600), "11-22");
  assert.equal(tickLabel(midnight + 3_600_000, zone, 86_400), "11-22");
  assert.equal(tickLabel(midnight, zone, 30 * 86_400), "2026-11-22");
});

test("durations have at most two steps", () => {
  assert.equal(duration(-3), "0 s");
  assert.equal(duration(59.4), "59 s");
  assert.equal(duration(260), "4 min 20 s");
  assert.equal(duration(3600), "1 h");
  assert.equal(duration(7500), "2 h 5 min");
  assert.equal(duration(90_000), "1 d 1 h");
});

test("a set point has no trailing zeros and counters are grouped", () => {
  assert.equal(plain(28.0), "28");
  assert.equal(plain(0.1 + 0.2), "0.3");
  assert.equal(grouped(1_234_567), "1 234 567");
});

test("a place in a range stays within it and is unknown without a range", () => {
  assert.equal(fraction(150, 0, 100), 1);
  assert.equal(fraction(25, 0, 100), 0.25);
  assert.equal(fraction(null, 0, 100), null);
  assert.equal(fraction(5, null, 100), null);
  assert.equal(fraction(5, 100, 100), null);
});
