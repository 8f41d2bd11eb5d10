/** Owns the column of hazard sources: level, worst state, how many alarms, early warning. */
import { computed } from "@preact/signals";
import { named, t, type Word } from "../i18n.ts";
import { announcedAlarms, gateways, notifications, openSource, openTickets, plant, points, selectedSource, stateOf, tab, type Tab } from "../store.ts";
import { groupOf } from "../kinds.ts";
import { asksForAnswer, conditionPresent, priorityRank } from "../order.ts";
import { grade } from "../quality.ts";
import type { HazardSource, Priority } from "../types.ts";
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
  worst: Priority | null;
  /** The worst that is unanswered. */
  worstAsking: Priority | null;
  active: number;
  unacknowledged: number;
  early: boolean;
}

function calm(): Summary {
  return { worst: null, worstAsking: null, active: 0, unacknowledged: 0, early: false };
}

function worse(found: Priority | null, priority: Priority): Priority {
  return found === null || priorityRank(priority) > priorityRank(found) ? priority : found;
}

/** By source, null: the whole site; counted from the list beside it, so that both always say the same. */
const summaries = computed(() => {
  const found = new Map<string | null, Summary>();
  for (const { source, priority, phase, kind } of announcedAlarms.value) {
    for (const place of source === null ? [null] : [null, source]) {
      const summary = found.get(place) ?? calm();
      found.set(place, summary);
      summary.worst = worse(summary.worst, priority);
      if (conditionPresent(phase)) {
        summary.active += 1;
        summary.early ||= groupOf(kind) === "early";
      }
      if (!asksForAnswer(phase)) continue;
      summary.unacknowledged += 1;
      summary.worstAsking = worse(summary.worstAsking, priority);
    }
  }
  return found;
});

function WholeSite() {
  return <Card id={null} testId="source-all" name={t("allSources")} level={null} />;
}

function SourceCard({ source }: { readonly source: HazardSource }) {
  const level = source.level === null ? t("noLevel") : t(`level${source.level}`);
  return <Card id={source.id} testId={`source-${source.id}`} name={named(source.name)} level={level} />;
}

interface CardProps {
  readonly id: string | null;
  readonly testId: string;
  readonly name: string;
  readonly level: string | null;
}

function Card({ id, testId, name, level }: CardProps) {
  const chosen = selectedSource.value === id;
  const summary = summaries.value.get(id) ?? calm();
  const { worst, active, early } = summary;
  const asks = summary.unacknowledged > 0;
  // The mark blinks only when an alarm of that very priority is unanswered, not when a lesser one is.
  const worstAsks = worst === summary.worstAsking;
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
  return (
    <section class="system" aria-label={t("system")}>
      <h2>{t("system")}</h2>
      <Figure word="sysGateways" text={`${online} / ${all.length}`} wrong={online < all.length} to="gateways" />
      <BadFigure />
      <Figure word="sysTickets" text={String(openTickets.value)} wrong={false} to="tickets" />
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
