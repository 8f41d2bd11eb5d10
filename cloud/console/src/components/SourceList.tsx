/** Owns the column of hazard sources: level, worst state, how many alarms, early warning. */
import { named, t, type Word } from "../i18n.ts";
import { announcedAlarms, gateways, notifications, openSource, plant, points, selectedSource, stateOf, tab, tickets, type Tab, unacknowledged } from "../store.ts";
import { groupOf } from "../kinds.ts";
import { asksForAnswer, conditionPresent, priorityRank } from "../order.ts";
import { grade } from "../quality.ts";
import type { Alarm, HazardSource, Priority } from "../types.ts";
import { Glyph } from "./Glyph.tsx";

export function SourceList() {
  const sources = plant.value?.hazard_sources ?? [];
  return (
    <nav class="sources" aria-label={t("sources")}>
      <h2>{t("sources")}</h2>
      <div class="source-cards">
        <WholeSite />
        {sources.map((source) => (
          <SourceCard key={source.id} source={source} />
        ))}
      </div>
      <SystemSummary />
    </nav>
  );
}

interface Summary {
  readonly worst: Priority | null;
  readonly active: number;
  readonly unacknowledged: number;
  readonly early: boolean;
}

/** Counted from the list beside it, so that both always say the same. */
function summaryOf(alarms: readonly Alarm[]): Summary {
  const present = alarms.filter((a) => conditionPresent(a.phase));
  return {
    worst: alarms.reduce<Priority | null>((found, { priority }) => (found === null || priorityRank(priority) > priorityRank(found) ? priority : found), null),
    active: present.length,
    unacknowledged: alarms.filter((a) => asksForAnswer(a.phase)).length,
    early: present.some((a) => groupOf(a.kind) === "early"),
  };
}

function WholeSite() {
  return <Card id={null} testId="source-all" name={t("allSources")} level={null} summary={summaryOf(announcedAlarms.value)} />;
}

function SourceCard({ source }: { readonly source: HazardSource }) {
  const level = source.level === null ? t("noLevel") : t(`level${source.level}`);
  const summary = summaryOf(announcedAlarms.value.filter((a) => a.source === source.id));
  return <Card id={source.id} testId={`source-${source.id}`} name={named(source.name)} level={level} summary={summary} />;
}

interface CardProps {
  readonly id: string | null;
  readonly testId: string;
  readonly name: string;
  readonly level: string | null;
  readonly summary: Summary;
}

function Card({ id, testId, name, level, summary }: CardProps) {
  const chosen = selectedSource.value === id;
  const { worst, active, early } = summary;
  const asks = summary.unacknowledged > 0;
  // The mark blinks only when an alarm of that very priority is unanswered, not when a lesser one is.
  const worstAsks = unacknowledged.value.some((a) => a.priority === worst && (id === null || a.source === id));
  return (
    <button
      type="button"
      class={`source${chosen ? " chosen" : ""} ${worst === null ? "calm" : `p-${worst}`}${asks ? " asks" : ""}`}
      data-testid={testId}
      data-worst={worst ?? "none"}
      aria-pressed={chosen}
      onClick={() => openSource(id)}
    >
      <span class="source-head">
        {worst === null ? <i class="dot" aria-hidden="true" /> : <Glyph priority={worst} blink={worstAsks} size={22} />}
        <span class="source-name">{name}</span>
        {level !== null && <span class="level">{level}</span>}
      </span>
      <span class="source-foot">
        {active === 0 && !asks ? (
          <span class="muted">{t("normal")}</span>
        ) : (
          <>
            <span>
              <b>{active}</b> {t("activeShort")}
            </span>
            <span class={asks ? "loud" : "muted"}>
              <b>{summary.unacknowledged}</b> {t("unacknowledgedShort")}
            </span>
          </>
        )}
        {early && <span class="early">{t("earlyWarning")}</span>}
      </span>
    </button>
  );
}

function SystemSummary() {
  const all = [...gateways.value.values()];
  const online = all.filter((g) => g.state === "online").length;
  const failed = [...notifications.value.values()].filter((n) => n.state === "failed").length;
  const open = [...tickets.value.values()].filter((ticket) => ticket.state !== "accepted").length;
  return (
    <section class="system" aria-label={t("system")}>
      <h2>{t("system")}</h2>
      <Figure word="sysGateways" text={`${online} / ${all.length}`} wrong={online < all.length} to="gateways" />
      <BadFigure />
      <Figure word="sysTickets" text={String(open)} wrong={false} to="tickets" />
      <Figure word="sysFailed" text={String(failed)} wrong={failed > 0} to="notifications" />
    </section>
  );
}

function BadFigure() {
  const bad = points.value.filter((p) => grade(stateOf(p.id).live.value.quality) === "bad").length;
  return <Figure word="sysBad" text={`${bad} / ${points.value.length}`} wrong={bad > 0} to="points" />;
}

function Figure({ word, text, wrong, to }: { readonly word: Word; readonly text: string; readonly wrong: boolean; readonly to: Tab }) {
  return (
    <button
      type="button"
      class={`figure${wrong ? " wrong" : ""}`}
      onClick={() => {
        tab.value = to;
      }}
    >
      <span>{t(word)}</span>
      <b>{text}</b>
    </button>
  );
}
