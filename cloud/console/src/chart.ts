/** Owns how a trend is drawn with uPlot: band, line, limits, raised marks, bad stretches and the early-warning fan. */
import uPlot from "uplot";
import { badRuns, type Columns } from "./columns.ts";
import { fixed, plain, shortInstant, tickLabel } from "./format.ts";
import { codeWord, groupOf } from "./kinds.ts";
import { rowsOf, verticalRange } from "./layout.ts";
import { fan } from "./projection.ts";
import type { AlarmKind, LevelKind, Priority, Projection } from "./types.ts";

export interface ChartLimit {
  readonly kind: AlarmKind;
  readonly setpoint: number;
}

export interface ChartModel {
  readonly columns: Columns;
  /** from and to, s since the epoch */
  readonly window: readonly [number, number];
  readonly limits: readonly ChartLimit[];
  readonly raised: readonly { readonly at: number; readonly kind: AlarmKind; readonly priority: Priority; readonly label: string }[];
  readonly projection: Projection | null;
  readonly low: number | null;
  readonly high: number | null;
  readonly decimals: number;
  readonly zone: string;
  readonly badWord: string;
}

const COLOUR = {
  line: "#dfe6ec",
  band: "rgba(150, 175, 200, 0.22)",
  axis: "#98a3ae",
  grid: "rgba(255, 255, 255, 0.06)",
  bad: "rgba(160, 160, 160, 0.16)",
  early: "#c99bff",
  earlyFan: "rgba(201, 155, 255, 0.16)",
  behindText: "rgba(23, 27, 33, 0.8)",
} as const;
const LEVEL_COLOUR: Readonly<Record<LevelKind, string>> = {
  HH: "#e0675f",
  H: "#dd9a3c",
  L: "#dd9a3c",
  LL: "#e0675f",
  red: "#ff4d42",
  orange: "#ff9f1a",
  yellow: "#ffd93d",
  blue: "#5cc8f2",
};
const PRIORITY_COLOUR: Readonly<Record<Priority, string>> = {
  critical: "#ff4d42",
  high: "#ff9f1a",
  medium: "#ffd93d",
  low: "#5cc8f2",
};
const FONT = "system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
const GUTTER = 70;
const MARK_ROWS = 4;
const MARK_HEIGHT = 15;

export function isLevel(kind: AlarmKind): kind is LevelKind {
  return kind in LEVEL_COLOUR;
}

/** Draws into `parent`; `model` is asked anew at each drawing. */
export function createChart(
  parent: HTMLElement,
  width: number,
  height: number,
  model: () => ChartModel,
  onCursor: (index: number | null) => void,
): uPlot {
  const zone = model().zone;
  const options: uPlot.Options = {
    width,
    height,
    padding: [14, GUTTER, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: true, range: () => [...model().window] as uPlot.Range.MinMax },
      y: { range: () => verticalRange(model()) },
    },
    series: [
      {},
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: COLOUR.line, width: 1.75, points: { show: false } },
    ],
    bands: [{ series: [2, 1], fill: COLOUR.band }],
    axes: [
      {
        ...axisStyle(),
        size: 26,
        space: 76,
        values: (_u, splits, _axis, _space, step_s) => splits.map((s) => tickLabel(s * 1000, zone, step_s)),
      },
      { ...axisStyle(), size: 56 },
    ],
    hooks: {
      drawAxes: [(u) => drawBehind(u, model())],
      draw: [(u) => drawAbove(u, model())],
      setCursor: [(u) => onCursor(u.cursor.idx ?? null)],
    },
  };
  return new uPlot(options, data(model().columns), parent);
}

export function data(columns: Columns): uPlot.AlignedData {
  return [columns.x, columns.min, columns.max, columns.mean];
}

function axisStyle(): uPlot.Axis {
  return {
    stroke: COLOUR.axis,
    font: `12px ${FONT}`,
    grid: { stroke: COLOUR.grid, width: 1 },
    ticks: { stroke: COLOUR.grid, width: 1, size: 4 },
  };
}

function clip(u: uPlot, paint: () => void): void {
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
  paint();
  u.ctx.restore();
}

function drawBehind(u: uPlot, model: ChartModel): void {
  clip(u, () => {
    for (const [from, to] of badRuns(model.columns)) shadeBad(u, from, to, model.badWord);
  });
  for (const limit of model.limits) drawLimit(u, limit);
}

function shadeBad(u: uPlot, from: number, to: number, label: string): void {
  const { ctx, bbox } = u;
  const left = u.valToPos(from, "x", true);
  const width = Math.max(uPlot.pxRatio, u.valToPos(to, "x", true) - left);
  ctx.fillStyle = COLOUR.bad;
  ctx.fillRect(left, bbox.top, width, bbox.height);
  ctx.font = `${11 * uPlot.pxRatio}px ${FONT}`;
  if (width > ctx.measureText(label).width + 8 * uPlot.pxRatio) {
    ctx.fillStyle = COLOUR.axis;
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    ctx.fillText(label, left + width / 2, bbox.top + bbox.height - 4 * uPlot.pxRatio);
  }
}

