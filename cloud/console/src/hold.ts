/** Owns the stillness of the alarm list: while an operator aims at a row, no row changes its place. */
import { signal } from "@preact/signals";
import type { Alarm } from "./types.ts";

/** A hand that has not moved for so long aims at nothing. */
export const HOLD_MS = 5000;

export const aiming = signal(false);
let timer: ReturnType<typeof setTimeout> | null = null;

/** The pointer moved over the list, or one of its buttons has the focus. */
export function aim(): void {
  if (timer !== null) clearTimeout(timer);
  timer = setTimeout(release, HOLD_MS);
  aiming.value = true;
}

export function release(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  aiming.value = false;
}

/**
 * The rows of `held` in their places with what is known of them now, then those of `current` that came since.
 * What has left the list keeps its row, so that nothing below moves up; `known` tells whether it is shelved or over.
 */
export function keepPlaces(held: readonly Alarm[], current: readonly Alarm[], known: ReadonlyMap<string, Alarm>): Alarm[] {
  const byId = new Map(current.map((alarm) => [alarm.id, alarm]));
  const kept = held.map((alarm): Alarm => {
    const now = byId.get(alarm.id) ?? known.get(alarm.id);
    return now ?? (alarm.phase === "normal" ? alarm : { ...alarm, phase: "normal" });
  });
  const there = new Set(held.map((alarm) => alarm.id));
  return [...kept, ...current.filter((alarm) => !there.has(alarm.id))];
}
