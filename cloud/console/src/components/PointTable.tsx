/** Owns the table of live values: which points are listed, and one row that redraws only its own cells. */
import { computed, signal, useComputed } from "@preact/signals";
import { now } from "../clock.ts";
import { fraction, timeOrDay } from "../format.ts";
import { named, t } from "../i18n.ts";
import { codeWord, groupOf, kindWord } from "../kinds.ts";
import { annunciated, asksForAnswer, leading } from "../order.ts";
import { grade } from "../quality.ts";
import { doubt, openPoint, points, selectedPoint, selectedSource, stateOf, zone } from "../store.ts";
import type { Alarm, Computed, LevelKind, Point } from "../types.ts";
import { Glyph } from "./Glyph.tsx";
import { memo } from "./memo.ts";
import { ValueText } from "./ValueText.tsx";
import { VirtualRows } from "./VirtualRows.tsx";

/** In every zone a day begins at a quarter of an hour of UTC: the rows' times are looked at anew then, not each second. */
const QUARTER_MS = 900_000;
const quarter = computed(() => Math.floor(now.value / QUARTER_MS) * QUARTER_MS);

const search = signal("");
const abnormalOnly = signal(false);

const ofSource = computed(() => {
  const source = selectedSource.value;
  return source === null ? points.value : points.value.filter((p) => p.source === source);
});

const listed = computed(() => {
  const wanted = search.value.trim().toLowerCase();
  const found = wanted === "" ? ofSource.value : ofSource.value.filter((p) => haystack(p).includes(wanted));
  return abnormalOnly.value ? found.filter((p) => abnormal(p)) : found;
});

function haystack(point: Point): string {
  const more = point.computed === null ? point.device : point.computed.members.join(" ");
  return `${point.id} ${point.name.zh} ${point.name.en} ${more}`.toLowerCase();
}

function abnormal(point: Point): boolean {
  const state = stateOf(point.id);
  return state.alarms.value.length > 0 || grade(state.live.value.quality) !== "good";
}

export function PointTable() {
  const rows = listed.value;
  return (
    <section class="points" aria-label={t("tab_points")}>
      <div class="points-tools">
        <input
          type="search"
          data-testid="point-search"
          placeholder={t("search")}
          aria-label={t("search")}
          value={search}
          onInput={(event) => {
            search.value = event.currentTarget.value;
          }}
        />
        <label class="check">
          <input
            type="checkbox"
            data-testid="abnormal-only"
            checked={abnormalOnly}
            onChange={(event) => {
              abnormalOnly.value = event.currentTarget.checked;
            }}
          />
          {t("abnormalOnly")}
        </label>
        <span class="muted">{t("pointsShown", { shown: rows.length, all: ofSource.value.length })}</span>
      </div>
      <div class="table" role="grid" aria-label={t("tab_points")} aria-rowcount={rows.length + 1} onKeyDown={moveFocus}>
        <div class="row head" role="row" tabIndex={-1}>
          <span role="columnheader">{t("point")}</span>
          <span role="columnheader" class="num">
            {t("value")}
          </span>
          <span role="columnheader">{t("range")}</span>
          <span role="columnheader">{t("state")}</span>
          <span role="columnheader" class="when">
            {t("time")}
          </span>
        </div>
        {rows.length === 0 ? (
          <p class="empty">{t("noPoints")}</p>
        ) : (
          <VirtualRows rows={rows} height={36} render={(point) => <PointRow key={point.id} point={point} />} />
        )}
      </div>
    </section>
  );
}

/** Up and down go from row to row, as in a list. */
function moveFocus(event: KeyboardEvent): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const row = (event.target as HTMLElement).closest(".row");
  const next = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
  if (next instanceof HTMLElement && next.classList.contains("row")) {
    event.preventDefault();
    next.focus();
  }
}

const PointRow = memo(function PointRow({ point }: { readonly point: Point }) {
  const chosen = useComputed(() => (selectedPoint.value === point.id ? "true" : "false"));
  const open = (): void => openPoint(point.id);
  return (
    <div
      class="row"
      role="row"
      tabIndex={0}
      data-testid={`point-${point.id}`}
      aria-selected={chosen}
      onClick={open}
      onKeyDown={(event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          open();
        }
      }}
    >
      <PointName point={point} />
      <span role="gridcell" class="cell-value">
        <ValueText point={point} testId={`point-value-${point.id}`} />
      </span>
      <span role="gridcell" class="cell-bar">
        <RangeBar point={point} />
      </span>
      <StateCell point={point} />
      <TimeCell point={point} />
    </div>
  );
});

