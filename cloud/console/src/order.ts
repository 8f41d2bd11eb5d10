/** Owns what an alarm's phase means to an operator and the order in which alarms are listed. */
import type { Alarm, AlarmKind, Phase, Priority } from "./types.ts";

export const PRIORITIES: readonly Priority[] = ["critical", "high", "medium", "low"];
const RANK: Readonly<Record<Priority, number>> = { critical: 3, high: 2, medium: 1, low: 0 };
/** Of two alarms of one priority the farther limit or the graver grade describes a point better. */
const SEVERITY: Readonly<Record<AlarmKind, number>> = {
  red: 5,
  HH: 5,
  LL: 5,
  orange: 4,
  H: 4,
  L: 4,
  yellow: 3,
  rate: 3,
  stel: 3,
  twa: 3,
  peaks: 3,
  blue: 2,
  "time-to-limit": 2,
  cusum: 2,
  ewma: 2,
  abnormal: 2,
  bad: 1,
  stale: 1,
  loop: 1,
  stuck: 1,
  spike: 1,
};

/** ISA-18.2: an alarm asks for an answer until it is acknowledged, also after the process has returned. */
export function asksForAnswer(phase: Phase): boolean {
  return phase === "unacknowledged" || phase === "returned-unacknowledged" || phase === "latched-unacknowledged";
}

/** The process is beyond its limit now. */
export function conditionPresent(phase: Phase): boolean {
  return phase === "unacknowledged" || phase === "acknowledged";
}

export function acknowledged(phase: Phase): boolean {
  return phase === "acknowledged" || phase === "latched-acknowledged";
}

export function latched(phase: Phase): boolean {
  return phase === "latched-unacknowledged" || phase === "latched-acknowledged";
}

/** What hides an alarm now, if anything does; a shelf whose time is up hides nothing. */
export function hiddenBy(alarm: Alarm, nowMs: number): "out-of-service" | "shelf" | "design" | null {
  if (alarm.out_of_service) return "out-of-service";
  if (alarm.shelved_until !== null) return Date.parse(alarm.shelved_until) > nowMs ? "shelf" : null;
  return alarm.suppressed ? "design" : null;
}

/** A hidden alarm is listed on its own page and neither blinks nor sounds. */
export function annunciated(alarm: Alarm, nowMs: number): boolean {
  return hiddenBy(alarm, nowMs) === null;
}

export function priorityRank(priority: Priority): number {
  return RANK[priority];
}

/** Unacknowledged first, then priority from high to low, then the newest; the identifier makes the order total. */
export function compareAlarms(a: Alarm, b: Alarm): number {
  const asks = Number(asksForAnswer(b.phase)) - Number(asksForAnswer(a.phase));
  if (asks !== 0) return asks;
  const rank = RANK[b.priority] - RANK[a.priority];
  if (rank !== 0) return rank;
  // Instants have one length and one zone, so that they order as texts: a flood is sorted several times in a second.
  if (a.raised_at !== b.raised_at) return a.raised_at < b.raised_at ? 1 : -1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

/** The alarm that describes a point best: what is present before what has returned, then priority, then the farther limit. */
export function leading(alarms: readonly Alarm[]): Alarm | null {
  let best: Alarm | null = null;
  for (const alarm of alarms) {
    if (best === null || weight(alarm) > weight(best)) best = alarm;
  }
  return best;
}

function weight(alarm: Alarm): number {
  return Number(conditionPresent(alarm.phase)) * 100 + RANK[alarm.priority] * 10 + (SEVERITY[alarm.kind] ?? 0);
}
