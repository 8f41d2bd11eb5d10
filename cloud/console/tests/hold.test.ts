/** Owns the proof that no alarm slides under a pointer that aims at another. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { aim, aiming, HOLD_MS, keepPlaces, release } from "../src/hold.ts";
import type { Alarm } from "../src/types.ts";

function alarm(id: string, phase: Alarm["phase"] = "unacknowledged"): Alarm {
  return { id, phase } as Alarm;
}

const known = (rows: Alarm[]): Map<string, Alarm> => new Map(rows.map((a) => [a.id, a]));
const said = (rows: Alarm[]): string => rows.map((a) => `${a.id}:${a.phase}`).join(" ");

test("what is sorted anew keeps its place and what is new comes last", () => {
  const current = [alarm("c"), alarm("b"), alarm("a", "acknowledged")];
  assert.equal(said(keepPlaces([alarm("a"), alarm("b")], current, known(current))), "a:acknowledged b:unacknowledged c:unacknowledged");
});

test("the second new alarm comes after the first", () => {
  const first = keepPlaces([alarm("a")], [alarm("x"), alarm("a")], new Map());
  const second = keepPlaces(first, [alarm("y"), alarm("x"), alarm("a")], new Map());
  assert.equal(second.map((a) => a.id).join(""), "axy");
});

test("an alarm that is over or shelved leaves its row standing", () => {
  const shelved = { ...alarm("s"), shelved_until: "2026-11-22T01:00:00.000Z" } as Alarm;
  const rows = keepPlaces([alarm("over"), alarm("s"), alarm("a")], [alarm("a")], known([shelved, alarm("a")]));
  assert.equal(said(rows), "over:normal s:unacknowledged a:unacknowledged");
  assert.equal(rows[1], shelved);
});

test("the hold ends when the pointer leaves, or with five seconds of rest after the last move", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  aim();
  release();
  assert.equal(aiming.value, false);
  aim();
  context.mock.timers.tick(HOLD_MS - 1);
  aim();
  context.mock.timers.tick(HOLD_MS - 1);
  assert.equal(aiming.value, true);
  context.mock.timers.tick(1);
  assert.equal(aiming.value, false);
});
