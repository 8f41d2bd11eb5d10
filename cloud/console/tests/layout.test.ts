/** Owns the proof that a trend shows what was measured and its limits large, and its marks readable. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { rowsOf, trendWindow, verticalRange } from "../src/layout.ts";
import type { Projection } from "../src/types.ts";

const START = "2026-11-22T00:00:00.000Z";
const START_S = Date.parse(START) / 1000;
const steep: Projection = {
  time: START,
  level: 20,
  slope_per_s: 2,
  slope_low_per_s: 1,
  slope_high_per_s: 4,
  limit: 28,
  limit_kind: "H",
  horizon_s: 300,
  reaches_in_s: 4,
};

function model(values: (number | null)[], projection: Projection | null, low: number | null = 0) {
  return {
    columns: { x: values.map((_, i) => START_S + i), mean: values, min: values, max: values, bad: values.map(() => false) },
    limits: [
      { kind: "H", setpoint: 28 },
      { kind: "HH", setpoint: 56 },
    ],
    projection,
    window: [START_S - 300, START_S + 150],
    low,
    high: 84,
    decimals: 1,
  } as const;
}

test("a steep projection stretches the scale by no more than a quarter beyond the highest limit or datum", () => {
  const [bottom, top] = verticalRange(model([0, 20], steep));
  assert.equal(top, 56 * 1.25);
  assert.ok(bottom < 0 && bottom > -5);
  assert.equal(verticalRange(model([0, 80], steep))[1], 80 * 1.25);
});

test("a projection that stays within the data changes nothing", () => {
  const flat = { ...steep, slope_per_s: 0.01 };
  assert.deepEqual(verticalRange(model([0, 20], flat)), verticalRange(model([0, 20], null)));
});

test("a falling projection is cut off below in the same way", () => {
  const falling = { ...steep, slope_per_s: -2 };
  assert.equal(verticalRange(model([10, 20], falling, null))[0], 10 - 46 * 0.25);
});

test("without any datum the scale is the instrument's range", () => {
  assert.deepEqual(verticalRange(model([null], null)), [0, 84]);
});

test("a young history fills the window, which is never narrower than two minutes", () => {
  assert.equal(trendWindow(START_S - 200, START_S, 600, null)[0], START_S - 200);
  assert.equal(trendWindow(START_S - 30, START_S, 600, null)[0], START_S - 120);
  assert.equal(trendWindow(START_S - 5000, START_S, 600, null)[0], START_S - 600);
  assert.equal(trendWindow(undefined, START_S, 600, null)[0], START_S - 600);
});

test("labels that would cover one another stand in rows, and what finds none is left out", () => {
  const box = (left: number, right: number) => ({ left, right });
  assert.deepEqual(rowsOf([box(0, 10), box(5, 15), box(12, 20), box(13, 21)], 2), [0, 1, 0, null]);
  assert.deepEqual(rowsOf([box(0, 10), box(10, 20)], 4), [0, 0]);
});
