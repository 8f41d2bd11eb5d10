/** Owns the proof that a row compares with a set point only what the alarm compares with it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { atRaise } from "../src/raised.ts";
import type { AlarmKind } from "../src/types.ts";

function said(kind: AlarmKind, value: number | null, setpoint: number | null, unit: string, side?: "high" | "low"): string | null {
  return atRaise({ kind, value, setpoint, unit }, 1, side);
}

test("a limit is compared with the reading, on its side", () => {
  assert.equal(said("H", 28.04, 28, "ppm"), "28.0 ≥ 28 ppm");
  assert.equal(said("LL", 9, 10, "%"), "9.0 ≤ 10 %");
  assert.equal(said("red", 59, 60, "m", "low"), "59.0 ≤ 60 m");
  assert.equal(said("time-to-limit", 20, 28, "ppm", "high"), "20.0 → 28 ppm");
});

test("a slope or a mean is no reading: a level of 40 % was not compared with 5 % a minute", () => {
  assert.equal(said("rate", 40, 5, "%"), "40.0 % · |Δ| ≥ 5 %/min");
  assert.equal(said("stel", 12, 42, "ppm"), "12.0 ppm · 15 min ≥ 42 ppm");
  assert.equal(said("twa", 12, 28, "ppm"), "12.0 ppm · 8 h ≥ 28 ppm");
  assert.equal(said("peaks", 80, 25, "ppm"), "80.0 ppm · PC-TWA 25 ppm");
});

test("what has no set point, or no value, has none", () => {
  assert.equal(said("cusum", 12, null, "bar"), "12.0 bar");
  assert.equal(said("H", null, 28, "ppm"), "— ≥ 28 ppm");
  assert.equal(said("bad", null, null, "ppm"), null);
});
