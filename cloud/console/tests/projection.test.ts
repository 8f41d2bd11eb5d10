/** Owns the proof that the early-warning fan and its countdown are drawn where the server's projection says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fan, heading, lookAhead, passed, secondsLeft } from "../src/projection.ts";
import type { Projection } from "../src/types.ts";

const START = "2026-11-22T00:00:00.000Z";
const START_S = Date.parse(START) / 1000;
const rising: Projection = {
  time: START,
  level: 8,
  slope_per_s: 0.1,
  slope_low_per_s: 0.05,
  slope_high_per_s: 0.2,
  limit: 28,
  limit_kind: "H",
  horizon_s: 600,
  reaches_in_s: 200,
};

test("the middle line meets the limit at the moment that was promised", () => {
  const f = fan(rising, START_S + 300);
  assert.equal(f.meets, START_S + 200);
  assert.equal(f.mid, 38);
  assert.deepEqual([f.low, f.high], [23, 68]);
});

test("the fan ends at the horizon however far the window goes", () => {
  assert.equal(fan(rising, START_S + 5000).end, START_S + 600);
});

test("no meeting is drawn beyond the window or when none is expected", () => {
  assert.equal(fan(rising, START_S + 100).meets, null);
  assert.equal(fan({ ...rising, reaches_in_s: null }, START_S + 500).meets, null);
});

test("the countdown runs from the projection's own time and stops at zero", () => {
  assert.equal(secondsLeft(rising, (START_S + 30) * 1000), 170);
  assert.equal(secondsLeft(rising, (START_S + 900) * 1000), 0);
  assert.equal(secondsLeft({ ...rising, reaches_in_s: null }, START_S * 1000), null);
});

test("the window shows the meeting but at most half as much future as past", () => {
  assert.equal(lookAhead(rising, 600), 300);
  assert.equal(lookAhead({ ...rising, reaches_in_s: 100 }, 600), 150);
  assert.ok(lookAhead(null, 600) < 30);
});

const levels = [
  { kind: "HH", setpoint: 56, side: 1 },
  { kind: "H", setpoint: 28, side: 1 },
  { kind: "L", setpoint: 5, side: -1 },
] as const;

test("a limit that is already passed is named, the farthest on that side, and none while it is ahead", () => {
  assert.equal(passed(rising, levels, 27.9), null);
  assert.equal(passed(rising, levels, 28)?.kind, "H");
  assert.deepEqual(passed(rising, levels, 60), { kind: "HH", setpoint: 56, side: 1 });
  assert.equal(passed({ ...rising, limit: 56, limit_kind: "HH" }, levels, 40), null);
});

test("below a low limit is beyond it, whatever the high limits are", () => {
  const falling: Projection = { ...rising, limit: 5, limit_kind: "L" };
  assert.equal(passed(falling, levels, 6), null);
  assert.equal(passed(falling, levels, 4)?.kind, "L");
});

test("only what moves towards its limit, up or down, has something ahead", () => {
  assert.ok(heading(rising, levels));
  assert.ok(!heading({ ...rising, slope_per_s: -0.1 }, levels));
  assert.ok(heading({ ...rising, limit_kind: "L", slope_per_s: -0.1 }, levels));
});

test("grades of a freeboard count downwards, because its limits say so", () => {
  const freeboard = [
    { kind: "yellow", setpoint: 1.5, side: -1 },
    { kind: "red", setpoint: 1, side: -1 },
  ] as const;
  const falling: Projection = { ...rising, limit: 1.5, limit_kind: "yellow", slope_per_s: -0.001 };
  assert.ok(heading(falling, freeboard));
  assert.equal(passed(falling, freeboard, 1.6), null);
  assert.equal(passed(falling, freeboard, 0.9)?.kind, "red");
});
