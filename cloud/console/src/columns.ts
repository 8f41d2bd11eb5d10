/** Owns the columns behind a trend: from the server's rows to drawable arrays with gaps where nothing can be believed. */
import { grade } from "./quality.ts";
import type { Readings } from "./types.ts";

/** Times in s since the epoch; null is a gap. `bad` marks times at which the quality was bad. */
export interface Columns {
  readonly x: number[];
  readonly mean: (number | null)[];
  readonly min: (number | null)[];
  readonly max: (number | null)[];
  readonly bad: boolean[];
}

export function emptyColumns(): Columns {
  return { x: [], mean: [], min: [], max: [], bad: [] };
}

/** A silence longer than this many seconds is drawn as a gap and not as a straight line. */
const SILENCE_S = 30;

function silence(step_s: number | null): number {
  return Math.max(SILENCE_S, 3 * (step_s ?? 0));
}

export function toColumns(readings: Pick<Readings, "time" | "value" | "min" | "max" | "quality" | "step_s">): Columns {
  const columns = emptyColumns();
  const gap = silence(readings.step_s);
  readings.time.forEach((time, i) => {
    const quality = readings.quality[i] ?? 0;
    const value = readings.value[i] ?? null;
    push(columns, Date.parse(time) / 1000, value, readings.min[i] ?? value, readings.max[i] ?? value, quality, gap);
  });
  return columns;
}

/** Adds the newest value unless it is older than what is there; drops what lies before `from` (s) but for one row, so that the line reaches the edge. */
export function append(columns: Columns, time: number, value: number | null, quality: number, from: number, step_s: number | null): boolean {
  const last = columns.x.at(-1);
  if (last !== undefined && time <= last) return false;
  push(columns, time, value, value, value, quality, silence(step_s));
  let drop = 0;
  while (drop < columns.x.length - 1 && (columns.x[drop + 1] ?? 0) < from) drop += 1;
  if (drop > 0) for (const column of Object.values(columns) as unknown[][]) column.splice(0, drop);
  return true;
}

function push(
  columns: Columns,
  time: number,
  value: number | null,
  min: number | null,
  max: number | null,
  quality: number,
  gap: number,
): void {
  const last = columns.x.at(-1);
  if (last !== undefined && time - last > gap) row(columns, last + 0.001, null, null, null, false);
  const bad = grade(quality) === "bad";
  row(columns, time, value, min, max, bad);
}

function row(columns: Columns, time: number, mean: number | null, min: number | null, max: number | null, bad: boolean): void {
  columns.x.push(time);
  // A mean over a step may stand although one of its samples was bad; a single bad sample may not.
  const kept = mean !== null && Number.isFinite(mean) && !(bad && min === max);
  columns.mean.push(kept ? mean : null);
  columns.min.push(kept ? min : null);
  columns.max.push(kept ? max : null);
  columns.bad.push(bad);
}

/** The stretches of time, from and to in s, at which the quality was bad. */
export function badRuns(columns: Columns): [number, number][] {
  const runs: [number, number][] = [];
  let from: number | null = null;
  columns.x.forEach((time, i) => {
    if (columns.bad[i]) from ??= time;
    else if (from !== null) {
      runs.push([from, time]);
      from = null;
    }
  });
  const last = columns.x.at(-1);
  if (from !== null && last !== undefined) runs.push([from, last]);
  return runs;
}
