/** Owns the proof that what the server says in English is read in Chinese, and that people's own words stay as they are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { lang } from "../src/i18n.ts";
import { logged, said } from "../src/sentences.ts";

test("a step of a ticket is said in the language shown, and what was written with it as it was written", () => {
  lang.value = "zh";
  assert.equal(logged("submit: 更换垫片: DN50"), "提交验收：更换垫片: DN50");
  assert.equal(logged("reject: submit: no"), "退回整改：submit: no");
  assert.equal(logged({ zh: "自动生成", en: "Opened" }), "自动生成");
  lang.value = "en";
  assert.equal(logged("accept: fine"), "Accept: fine");
  assert.equal(logged("accepted"), "accepted");
});

test("a reason of several parts is said part by part, and a person's own is left alone", () => {
  lang.value = "zh";
  assert.equal(said("time is up"), "搁置到期");
  assert.equal(said("time is up; at the gateway"), "搁置到期；网关端");
  assert.equal(said("校准; 10 min"), "校准; 10 min");
  lang.value = "en";
  assert.equal(said("time is up; at the gateway"), "time is up; at the gateway");
});

test("an answer that did not come in time is not said to have failed for good, in Chinese too", () => {
  lang.value = "zh";
  assert.match(said("The alarms worker has not answered in time; the command may still be carried out."), /仍可能被执行/);
});
