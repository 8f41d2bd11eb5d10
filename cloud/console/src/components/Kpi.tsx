/** Owns the page about the alarm system itself: its rates against EEMUA 191, its floods, and the alarms that need work. */
import { signal, useSignalEffect } from "@preact/signals";
import { api } from "../api.ts";
import { hourBars, stripes } from "../bars.ts";
import { now } from "../clock.ts";
import { clockTime, duration, plain, shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { codeWord } from "../kinds.ts";
import { PRIORITIES } from "../order.ts";
import { connection, openPoint, pointsById, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { AlarmKind, AlarmSystem, Counted, Flood } from "../types.ts";
import { Glyph } from "./Glyph.tsx";

const AGAIN_MS = 5000;
/** ISA-18.2 and EEMUA 191: about 80 % low, 15 % medium, 5 % high, and hardly any critical. */
const TARGET_SHARE = { critical: 0.01, high: 0.05, medium: 0.15, low: 0.8 } as const;
/** Their targets for the rest, for one operator. */
const TARGET = { perDay: 144, most: 10, share: 0.01, topShare: 0.05, standing: 5 } as const;
const WIDTH = 960;
const HEIGHT = 190;
const MOST_ROWS = 10;

const found = signal<AlarmSystem | null>(null);

export function Kpi() {
  useSignalEffect(() => {
    if (connection.value !== "live") return undefined;
    const read = (): void => {
      api.kpi().then(
        (figures) => {
          found.value = figures.alarm_system;
        },
        (error: unknown) => say(explain(error)),
      );
    };
    read();
    const timer = setInterval(read, AGAIN_MS);
    return () => clearInterval(timer);
  });
  const figures = found.value;
  if (figures === null) return <p class="empty">{t("loading")}</p>;
  return (
    <section class="scroll gateways kpi" aria-label={t("tab_kpi")} data-testid="kpi">
      <Rates figures={figures} />
      <div class="kpi-columns">
        <Top figures={figures} />
        <Priorities figures={figures} />
        <Floods floods={figures.floods} />
        <Bad title={t("kpiChattering")} hint={t("kpiChatteringHint")} rows={figures.chattering} testId="kpi-chattering" />
        <Bad title={t("kpiFleeting")} hint={t("kpiFleetingHint")} rows={figures.fleeting} testId="kpi-fleeting" />
        <Bad
          title={t("kpiStanding")}
          hint={t("kpiStandingHint")}
          rows={figures.standing.map((alarm) => ({ alarm, count: null }))}
          testId="kpi-standing"
        />
      </div>
    </section>
  );
}

function when(at: string): string {
  return shortInstant(at, zone.value, now.peek());
}

function share(value: number): string {
  return `${plain(Math.round(value * 1000) / 10)} %`;
}

function Rates({ figures }: { readonly figures: AlarmSystem }) {
  return (
    <article class="gateway">
      <header>
        <h3>{t("kpiPerHour")}</h3>
        <span class={`load l-${figures.load}`} data-testid="kpi-load">
          {t(`load_${figures.load}`)}
        </span>
        <span class="muted">{t("kpiSpan", { from: when(figures.from), to: when(figures.to) })}</span>
      </header>
      <HourPicture figures={figures} />
      <dl class="figures">
        <Figure term={t("kpiAlarms")} text={String(figures.alarms)} />
        <Figure term={t("kpiPerHour")} text={plain(Math.round(figures.per_hour * 10) / 10)} />
        <Figure term={t("kpiPerDay")} text={String(Math.round(figures.per_day))} target={`≤ ${TARGET.perDay}`} wrong={figures.per_day > TARGET.perDay} />
        <Figure term={t("kpiMost")} text={plain(figures.most_in_ten_minutes)} target={`≤ ${TARGET.most}`} wrong={figures.most_in_ten_minutes > TARGET.most} />
        <Share term={t("kpiTensOver")} value={figures.ten_minutes_over} below={TARGET.share} />
        <Share term={t("kpiHoursOver")} value={figures.hours_over} below={TARGET.share} />
        <Share term={t("kpiInFlood")} value={figures.in_flood} below={TARGET.share} />
        <Share term={t("kpiTopShare")} value={figures.top_share} below={TARGET.topShare} />
      </dl>
    </article>
  );
}

function Share({ term, value, below }: { readonly term: string; readonly value: number; readonly below: number }) {
  return <Figure term={term} text={share(value)} target={`< ${share(below)}`} wrong={value >= below} />;
}

interface FigureProps {
  readonly term: string;
  readonly text: string;
  readonly target?: string;
  readonly wrong?: boolean;
}

function Figure({ term, text, target, wrong = false }: FigureProps) {
  return (
    <div>
      <dt>{term}</dt>
      <dd class={wrong ? "wrong" : ""}>{text}</dd>
      {target !== undefined && <small>{t("kpiTarget", { target })}</small>}
    </div>
  );
}

/** Bars of alarms an hour before the bands of EEMUA 191. */
function HourPicture({ figures }: { readonly figures: AlarmSystem }) {
  const bars = hourBars(figures);
  const step = WIDTH / Math.max(1, bars.length);
  const y = (part: number): number => HEIGHT * (1 - part);
  const every = Math.ceil(bars.length / 12);
  return (
    <svg class="hours" viewBox={`-36 -8 ${WIDTH + 150} ${HEIGHT + 30}`} role="img" aria-label={t("kpiPerHour")} data-testid="kpi-hours">
      {stripes(figures).map((band) => (
        <g key={band.load} class={`band l-${band.load}`}>
          <rect x={0} y={y(band.to)} width={WIDTH} height={HEIGHT * (band.to - band.from)} />
          <text class="band-word" x={WIDTH + 8} y={y((band.from + band.to) / 2) + 4}>
            {t(`load_${band.load}`)}
          </text>
          {band.limit !== null && (
            <text class="axis" x={-6} y={y(band.to) + 4} text-anchor="end">
              {plain(band.limit)}
            </text>
          )}
        </g>
      ))}
      {bars.map((bar, i) => (
        <g key={bar.at} class={`bar l-${bar.load}${bar.begun ? " begun" : ""}`} data-count={bar.count}>
          <title>{`${clockTime(bar.at, zone.value).slice(0, 5)}  ${bar.count}${bar.begun ? ` (${t("kpiNow")})` : ""}`}</title>
          <rect x={i * step + step * 0.15} y={y(bar.height)} width={step * 0.7} height={HEIGHT * bar.height} />
          {bar.count > 0 && bars.length <= 48 && (
            <text x={(i + 0.5) * step} y={y(bar.height) - 3} text-anchor="middle">
              {bar.count}
            </text>
          )}
          {i % every === 0 && (
            <text class="axis" x={i * step} y={HEIGHT + 16} text-anchor="middle">
              {clockTime(bar.at, zone.value).slice(0, 5)}
            </text>
          )}
        </g>
      ))}
      <line x1={0} y1={HEIGHT} x2={WIDTH} y2={HEIGHT} />
    </svg>
  );
}

function Top({ figures }: { readonly figures: AlarmSystem }) {
  const most = figures.top[0]?.count ?? 1;
  return (
    <article class="gateway" data-testid="kpi-top">
      <h3>{t("kpiTop")}</h3>
      {figures.top.length === 0 && <p class="muted">{t("kpiNoAlarm")}</p>}
      <ol class="counted">
        {figures.top.map((row) => (
          <li key={row.alarm}>
            <AlarmName alarm={row.alarm} />
            <i class="length" style={{ width: `${(row.count / most) * 100}%` }} />
            <b>{row.count}</b>
          </li>
        ))}
      </ol>
    </article>
  );
}

/** An alarm's id is its point's with the kind behind the last stroke. */
function AlarmName({ alarm }: { readonly alarm: string }) {
  const cut = alarm.lastIndexOf("/");
  const point = pointsById.value.get(alarm.slice(0, cut));
  return (
    <button type="button" class="link" title={alarm} disabled={point === undefined} onClick={() => openPoint(alarm.slice(0, cut))}>
      <b>{codeWord(alarm.slice(cut + 1) as AlarmKind)}</b> {point === undefined ? alarm : named(point.name)}
    </button>
  );
}

function Priorities({ figures }: { readonly figures: AlarmSystem }) {
  return (
    <article class="gateway" data-testid="kpi-priorities">
      <h3>{t("kpiPriorities")}</h3>
      <ul class="counted shares">
        {PRIORITIES.map((priority) => (
          <li key={priority}>
            <span>
              <Glyph priority={priority} size={16} /> {t(`priority_${priority}`)}
            </span>
            <i class={`length p-${priority}`} style={{ width: `${figures.priorities[priority] * 100}%` }} />
            <b>{share(figures.priorities[priority])}</b>
            <small>{t("kpiTarget", { target: share(TARGET_SHARE[priority]) })}</small>
          </li>
        ))}
      </ul>
    </article>
  );
}

function Floods({ floods }: { readonly floods: readonly Flood[] }) {
  const rows = [...floods].reverse().slice(0, MOST_ROWS);
  return (
    <article class="gateway" data-testid="kpi-floods">
      <h3>
        {t("kpiFloods")} <b class={floods.length > 0 ? "wrong" : "muted"}>{floods.length}</b>
      </h3>
      <ul class="plain-list">
        {rows.map((row) => (
          <li key={row.since}>
            <span>
              {when(row.since)} · {row.until === null ? <b class="wrong">{t("kpiStillOn")}</b> : duration((Date.parse(row.until) - Date.parse(row.since)) / 1000)}
            </span>
            <span class="first">
              {t("kpiFirst")} <AlarmName alarm={row.first} />
            </span>
            <b>{row.alarms}</b>
          </li>
        ))}
      </ul>
    </article>
  );
}

interface BadProps {
  readonly title: string;
  readonly hint: string;
  readonly rows: readonly (Counted | { readonly alarm: string; readonly count: null })[];
  readonly testId: string;
}

/** Alarms that somebody should put right. */
function Bad({ title, hint, rows, testId }: BadProps) {
  return (
    <article class="gateway" data-testid={testId}>
      <h3>
        {title} <b class={rows.length > 0 ? "wrong" : "muted"}>{rows.length}</b>
      </h3>
      <p class="muted">{hint}</p>
      <ul class="plain-list">
        {rows.slice(0, MOST_ROWS).map((row) => (
          <li key={row.alarm}>
            <AlarmName alarm={row.alarm} />
            {row.count !== null && <b>{row.count}</b>}
          </li>
        ))}
      </ul>
    </article>
  );
}
