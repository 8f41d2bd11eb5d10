/** Owns what a row says of the moment of raising: the value, and what of it was compared with the set point. */
import { fixed, plain } from "./format.ts";
import { lowSided } from "./kinds.ts";
import type { Alarm, AlarmKind, Limit } from "./types.ts";

/** Of these kinds not the reading itself is compared, but its slope or its mean: beside the reading it stands by name. */
const COMPARED: Readonly<Partial<Record<AlarmKind, (limit: string) => string>>> = {
  rate: (limit) => `|Δ| ≥ ${limit}/min`,
  stel: (limit) => `15 min ≥ ${limit}`,
  twa: (limit) => `8 h ≥ ${limit}`,
  peaks: (limit) => `PC-TWA ${limit}`,
};

type Raised = Pick<Alarm, "kind" | "value" | "setpoint" | "unit">;

/** The reading at the moment of raising against the set point, each with its unit; null where there is neither. */
export function atRaise(alarm: Raised, decimals: number | undefined, side: Limit["side"] | undefined): string | null {
  if (alarm.value === null && alarm.setpoint === null) return null;
  const value = alarm.value === null ? "—" : decimals === undefined ? plain(alarm.value) : fixed(alarm.value, decimals);
  if (alarm.setpoint === null) return `${value} ${alarm.unit}`;
  const limit = `${plain(alarm.setpoint)} ${alarm.unit}`;
  const compared = COMPARED[alarm.kind];
  if (compared !== undefined) return `${value} ${alarm.unit} · ${compared(limit)}`;
  if (alarm.kind === "time-to-limit") return `${value} → ${limit}`;
  const low = side === undefined || side === null ? lowSided(alarm.kind) : side === "low";
  return `${value} ${low ? "≤" : "≥"} ${limit}`;
}
