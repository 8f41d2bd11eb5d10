/** Owns the proof that a flood is taken in at one go, and that a gap in what the server tells ends nothing. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import type { Alarm, Point } from "../src/types.ts";

type Listener = (event: { readonly data: string }) => void;

class FakeSource {
  static opened: FakeSource[] = [];
  closed = false;
  private readonly listeners = new Map<string, Listener>();

  constructor() {
    FakeSource.opened.push(this);
  }
  addEventListener(name: string, listener: Listener): void {
    this.listeners.set(name, listener);
  }
  say(name: string, data: unknown = {}): void {
    this.listeners.get(name)?.({ data: JSON.stringify(data) });
  }
  close(): void {
    this.closed = true;
  }
}

const asked: string[] = [];
let frames: (() => void)[] = [];
let listed: readonly Alarm[] = [];
Object.assign(globalThis, {
  EventSource: FakeSource,
  document: { hidden: false, addEventListener: () => undefined, removeEventListener: () => undefined },
  requestAnimationFrame: (draw: () => void) => frames.push(draw),
  cancelAnimationFrame: () => undefined,
  fetch: (url: string) => {
    asked.push(url);
    const body = url.includes("/alarms") ? listed : url.endsWith("/plant") ? { flood: null } : [];
    return Promise.resolve(new Response(JSON.stringify(body)));
  },
});
const { stream } = await import("../src/stream.ts");
const store = await import("../src/store.ts");

function alarm(number: number): Alarm {
  return { id: String(number), alarm: `P${number}/H`, point: `P${number}`, phase: "unacknowledged", raised_at: "", suppressed: false } as Alarm;
}

/** Everything that was asked for has been answered. */
async function answered(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
}

beforeEach(async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  FakeSource.opened = [];
  listed = [];
  stream.start();
  FakeSource.opened[0]?.say("open");
  await answered();
  assert.equal(store.connection.value, "live");
  asked.length = 0;
  frames = [];
});

afterEach(() => {
  stream.stop();
  mock.timers.reset();
});

test("many alarms in many events change the list once, with the next frame", () => {
  const [source] = FakeSource.opened;
  let changes = -1;
  const watching = store.alarms.subscribe(() => {
    changes += 1;
  });
  for (let first = 0; first < 1000; first += 250) source?.say("transitions", Array.from({ length: 250 }, (_, i) => alarm(first + i)));
  mock.timers.tick(100);
  assert.equal(frames.length, 1);
  frames[0]?.();
  watching();
  assert.deepEqual([store.alarms.value.size, changes], [1000, 1]);
  assert.equal(store.stateOf("P7").alarms.value[0]?.id, "7");
});

test("a gap is filled by reading anew, on the same stream; what comes meanwhile is shown after that", async () => {
  const [source] = FakeSource.opened;
  listed = [alarm(1), alarm(2)];
  source?.say("reset", { reason: "too slow" });
  source?.say("reset", { reason: "too slow" });
  source?.say("transitions", [alarm(3), { ...alarm(1), phase: "normal" }]);
  assert.equal(asked.length, 0);
  mock.timers.tick(1000);
  await answered();
  assert.deepEqual([...store.alarms.value.keys()], ["2", "3"]);
  // The second word of a gap may tell of something that the reading had behind it.
  listed = [alarm(4)];
  mock.timers.tick(1000);
  await answered();
  assert.deepEqual([...store.alarms.value.keys()], ["4"]);
  assert.deepEqual([store.connection.value, source?.closed, FakeSource.opened.length], ["live", false, 1]);
});

test("a page that reads anew shows at once what comes meanwhile, however long its lists take", async () => {
  const [source] = FakeSource.opened;
  source?.say("reset", { reason: "too slow" });
  mock.timers.tick(1000);
  source?.say("transitions", [alarm(5)]);
  mock.timers.tick(100);
  frames[0]?.();
  assert.deepEqual([...store.alarms.value.keys()], ["5"]);
  await answered();
  assert.deepEqual([...store.alarms.value.keys()], ["5"]);
});

test("an early warning whose end was missed does not stay on the page", async () => {
  const [source] = FakeSource.opened;
  source?.say("projection", { P1: { time: 1, level: 1, limit: 2 } });
  assert.notEqual(store.stateOf("P1").projection.value, null);
  source?.say("reset", { reason: "too slow" });
  const reads = store.fullReads.value;
  mock.timers.tick(1000);
  await answered();
  assert.deepEqual([store.stateOf("P1").projection.value, store.fullReads.value], [null, reads + 1]);
});

test("a stale reading that is told once more stays stale; a newer one is not", () => {
  const [source] = FakeSource.opened;
  const old = { id: "P1", time: "2026-01-01T00:00:00Z", value: 1, quality: 192, quality_text: "stale" };
  store.setPoints([old as unknown as Point]);
  source?.say("values", { point: ["P1"], time: [old.time], value: [1], quality: [192] });
  assert.equal(store.stateOf("P1").live.value.stale, true);
  source?.say("values", { point: ["P1"], time: ["2026-01-01T00:00:01Z"], value: [1], quality: [192] });
  assert.equal(store.stateOf("P1").live.value.stale, false);
});

test("a list that the server cut is known to be one", async () => {
  assert.equal(store.alarmsCut.value, false);
  listed = Array.from({ length: 100_000 }, (_, i) => alarm(i));
  FakeSource.opened[0]?.say("reset", { reason: "too slow" });
  mock.timers.tick(1000);
  await answered();
  assert.equal(store.alarmsCut.value, true);
});
