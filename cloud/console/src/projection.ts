/** Owns the geometry of the early warning: the line, its confidence fan and the moment at which it meets the limit. */
import type { LevelKind, Projection } from "./types.ts";

/** A limit that a value can be beyond: above it (1) or below it (-1). */
export interface Level {
  readonly kind: LevelKind;
  readonly setpoint: number;
  readonly side: 1 | -1;
}

export interface Fan {
  /** s since the epoch */
  readonly start: number;
  readonly end: number;
  readonly level: number;
  readonly mid: number;
  readonly low: number;
  readonly high: number;
  /** where the middle line meets the limit within the horizon: s since the epoch, or null */
  readonly meets: number | null;
}

/** The fan from the projected level to `until` (s since the epoch), never beyond the projection's own horizon. */
export function fan(projection: Projection, until: number): Fan {
  const start = Date.parse(projection.time) / 1000;
  const end = Math.max(start, Math.min(until, start + projection.horizon_s));
  const dt = end - start;
  const at = (slope: number): number => projection.level + slope * dt;
  const reaches = projection.reaches_in_s;
  return {
    start,
    end,
    level: projection.level,
    mid: at(projection.slope_per_s),
    low: at(projection.slope_low_per_s),
    high: at(projection.slope_high_per_s),
    meets: reaches !== null && start + reaches <= end ? start + reaches : null,
  };
}

/** Seconds left until the limit is met, counted from now and not from the moment of the projection; null: not met. */
export function secondsLeft(projection: Projection, nowMs: number): number | null {
  if (projection.reaches_in_s === null) return null;
  return Math.max(0, projection.reaches_in_s - (nowMs - Date.parse(projection.time)) / 1000);
}

/** The future is shown in steps of so many seconds, so that the picture does not jump with every projection. */
const STEP_S = 30;

/** How much future a trend shows, in s: enough to see the limit met, at most half of the past that is shown. */
export function lookAhead(projection: Projection | null, span_s: number): number {
  if (projection === null) return span_s * 0.02;
  const wanted =
    projection.reaches_in_s === null ? projection.horizon_s : Math.min(projection.horizon_s, projection.reaches_in_s * 1.5);
  return Math.min(span_s * 0.5, Math.max(span_s * 0.1, Math.ceil(wanted / STEP_S) * STEP_S));
}

/** Whether the value moves towards the limit or on beyond it; only then is there something to draw ahead of it. */
export function heading(projection: Projection, levels: readonly Level[]): boolean {
  return sideOf(projection, levels) * projection.slope_per_s > 0;
}

/** On which side of its limit the projection warns; up where the point's limits do not say. */
export function sideOf(projection: Projection, levels: readonly Level[]): 1 | -1 {
  return levels.find((level) => level.kind === projection.limit_kind)?.side ?? 1;
}

/** The farthest limit that the value is already beyond, on the side of the one that was foreseen; null while that is still ahead. */
export function passed(projection: Projection, levels: readonly Level[], value: number): Level | null {
  const sign = sideOf(projection, levels);
  const isPast = (setpoint: number): boolean => sign * (value - setpoint) >= 0;
  if (!isPast(projection.limit)) return null;
  let farthest: Level = { kind: projection.limit_kind, setpoint: projection.limit, side: sign };
  for (const level of levels) {
    if (level.side === sign && isPast(level.setpoint) && sign * (level.setpoint - farthest.setpoint) > 0) farthest = level;
  }
  return farthest;
}
