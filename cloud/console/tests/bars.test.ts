/** Owns the proof that the bars of the alarm rates stand where the bands of EEMUA 191 say that they do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hourBars, loadOf, stripes, topOf } from "../src/bars.ts";
import type { AlarmSystem } from "../src/types.ts";

function figures(by_hour: readonly number[], to = "2026-11-22T03:00:00.000Z"): AlarmSystem {
  return {
    from: "2026-11-22T00:00:00.000Z",
    to,
    alarms: 0,
    by_hour,
    per_day: 0,
    per_hour: 0,
    per_ten_minutes: 0,
    load: "acceptable",
    bands: [
      { load: "acceptable", per_hour: 6 },
      { load: "manageable", per_hour: 12 },
      { load: "over-demanding", per_hour: 60 },
    ],
    most_in_ten_minutes: 0,
    ten_minutes_over: 0,
    hours_over: 0,
    floods: [],
    in_flood: 0,
    top: [],
    top_share: 0,
    priorities: { critical: 0, high: 0, medium: 0, low: 0 },
    chattering: [],
    fleeting: [],
    standing: [],
  };
}

test("an hour is named by the band it ends in, the first band below its bound", () => {
  const { bands } = figures([]);
  assert.deepEqual(
    [0, 5, 6, 12, 13, 60, 61].map((count) => loadOf(count, bands)),
    ["acceptable", "acceptable", "manageable", "manageable", "over-demanding", "over-demanding", "unacceptable"],
  );
});

test("a bar reaches as high as its count among the bands, and the last hour may only have begun", () => {
  const shown = figures([0, 100, 9], "2026-11-22T02:20:00.000Z");
  const bars = hourBars(shown);
  assert.deepEqual(bars.map((bar) => bar.begun), [false, false, true]);
  assert.equal(bars[1]?.at, Date.parse("2026-11-22T01:00:00.000Z"));
  const bands = stripes(shown);
  assert.deepEqual(bands.map((band) => band.limit), [6, 12, 60, null]);
  assert.ok((bars[1]?.height ?? 0) > (bands[2]?.to ?? 1) && (bars[1]?.height ?? 2) <= 1);
  assert.equal(bars[2]?.height, 9 / topOf(shown));
});

test("a quiet day shows the lower bands, which fill the picture without a gap", () => {
  const bands = stripes(figures([0, 1, 0]));
  assert.deepEqual(bands.map((band) => [band.load, band.limit]), [["acceptable", 6], ["manageable", 12], ["over-demanding", null]]);
  assert.equal(bands[0]?.from, 0);
  bands.slice(1).forEach((band, i) => assert.equal(band.from, bands[i]?.to));
  assert.equal(bands.at(-1)?.to, 1);
});