function PointName({ point }: { readonly point: Point }) {
  const name = named(point.name);
  const { computed: how } = point;
  const origin = how === null ? `${point.gateway} / ${point.device}` : ofWhat(how);
  return (
    <span role="gridcell" class="cell-name">
      <span title={how === null ? name : `${name} · ${origin}`}>
        {name}
        {how !== null && (
          <small class="computed" data-testid={`computed-${point.id}`}>
            {origin}
          </small>
        )}
      </span>
      <code title={point.declared ? origin : t("undeclared")}>{point.id}</code>
    </span>
  );
}

function ofWhat(how: Computed): string {
  return t("computedOf", { rule: named(how.told), members: how.members.join(t("listComma")) });
}

const TICKED: readonly LevelKind[] = ["LL", "L", "H", "HH", "blue", "yellow", "orange", "red"];

function RangeBar({ point }: { readonly point: Point }) {
  const state = stateOf(point.id);
  const live = state.live.value;
  const at = grade(live.quality) === "bad" ? null : fraction(live.value, point.low, point.high);
  const worst = leading(state.alarms.value.filter((a) => (TICKED as readonly string[]).includes(a.kind)));
  return (
    <span class={`bar${worst === null ? "" : ` p-${worst.priority}`}`} aria-hidden="true">
      {point.limits.map((limit) => {
        const x = (TICKED as readonly string[]).includes(limit.kind) ? fraction(limit.setpoint, point.low, point.high) : null;
        return x === null ? null : <i key={limit.alarm} class={`tick k-${limit.kind}`} style={{ left: `${x * 100}%` }} />;
      })}
      {at !== null && <i class="fill" style={{ transform: `scaleX(${at})` }} />}
      {at !== null && <i class="needle" style={{ left: `${at * 100}%` }} />}
    </span>
  );
}

function StateCell({ point }: { readonly point: Point }) {
  const state = stateOf(point.id);
  const all = state.alarms.value;
  const process = leading(all.filter((a) => groupOf(a.kind) === "process"));
  const early = all.find((a) => groupOf(a.kind) === "early" && !a.phase.startsWith("returned"));
  const why = doubt(state.live.value, all);
  const trusted = why === "good" || why === "goodOverride";
  const instrument = leading(all.filter((a) => groupOf(a.kind) === "instrument"));
  return (
    <span role="gridcell" class="cell-state" data-testid={`point-state-${point.id}`}>
      {process !== null && <AlarmTag alarm={process} />}
      {early !== undefined && <span class={`early${asks(early) ? " blink" : ""}`}>{kindWord(early.kind)}</span>}
      {!trusted && (
        <span class={`why ${grade(state.live.value.quality)}`}>
          {instrument !== null && <Glyph priority={instrument.priority} blink={asks(instrument)} size={16} />}
          {why === "stale" || why.startsWith("good")
            ? ""
            : `${t(grade(state.live.value.quality) === "bad" ? "qualityBad" : "qualityUncertain")} · `}
          {t(`q_${why}`)}
        </span>
      )}
      {process === null && early === undefined && trusted && <span class="muted">{point.limits.length === 0 ? "" : t("normal")}</span>}
    </span>
  );
}

/** What is hidden blinks nowhere: whoever shelves an alarm is told so. */
function asks(alarm: Alarm): boolean {
  return asksForAnswer(alarm.phase) && annunciated(alarm, now.peek());
}

function AlarmTag({ alarm }: { readonly alarm: Alarm }) {
  const returned = alarm.phase.startsWith("returned");
  return (
    <span class={`alarm-tag p-${alarm.priority}`}>
      <Glyph priority={alarm.priority} blink={asks(alarm)} hollow={returned} size={18} />
      <b>{codeWord(alarm.kind)}</b>
      <span>{returned ? t("phase_returned-unacknowledged") : kindWord(alarm.kind)}</span>
    </span>
  );
}

function TimeCell({ point }: { readonly point: Point }) {
  const { time } = stateOf(point.id).live.value;
  return (
    <span role="gridcell" class="when">
      {time === null ? "—" : timeOrDay(time, zone.value, quarter.value)}
    </span>
  );
}
