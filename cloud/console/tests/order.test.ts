/** Owns the proof that the alarm that needs an answer most stands first. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { annunciated, asksForAnswer, compareAlarms, hiddenBy, leading } from "../src/order.ts";
import type { Alarm } from "../src/types.ts";

function alarm(id: string, given: Partial<Alarm> = {}): Alarm {
  return {
    id,
    alarm: `${id}/H`,
    point: id,
    source: null,
    kind: "H",
    priority: "medium",
    phase: "unacknowledged",
    shelved_until: null,
    shelved_once: false,
    out_of_service: false,
    suppressed: false,
    raised_at: "2026-11-22T00:00:00.000Z",
    committed_at: "2026-11-22T00:00:00.100Z",
    acknowledged_at: null,
    acknowledged_by: null,
    returned_at: null,
    value: 30,
    setpoint: 28,
    unit: "ppm",
    message: { zh: "", en: "" },
    clause: null,
    because: null,
    ...given,
  };
}

const ids = (rows: Alarm[]): string => rows.sort(compareAlarms).map((a) => a.id).join(" ");

test("unacknowledged comes before any priority, priority before age, the newest before the older", () => {
  const rows = [
    alarm("acked", { phase: "acknowledged", priority: "critical" }),
    alarm("old", { raised_at: "2026-11-21T00:00:00.000Z" }),
    alarm("new"),
    alarm("returned", { phase: "returned-unacknowledged", priority: "high" }),
    alarm("critical", { priority: "critical" }),
  ];
  assert.equal(ids(rows), "critical returned new old acked");
});

test("the order does not depend on the order of arrival", () => {
  assert.equal(ids([alarm("b"), alarm("a")]), ids([alarm("a"), alarm("b")]));
});

test("an alarm that returned or latched unacknowledged still asks for an answer", () => {
  assert.ok(asksForAnswer("returned-unacknowledged"));
  assert.ok(asksForAnswer("latched-unacknowledged"));
  assert.ok(!asksForAnswer("acknowledged"));
  assert.ok(!asksForAnswer("normal"));
});

test("shelving silences until its end and not longer; out of service silences without end", () => {
  const until = "2026-11-22T01:00:00.000Z";
  const shelved = alarm("s", { shelved_until: until });
  assert.ok(!annunciated(shelved, Date.parse(until) - 1));
  assert.ok(annunciated(shelved, Date.parse(until)));
  assert.ok(!annunciated(alarm("o", { out_of_service: true }), 0));
});

test("a point is described by what is present and worst, not by what has returned", () => {
  const present = alarm("present", { priority: "high" });
  const gone = alarm("gone", { priority: "critical", phase: "returned-unacknowledged" });
  assert.equal(leading([gone, present])?.id, "present");
  assert.equal(leading([alarm("h"), alarm("hh", { kind: "HH" })])?.id, "hh");
  assert.equal(leading([]), null);
});

test("what is suppressed by design is hidden until the server says otherwise; a shelf outlives nothing", () => {
  const until = "2026-11-22T01:00:00.000Z";
  assert.equal(hiddenBy(alarm("d", { suppressed: true }), 0), "design");
  assert.equal(hiddenBy(alarm("s", { suppressed: true, shelved_until: until }), Date.parse(until) - 1), "shelf");
  assert.equal(hiddenBy(alarm("s", { suppressed: true, shelved_until: until }), Date.parse(until)), null);
  assert.equal(hiddenBy(alarm("o", { suppressed: true, out_of_service: true }), 0), "out-of-service");
});

test("of two warnings of one priority the graver grade describes the point", () => {
  assert.equal(leading([alarm("y", { kind: "yellow" }), alarm("r", { kind: "red" }), alarm("b", { kind: "blue" })])?.id, "r");
});
