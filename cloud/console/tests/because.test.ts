/** Owns the proof that what lay behind a raising is said in both languages, by the names that people know. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { becauseWords } from "../src/because.ts";
import { lang } from "../src/i18n.ts";

const groups = new Map([["tank", { zh: "罐区首出", en: "the tank farm" }]]);

test("first out, a degraded vote and contributions each have their sentence", () => {
  const because = {
    first_out: ["tank", "gone"],
    vote: "1oo2",
    contributions: [
      { point: "TT-1", percent: 60 },
      { point: "PT-2", percent: 25 },
    ],
  };
  lang.value = "zh";
  assert.deepEqual(becauseWords(because, groups), ["首出：罐区首出", "首出：gone", "表决降级为 1oo2", "主要贡献测点：TT-1\u00a060\u00a0%、PT-2\u00a025\u00a0%"]);
  lang.value = "en";
  assert.deepEqual(becauseWords(because, groups), [
    "First out: the tank farm",
    "First out: gone",
    "Vote degraded to 1oo2",
    "Contributions: TT-1\u00a060\u00a0%, PT-2\u00a025\u00a0%",
  ]);
});

test("the farthest of its neighbours stands alone, and nothing is said of nothing", () => {
  lang.value = "en";
  assert.deepEqual(becauseWords({ first_out: [], vote: null, contributions: [{ point: "TT-1", percent: null }] }, groups), ["Farthest off: TT-1"]);
  assert.deepEqual(becauseWords({ first_out: [], vote: null, contributions: [] }, groups), []);
});
