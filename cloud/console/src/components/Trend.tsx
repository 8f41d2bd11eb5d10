/** Owns the trend of the chosen point: its history, kept current from the stream, with limits and early warning. */
import { computed, effect, signal, untracked, useComputed } from "@preact/signals";
import { api } from "../api.ts";
import { type ChartModel, isLevel } from "../chart.ts";
import { now, serverNow } from "../clock.ts";
import { append, type Columns, emptyColumns, toColumns } from "../columns.ts";
import { calendarDate, duration, plain, shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { codeWord } from "../kinds.ts";
import { conditionPresent } from "../order.ts";
import { trendWindow } from "../layout.ts";
import { heading, type Level, passed, secondsLeft } from "../projection.ts";
import { grade } from "../quality.ts";
import { announcedAlarms, chosenByHand, connection, type Live, mostUrgentPoint, openPoint, points, pointsById, selectedPoint, stateOf, zone } from "../store.ts";
import { explain } from "../toast.ts";
import type { Alarm, Computed, Point, Projection, Stretch } from "../types.ts";
import { Chart } from "./Chart.tsx";
import { ValueText } from "./ValueText.tsx";

/** Each span with the step of its history (null: every sample) and how often it is read again. */
const SPANS = [
  { key: "span_10min", span_s: 600, step_s: null, again_s: 120 },
  { key: "span_1h", span_s: 3600, step_s: 5, again_s: 60 },
  { key: "span_8h", span_s: 28_800, step_s: 30, again_s: 120 },
  { key: "span_24h", span_s: 86_400, step_s: 120, again_s: 300 },
  { key: "span_7d", span_s: 604_800, step_s: 900, again_s: 600 },
  { key: "span_30d", span_s: 2_592_000, step_s: 3600, again_s: 1800 },
  { key: "span_1y", span_s: 31_536_000, step_s: 43_200, again_s: 3600 },
] as const;
type Span = (typeof SPANS)[number];

interface History {
  readonly point: string;
  readonly columns: Columns;
  /** alarms of this point that are over and left the list of current ones */
  readonly past: readonly Alarm[];
  /** stretches whose times may be wrong */
  readonly doubts: readonly Stretch[];
}

const PAST_ALARMS = 200;

const span = signal<Span>(SPANS[0]);
const NOTHING = { past: [], doubts: [] } as const;
const history = signal<History>({ point: "", columns: emptyColumns(), ...NOTHING });
const problem = signal<unknown>(null);
const loading = signal(false);

/** Keeps the history of the chosen point read and current; called once when the page starts. */
export function startTrend(): void {
  effect(() => {
    if (selectedPoint.value === null && points.value.length > 0) selectedPoint.value = untracked(() => mostUrgentPoint(null));
  });
  // Whoever has chosen no point sees the one with which an incident begins, and it stays while the incident lasts.
  let calm = true;
  effect(() => {
    const alarmed = announcedAlarms.value.length > 0;
    if (calm && alarmed && !chosenByHand.peek()) selectedPoint.value = untracked(() => mostUrgentPoint(null));
    calm = !alarmed;
  });
  effect(() => {
    const point = selectedPoint.value;
    const wanted = span.value;
    if (point === null || connection.value !== "live") return undefined;
    let current = true;
    const read = (): void => {
      void readHistory(point, wanted, () => current);
    };
    if (untracked(() => history.value.point) !== point) history.value = { point, columns: emptyColumns(), ...NOTHING };
    read();
    const timer = setInterval(read, wanted.again_s * 1000);
    return () => {
      current = false;
      clearInterval(timer);
    };
  });
  effect(() => {
    const point = selectedPoint.value;
    if (point === null) return;
    const live = stateOf(point).live.value;
    if (live.time === null) return;
    const { columns, point: shown, ...rest } = untracked(() => history.value);
    const time = Date.parse(live.time) / 1000;
    const from = serverNow() / 1000 - span.peek().span_s;
    if (shown === point && append(columns, time, live.value, live.quality, from, span.peek().step_s)) history.value = { point, columns, ...rest };
  });
}

async function readHistory(point: string, wanted: Span, current: () => boolean): Promise<void> {
  loading.value = true;
  try {
    const end = serverNow();
    const start = end - wanted.span_s * 1000;
    const [rows, alarms] = await Promise.all([
      api.readings(point, new Date(start).toISOString(), new Date(end).toISOString(), wanted.step_s),
      api.alarms("all", PAST_ALARMS),
    ]);
    if (!current()) return;
    history.value = { point, columns: toColumns(rows), past: alarms.filter((a) => a.point === point), doubts: rows.unsynchronised };
    problem.value = null;
  } catch (error) {
    if (current()) problem.value = error;
  } finally {
    if (current()) loading.value = false;
  }
}

function levelsOf(point: Point): Level[] {
  return point.limits.flatMap((l) =>
    isLevel(l.kind) && l.setpoint !== null ? [{ kind: l.kind, setpoint: l.setpoint, side: l.side === "low" ? -1 : 1 }] : [],
  );
}

function modelOf(point: Point): ChartModel {
  const state = stateOf(point.id);
  const at = connection.value === "live" ? now.value / 1000 : now.peek() / 1000;
  const { span_s } = span.value;
  const told = state.projection.value;
  const projection = told !== null && heading(told, levelsOf(point)) ? told : null;
  const { columns } = history.value;
  return {
    columns,
    window: trendWindow(columns.x[0], at, span_s, projection),
    limits: levelsOf(point),
    raised: [...new Map([...history.value.past, ...state.alarms.value].map((a) => [a.id, a])).values()].map((a) => ({
      at: Date.parse(a.raised_at) / 1000,
      kind: a.kind,
      priority: a.priority,
      label: codeWord(a.kind),
    })),
    projection,
    low: point.low,
    high: point.high,
    decimals: point.decimals,
    zone: zone.value,
    badWord: t("badSpan"),
  };
}

const chosen = computed(() => {
  const id = selectedPoint.value;
  return id === null ? null : (pointsById.value.get(id) ?? null);
});

export function Trend() {
  const point = chosen.value;
  return point === null ? null : <PointTrend key={point.id} point={point} />;
}

function PointTrend({ point }: { readonly point: Point }) {
  const model = useComputed(() => modelOf(point));
  const label = t("trendOf", { name: named(point.name) });
  const columns = history.value.columns;
  return (
    <section class="trend" data-testid="trend" data-point={point.id} aria-label={label}>
      <header>
        <h2>
          {named(point.name)} <code>{point.id}</code>
        </h2>
        <span class="trend-value">
          <ValueText point={point} testId="trend-value" />
        </span>
        <EarlyText point={point} />
        <fieldset class="segmented" aria-label={t("trend")}>
          {SPANS.map((s) => (
            <button
              key={s.key}
              type="button"
              data-testid={`trend-${s.key}`}
              aria-pressed={span.value === s}
              onClick={() => {
                span.value = s;
              }}
            >
              {t(s.key)}
            </button>
          ))}
        </fieldset>
      </header>
      <Chart key={zone.value} model={model} label={label} testId="trend-chart" />
      <p class="trend-note">
        <span>{calendarDate(now.value, zone.value)}</span>
        <span>{point.unit}</span>
        {point.computed === null ? (
          <span>
            {t("instrument")} {point.gateway} / {point.device}
            {point.cas === null ? "" : ` · CAS ${point.cas}`}
          </span>
        ) : (
          <Members computed={point.computed} />
        )}
        {problem.value !== null && <span class="wrong">{t("trendFailed", { reason: explain(problem.value) })}</span>}
        <Doubts stretches={history.value.doubts} />
        {problem.value === null && !loading.value && columns.x.length === 0 && <span>{t("noReadings")}</span>}
      </p>
    </section>
  );
}

/** From the first to the last reading shown whose time may be wrong. */
function Doubts({ stretches }: { readonly stretches: readonly Stretch[] }) {
  if (stretches.length === 0) return null;
  const times = stretches.flatMap(({ first, last }) => [first, last]).sort();
  const [from, to] = [times[0], times.at(-1)].map((at) => shortInstant(at ?? "", zone.value, now.value));
  return <span data-testid="times-in-doubt">{t("timesInDoubt", { from: from ?? "", to: to ?? "" })}</span>;
}

/** Of what a computed point is made: each member with its present value, a step away. */
function Members({ computed: { told, members } }: { readonly computed: Computed }) {
  return (
    <span class="members" data-testid="members">
      {t("computedBy", { rule: named(told) })}
      {members.map((id) => {
        const member = pointsById.value.get(id);
        return (
          <button key={id} type="button" data-testid={`member-${id}`} title={member === undefined ? id : named(member.name)} onClick={() => openPoint(id)}>
            <code>{id}</code>
            {member !== undefined && <ValueText point={member} testId={`member-value-${id}`} />}
          </button>
        );
      })}
    </span>
  );
}

function EarlyText({ point }: { readonly point: Point }) {
  const state = stateOf(point.id);
  const projection = state.projection.value;
  if (projection === null) return null;
  const warned = state.alarms.value.some((a) => a.kind === "time-to-limit" && conditionPresent(a.phase));
  return (
    <strong class={`early-text${warned ? " warned" : ""}`} data-testid="early-warning-text">
      {earlyWords(projection, point, state.live.value, now.value)}
    </strong>
  );
}

function earlyWords(projection: Projection, point: Point, live: Live, nowMs: number): string {
  const value = live.value !== null && grade(live.quality) !== "bad" ? live.value : projection.level;
  const past = passed(projection, levelsOf(point), value);
  if (past !== null) {
    return t(past.side > 0 ? "isAbove" : "isBelow", { limit: codeWord(past.kind), value: plain(past.setpoint), unit: point.unit });
  }
  const fill = { limit: codeWord(projection.limit_kind), value: plain(projection.limit), unit: point.unit };
  const left = secondsLeft(projection, nowMs);
  if (left === null) return t("reachesNot", { ...fill, horizon: duration(projection.horizon_s) });
  return left < 1 ? t("reachesNow", fill) : t("reaches", { ...fill, duration: duration(left) });
}
