/** Owns the list of alarms: what is current, what is shelved, what was. */
import { computed, effect, signal, untracked } from "@preact/signals";
import { api } from "../api.ts";
import { aim, aiming, keepPlaces, release } from "../hold.ts";
import { t } from "../i18n.ts";
import { alarms, alarmsCut, announcedAlarms, silencedAlarms, unacknowledged } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { Alarm } from "../types.ts";
import { AlarmRow } from "./AlarmRow.tsx";
import { MoreRow } from "./MoreRow.tsx";

type View = "active" | "shelved" | "history";
const PAGE = 150;
const HISTORY_PAGE = 200;
/** Many transitions in a second are one reading of the history. */
const SETTLE_MS = 1000;

const view = signal<View>("active");
const shown = signal(PAGE);
const past = signal<readonly Alarm[] | null>(null);
const pastEnded = signal(false);

const sorted = computed(() => (view.value === "active" ? announcedAlarms.value : view.value === "shelved" ? silencedAlarms.value : past.value));
/** The rows held in their places while somebody aims at one, and how many of them stood there at first. */
const still = signal<{ readonly rows: readonly Alarm[]; readonly first: number } | null>(null);

async function readPast(before?: string): Promise<void> {
  try {
    const rows = await api.alarms("all", HISTORY_PAGE, before);
    const known = new Set((before === undefined ? [] : (past.value ?? [])).map((a) => a.id));
    const fresh = rows.filter((a) => !known.has(a.id));
    past.value = [...(before === undefined ? [] : (past.value ?? [])), ...fresh].sort(
      (a, b) => Date.parse(b.raised_at) - Date.parse(a.raised_at),
    );
    pastEnded.value = rows.length < HISTORY_PAGE || fresh.length === 0;
  } catch (error) {
    say(explain(error));
  }
}

/** A new alarm must be seen: it brings the current list back, whatever was looked at. Called once when the page starts. */
export function startAlarmPanel(): void {
  let known = new Set<string>();
  let wanted = false;
  effect(() => {
    const asking = new Set(unacknowledged.value.map((a) => a.id));
    wanted ||= [...asking].some((id) => !known.has(id));
    known = asking;
    if (!wanted || aiming.value) return;
    wanted = false;
    choose("active");
  });
  effect(() => {
    const rows = sorted.value;
    if (!aiming.value || view.value === "history" || rows === null) still.value = null;
    else {
      const held = still.peek() ?? { rows, first: rows.length };
      still.value = { rows: keepPlaces(held.rows, rows, alarms.value), first: held.first };
    }
  });
  effect(() => {
    void alarms.value;
    if (view.value !== "history" || untracked(() => (past.value ?? []).length) > HISTORY_PAGE) return undefined;
    const timer = setTimeout(() => void readPast(), SETTLE_MS);
    return () => clearTimeout(timer);
  });
}

function choose(next: View): void {
  release();
  view.value = next;
  shown.value = PAGE;
  if (next === "history") void readPast();
}

export function AlarmPanel() {
  const current = view.value;
  const held = still.value;
  const rows = held === null ? sorted.value : held.rows;
  const added = held === null ? 0 : held.rows.length - held.first;
  const empty = current === "active" ? "noAlarms" : current === "shelved" ? "noShelved" : "noHistory";
  return (
    <section class="alarms" aria-label={t("alarms")}>
      <header>
        <h2>{t("alarms")}</h2>
        <fieldset class="segmented" aria-label={t("alarms")}>
          <ViewButton view="active" label={t("alarmsActive")} count={announcedAlarms.value.length} loud={unacknowledged.value.length > 0} />
          <ViewButton view="shelved" label={t("alarmsShelved")} count={silencedAlarms.value.length} loud={false} />
          <ViewButton view="history" label={t("alarmsHistory")} count={null} loud={false} />
        </fieldset>
      </header>
      <AlarmRows rows={rows} empty={t(empty)} history={current === "history"} />
      {added > 0 && (
        <button type="button" class="added" data-testid="alarms-added" onClick={release}>
          {t("newAlarmsBelow", { count: added })}
        </button>
      )}
    </section>
  );
}

interface ViewProps {
  readonly view: View;
  readonly label: string;
  readonly count: number | null;
  readonly loud: boolean;
}

function ViewButton({ view: own, label, count, loud }: ViewProps) {
  return (
    <button type="button" data-testid={`alarms-${own}`} aria-pressed={view.value === own} onClick={() => choose(own)}>
      {label}
      {count !== null && <b class={loud ? "loud" : ""}>{own === "active" && alarmsCut.value ? `${count}+` : count}</b>}
    </button>
  );
}

interface RowsProps {
  readonly rows: readonly Alarm[] | null;
  readonly empty: string;
  readonly history: boolean;
}

function AlarmRows({ rows, empty, history }: RowsProps) {
  if (rows === null) return <p class="empty">{t("loading")}</p>;
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const rest = rows.length - shown.value;
  const last = rows.at(-1);
  return (
    <ul
      class="alarm-rows"
      data-testid="alarm-list"
      aria-live="polite"
      aria-relevant="additions"
      onPointerMove={aim}
      onPointerDown={aim}
      onFocusIn={aim}
      onKeyDown={aim}
      onPointerLeave={(event) => {
        if (!event.currentTarget.contains(document.activeElement)) release();
      }}
      onFocusOut={(event) => {
        if (!event.currentTarget.matches(":hover")) release();
      }}
    >
      {rows.slice(0, shown.value).map((alarm) => (
        <AlarmRow key={alarm.id} alarm={alarm} history={history} />
      ))}
      {rest > 0 && (
        <MoreRow
          label={t("moreRows", { count: rest })}
          more={() => {
            shown.value += PAGE;
          }}
        />
      )}
      {history && rest <= 0 && !pastEnded.value && last !== undefined && (
        <MoreRow
          label={t("olderAlarms")}
          more={() => {
            shown.value += HISTORY_PAGE;
            void readPast(last.raised_at);
          }}
        />
      )}
    </ul>
  );
}