function drawLimit(u: uPlot, limit: ChartLimit): void {
  if (!isLevel(limit.kind)) return;
  const { ctx, bbox } = u;
  const ratio = uPlot.pxRatio;
  const y = u.valToPos(limit.setpoint, "y", true);
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  const right = bbox.left + bbox.width;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = LEVEL_COLOUR[limit.kind];
  ctx.lineWidth = ratio;
  ctx.setLineDash([7 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(right, y);
  ctx.stroke();
  ctx.font = `600 ${12 * ratio}px ${FONT}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillText(`${codeWord(limit.kind)} ${plain(limit.setpoint)}`, right + 5 * ratio, y);
  ctx.restore();
}

function drawAbove(u: uPlot, model: ChartModel): void {
  clip(u, () => {
    if (model.projection !== null) drawFan(u, model.projection, model);
    drawRaised(u, model.raised);
  });
}

/** A line at each moment of raising; the labels are staggered, and one that finds no room is left out. */
function drawRaised(u: uPlot, raised: ChartModel["raised"]): void {
  const { ctx, bbox } = u;
  const ratio = uPlot.pxRatio;
  ctx.save();
  ctx.font = `600 ${11 * ratio}px ${FONT}`;
  const marks = raised
    .map((mark) => {
      const x = u.valToPos(mark.at, "x", true);
      const width = ctx.measureText(mark.label).width + 12 * ratio;
      const left = x - width < bbox.left ? x : x - width;
      return { ...mark, x, left, right: left + width };
    })
    .filter((mark) => mark.x >= bbox.left && mark.x <= bbox.left + bbox.width)
    .sort((a, b) => a.left - b.left);
  const rows = rowsOf(marks, MARK_ROWS);
  marks.forEach((mark, i) => drawMark(u, mark, rows[i] ?? null));
  ctx.restore();
}

type Placed = ChartModel["raised"][number] & { readonly x: number; readonly left: number; readonly right: number };

function drawMark(u: uPlot, mark: Placed, row: number | null): void {
  const { ctx, bbox } = u;
  const ratio = uPlot.pxRatio;
  const top = bbox.top + (row ?? 0) * MARK_HEIGHT * ratio;
  ctx.strokeStyle = groupOf(mark.kind) === "early" ? COLOUR.early : PRIORITY_COLOUR[mark.priority];
  ctx.lineWidth = ratio;
  ctx.setLineDash([2 * ratio, 3 * ratio]);
  ctx.beginPath();
  ctx.moveTo(mark.x, top);
  ctx.lineTo(mark.x, bbox.top + bbox.height);
  ctx.stroke();
  if (row === null) return;
  ctx.fillStyle = COLOUR.behindText;
  ctx.fillRect(mark.left, top, mark.right - mark.left, MARK_HEIGHT * ratio);
  ctx.fillStyle = ctx.strokeStyle;
  ctx.beginPath();
  ctx.moveTo(mark.x - 4 * ratio, top + 2 * ratio);
  ctx.lineTo(mark.x + 4 * ratio, top + 2 * ratio);
  ctx.lineTo(mark.x, top + 9 * ratio);
  ctx.fill();
  const before = mark.left < mark.x;
  ctx.textAlign = before ? "right" : "left";
  ctx.textBaseline = "top";
  ctx.fillText(mark.label, mark.x + (before ? -6 : 6) * ratio, top + 2 * ratio);
}

function drawFan(u: uPlot, projection: Projection, model: ChartModel): void {
  const { ctx } = u;
  const ratio = uPlot.pxRatio;
  const f = fan(projection, model.window[1]);
  const x0 = u.valToPos(f.start, "x", true);
  const x1 = u.valToPos(f.end, "x", true);
  const y = (value: number): number => u.valToPos(value, "y", true);
  ctx.save();
  ctx.fillStyle = COLOUR.earlyFan;
  ctx.beginPath();
  ctx.moveTo(x0, y(f.level));
  ctx.lineTo(x1, y(f.high));
  ctx.lineTo(x1, y(f.low));
  ctx.fill();
  ctx.strokeStyle = ctx.fillStyle = COLOUR.early;
  ctx.lineWidth = 2 * ratio;
  ctx.setLineDash([8 * ratio, 5 * ratio]);
  ctx.beginPath();
  ctx.moveTo(x0, y(f.level));
  ctx.lineTo(x1, y(f.mid));
  ctx.stroke();
  if (f.meets !== null) {
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.arc(u.valToPos(f.meets, "x", true), y(projection.limit), 5 * ratio, 0, 2 * Math.PI);
    ctx.stroke();
  }
  ctx.restore();
}

/** What the cursor stands on, in words: time, mean, and the band when there is one. */
export function readout(model: ChartModel, index: number): string {
  const { x, mean, min, max, bad } = model.columns;
  const time = shortInstant((x[index] ?? 0) * 1000, model.zone, model.window[1] * 1000);
  const value = mean[index] ?? null;
  if (value === null) return `${time}  ${bad[index] ? model.badWord : "—"}`;
  const low = min[index] ?? value;
  const high = max[index] ?? value;
  const range = high > low ? `  [${fixed(low, model.decimals)} … ${fixed(high, model.decimals)}]` : "";
  return `${time}  ${fixed(value, model.decimals)}${range}`;
}
