/** Owns what an alarm's kind means on the page: which group it belongs to, which side it warns of, and its words. */
import { t, wordIfAny } from "./i18n.ts";
import type { AlarmKind, GradeKind } from "./types.ts";

/** What a kind is about: the process now, the process to come, or the instrument that looks at it. */
export type Group = "process" | "early" | "instrument";

const GROUP: Readonly<Record<AlarmKind, Group>> = {
  HH: "process",
  H: "process",
  L: "process",
  LL: "process",
  red: "process",
  orange: "process",
  yellow: "process",
  blue: "process",
  rate: "process",
  stel: "process",
  twa: "process",
  peaks: "process",
  "time-to-limit": "early",
  cusum: "early",
  ewma: "early",
  abnormal: "early",
  bad: "instrument",
  stale: "instrument",
  loop: "instrument",
  stuck: "instrument",
  spike: "instrument",
};

/** A server newer than the page may name a kind that it does not know: that is the process, until the page says more. */
export function groupOf(kind: AlarmKind): Group {
  return GROUP[kind] ?? "process";
}

/** The four grades of a warning (红橙黄蓝) carry their own colours. */
export function gradeOf(kind: AlarmKind): GradeKind | null {
  return kind === "red" || kind === "orange" || kind === "yellow" || kind === "blue" ? kind : null;
}

export function lowSided(kind: AlarmKind): boolean {
  return kind === "L" || kind === "LL";
}

export function kindWord(kind: AlarmKind): string {
  return wordIfAny(`kind_${kind}`) ?? t("alarm");
}

/** The short mark of a kind in front of a point's name. */
export function codeWord(kind: AlarmKind): string {
  return wordIfAny(`code_${kind}`) ?? t("alarm");
}
