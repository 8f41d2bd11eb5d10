/** Owns what fits where in a trend: its window in time, its vertical range, and the rows of the marks at its top. */
import type { ChartModel } from "./chart.ts";
import { fan, lookAhead } from "./projection.ts";
import type { Projection } from "./types.ts";

/** However young the history is, so much of the past is shown, s. */
const LEAST_PAST_S = 120;
/** Free room above and below what is drawn, as a part of it. */
const MARGIN = 0.08;
/** How far a projection may stretch the scale beyond what was measured and the limits; the rest of it is cut off. */
const OUTLOOK = 0.25;

/** From and to, s since the epoch: the whole span, or from the first datum when the history is younger than that. */
export function trendWindow(first: number | undefined, at: number, span_s: number, projection: Projection | null): [number, number] {
  const from = Math.max(at - span_s, Math.min(first ?? -Infinity, at - LEAST_PAST_S));
  return [from, at + lookAhead(projection, at - from)];
}

/** The vertical range: what was measured and the limits with a margin, and a bounded part of what is projected. */
export function verticalRange(model: Pick<ChartModel, "columns" | "limits" | "projection" | "window" | "low" | "high" | "decimals">): [number, number] {
  const seen: number[] = [];
  for (const column of [model.columns.min, model.columns.max]) for (const v of column) if (v !== null) seen.push(v);
  if (seen.length === 0 && model.low !== null && model.high !== null) return [model.low, model.high];
  for (const limit of model.limits) seen.push(limit.setpoint);
  let low = seen.length > 0 ? seen.reduce((a, b) => Math.min(a, b)) : (model.low ?? 0);
  let high = seen.length > 0 ? seen.reduce((a, b) => Math.max(a, b)) : (model.high ?? 1);
  if (high - low < 1e-9) {
    const half = Math.max(Math.abs(high) * 0.05, 10 ** -model.decimals * 5);
    low -= half;
    high += half;
  }
  const height = high - low;
  const ahead = model.projection === null ? low : fan(model.projection, model.window[1]).mid;
  const top = Math.max(high + height * MARGIN, Math.min(ahead, high + height * OUTLOOK));
  const bottom = Math.min(low - height * MARGIN, Math.max(ahead, low - height * OUTLOOK));
  const floor = model.low !== null && low >= model.low ? model.low - (height * MARGIN) / 2 : -Infinity;
  return [Math.max(bottom, floor), top];
}

/** The row of each box, from the left, so that none covers another; null where every row is taken. */
export function rowsOf(boxes: readonly { readonly left: number; readonly right: number }[], most: number): (number | null)[] {
  const ends: number[] = [];
  return boxes.map(({ left, right }) => {
    const free = ends.findIndex((end) => end <= left);
    const row = free >= 0 ? free : ends.length;
    if (row >= most) return null;
    ends[row] = right;
    return row;
  });
}
