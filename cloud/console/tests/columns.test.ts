/** Owns the proof that a trend shows a gap, and never a line, where nothing can be believed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { append, badRuns, toColumns } from "../src/columns.ts";
import { grade, reason } from "../src/quality.ts";

const at = (s: number): string => new Date(s * 1000).toISOString();
const GOOD = 192;
const COMM = 0x18;

function raw(rows: readonly (readonly [number, number | null, number])[]) {
  const value = rows.map((r) => r[1]);
  return toColumns({ time: rows.map((r) => at(r[0])), value, min: value, max: value, quality: rows.map((r) => r[2]), step_s: null });
}

test("a bad sample is a gap even when the server sent its last value", () => {
  const columns = raw([
    [1, 5, GOOD],
    [2, 5, COMM],
    [3, 6, GOOD],
  ]);
  assert.deepEqual(columns.mean, [5, null, 6]);
  assert.deepEqual(badRuns(columns), [[2, 3]]);
});

test("a long silence is a gap", () => {
  assert.deepEqual(
    raw([
      [1, 5, GOOD],
      [100, 6, GOOD],
    ]).mean,
    [5, null, 6],
  );
});

test("a mean over a step stands although one of its samples was bad", () => {
  const columns = toColumns({ time: [at(0)], value: [5], min: [4], max: [6], quality: [COMM], step_s: 30 });
  assert.deepEqual([columns.mean, columns.bad], [[5], [true]]);
});

test("appending refuses what is older and drops what left the window but for the row before it", () => {
  const columns = raw([
    [10, 1, GOOD],
    [11, 2, GOOD],
    [12, 3, GOOD],
  ]);
  assert.ok(!append(columns, 12, 9, GOOD, 0, null));
  assert.ok(append(columns, 13, 4, GOOD, 12, null));
  assert.deepEqual(columns.x, [11, 12, 13]);
  assert.deepEqual(columns.mean, [2, 3, 4]);
});

test("a value that follows rows of a step is no silence within three of them", () => {
  const rows = { time: [at(0), at(900)], value: [5, 6], min: [4, 5], max: [6, 7], quality: [GOOD, GOOD], step_s: 900 };
  const [drawn, broken] = [toColumns(rows), toColumns(rows)];
  append(drawn, 1790, 7, GOOD, 0, 900);
  append(broken, 1790, 7, GOOD, 0, null);
  assert.deepEqual(drawn.mean, [5, 6, 7]);
  assert.deepEqual(broken.mean, [5, 6, null, 7]);
});

test("a quality byte is read with its limit bits and with unknown substatus", () => {
  assert.equal(grade(192), "good");
  assert.equal(grade(0x54), "uncertain");
  assert.equal(grade(0), "bad");
  assert.equal(reason(0x1b), "badComm");
  assert.equal(reason(0xc2), "goodAbove");
  assert.equal(reason(0xc1), "goodBelow");
  assert.equal(reason(0x7c), "uncertainNonSpecific");
});
