/** Owns the proof that every kind of alarm and every event has its words in both languages, its group and its side. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { lang, wordIfAny } from "../src/i18n.ts";
import { codeWord, gradeOf, groupOf, kindWord, lowSided } from "../src/kinds.ts";
import type { AlarmKind } from "../src/types.ts";

const KINDS: Readonly<Record<string, readonly AlarmKind[]>> = {
  process: ["HH", "H", "L", "LL", "red", "orange", "yellow", "blue", "rate", "stel", "twa", "peaks"],
  early: ["time-to-limit", "cusum", "ewma", "abnormal"],
  instrument: ["bad", "stale", "loop", "stuck", "spike"],
};
const EVENTS =
  "raise return return-latched acknowledge reset unacknowledge realarm shelve unshelve out-of-service in-service suppress unsuppress";

test("every kind is in its group and has a word and a mark of its own in both languages", () => {
  for (const language of ["zh", "en"] as const) {
    lang.value = language;
    const all = Object.entries(KINDS).flatMap(([group, kinds]) => {
      for (const kind of kinds) assert.equal(groupOf(kind), group, kind);
      return kinds;
    });
    for (const words of [all.map(kindWord), all.map(codeWord)]) {
      assert.equal(new Set(words).size, all.length, words.join(" "));
      assert.ok(!words.some((word, i) => word === all[i] && !/^(HH?|LL?)$/.test(word)), words.join(" "));
    }
  }
});

test("a kind that a newer server names is an alarm of the process and never a raw key", () => {
  const newer = "something-new" as AlarmKind;
  for (const [language, word] of [["zh", "报警"], ["en", "Alarm"]] as const) {
    lang.value = language;
    assert.deepEqual([kindWord(newer), codeWord(newer), groupOf(newer), gradeOf(newer)], [word, word, "process", null]);
  }
});

test("only the low limits warn of the low side, and only the four grades are coloured", () => {
  const all = Object.values(KINDS).flat();
  assert.deepEqual(all.filter(lowSided), ["L", "LL"]);
  assert.deepEqual(all.filter((kind) => gradeOf(kind) !== null), ["red", "orange", "yellow", "blue"]);
});

test("every event of the journal has its words in both languages", () => {
  for (const language of ["zh", "en"] as const) {
    lang.value = language;
    for (const event of EVENTS.split(" ")) assert.notEqual(wordIfAny(`event_${event}`), null, event);
  }
  assert.equal(wordIfAny("event_dance"), null);
});
