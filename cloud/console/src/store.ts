/** Owns what the page knows: one signal per point, so that a new value redraws one cell, and the lists beside it. */
import { batch, computed, type Signal, signal } from "@preact/signals";
import { now } from "./clock.ts";
import { annunciated, asksForAnswer, compareAlarms } from "./order.ts";
import { reason as qualityReason, type QualityReason } from "./quality.ts";
import type {
  Alarm,
  Flood,
  Gateway,
  Notification,
  Permission,
  Plant,
  Point,
  Priority,
  Projection,
  Session,
  Ticket,
  ValuesEvent,
} from "./types.ts";

export interface Live {
  readonly time: string | null;
  readonly value: number | null;
  readonly quality: number;
  /** the server says that nothing has come for too long, whatever the last quality was */
  readonly stale: boolean;
}

/** What changes about one point while its description stays the same. */
export interface PointState {
  readonly live: Signal<Live>;
  readonly alarms: Signal<readonly Alarm[]>;
  readonly projection: Signal<Projection | null>;
}

export type Connection = "connecting" | "live" | "lost";
export type Tab = "points" | "tickets" | "notifications" | "gateways" | "health" | "kpi" | "audit" | "users";

export const session = signal<Session | null | undefined>(undefined);
/** Whether whoever is signed in may do this; the server refuses it in any case. */
export function may(permission: Permission): boolean {
  return session.value?.may.includes(permission) ?? false;
}
export const signedOutBecause = signal<"ended" | null>(null);
export const connection = signal<Connection>("connecting");
/** The server's time of the last thing heard, ms since the epoch; null: nothing yet. */
export const lastHeard = signal<number | null>(null);
export const newVersion = signal<string | null>(null);
/** How often everything was read: what a page has asked for beyond that is then to be asked for again. */
export const fullReads = signal(0);

export const plant = signal<Plant | null>(null);
export const points = signal<readonly Point[]>([]);
export const alarms = signal<ReadonlyMap<string, Alarm>>(new Map());
/** There were more alarms than the server lists: what is counted is the least that there can be. */
export const alarmsCut = signal(false);
export const tickets = signal<ReadonlyMap<string, Ticket>>(new Map());
export const notifications = signal<ReadonlyMap<string, Notification>>(new Map());
export const gateways = signal<ReadonlyMap<string, Gateway>>(new Map());
export const flood = signal<Flood | null>(null);

export const selectedSource = signal<string | null>(null);
export const selectedPoint = signal<string | null>(null);
/** The operator has chosen what to look at; until then the page chooses. */
export const chosenByHand = signal(false);
export const selectedTicket = signal<string | null>(null);
export const tab = signal<Tab>("points");

export const zone = computed(() => plant.value?.site.timezone ?? "UTC");
/** Names of the first-out groups. */
export const groupNames = computed(() => new Map((plant.value?.first_out ?? []).map((g) => [g.id, g.name])));
export const pointsById = computed(() => new Map(points.value.map((p) => [p.id, p])));
export const sortedAlarms = computed(() => [...alarms.value.values()].sort(compareAlarms));

/** Five-second steps: the end of a shelving is noticed soon enough without a sort every second. */
const shelvingClock = computed(() => Math.floor(now.value / 5000) * 5000);
export const announcedAlarms = computed(() => sortedAlarms.value.filter((a) => annunciated(a, shelvingClock.value)));
export const silencedAlarms = computed(() => sortedAlarms.value.filter((a) => !annunciated(a, shelvingClock.value)));
export const unacknowledged = computed(() => announcedAlarms.value.filter((a) => asksForAnswer(a.phase)));
export const openTickets = computed(() => [...tickets.value.values()].filter((ticket) => ticket.state !== "accepted").length);
export const unacknowledgedByPriority = computed(() => {
  const count: Record<Priority, number> = { critical: 0, high: 0, medium: 0, low: 0 };
  for (const alarm of unacknowledged.value) count[alarm.priority] += 1;
  return count;
});

const states = new Map<string, PointState>();
const NOTHING: readonly Alarm[] = [];

/** The signals of a point; a point that is heard of first through an event gets its own at once. */
export function stateOf(point: string): PointState {
  let state = states.get(point);
  if (state === undefined) {
    state = {
      live: signal<Live>({ time: null, value: null, quality: 0x20, stale: false }),
      alarms: signal<readonly Alarm[]>(NOTHING),
      projection: signal<Projection | null>(null),
    };
    states.set(point, state);
  }
  return state;
}

/** Why a point's value may not be trusted: its quality byte, or that it has stopped coming. */
export function doubt(live: Live, pointAlarms: readonly Alarm[]): QualityReason {
  const told = qualityReason(live.quality);
  if (live.stale) return "stale";
  if (told.startsWith("good")) {
    const stopped = pointAlarms.some((a) => a.kind === "stale" && !a.phase.startsWith("returned") && a.phase !== "normal");
    return stopped ? "stale" : told;
  }
  return told;
}

export function setPoints(rows: readonly Point[]): void {
  batch(() => {
    points.value = rows;
    for (const row of rows) {
      const state = stateOf(row.id);
      state.live.value = { time: row.time, value: row.value, quality: row.quality, stale: row.quality_text === "stale" };
      if (row.projection !== undefined) state.projection.value = row.projection;
    }
  });
}

/** Returns whether a point was named that the page has no description of. */
export function applyValues(event: ValuesEvent): boolean {
  let strange = false;
  batch(() => {
    event.point.forEach((point, i) => {
      if (!pointsById.value.has(point)) strange = true;
      const state = stateOf(point);
      const before = state.live.peek();
      const time = event.time[i] ?? null;
      // A reading that is told once more is no newer for it.
      const stale = before.stale && before.time === time;
      state.live.value = { time, value: event.value[i] ?? null, quality: event.quality[i] ?? 0, stale };
    });
  });
  return strange;
}

export function setAlarms(rows: readonly Alarm[]): void {
  const here = byPoint(rows);
  batch(() => {
    alarms.value = new Map(rows.map((a) => [a.id, a]));
    for (const point of here.keys()) stateOf(point);
    for (const [point, state] of states) state.alarms.value = here.get(point) ?? NOTHING;
  });
}

/** Takes many changed alarms at once, and touches only their points: a plant trip raises thousands in a second. */
export function applyAlarms(changed: readonly Alarm[]): void {
  const latest = new Map(changed.map((alarm) => [alarm.id, alarm]));
  const next = new Map(alarms.value);
  const present: Alarm[] = [];
  for (const alarm of latest.values()) {
    if (alarm.phase === "normal" && !alarm.suppressed) next.delete(alarm.id);
    else {
      next.set(alarm.id, alarm);
      present.push(alarm);
    }
  }
  const here = byPoint(present);
  batch(() => {
    alarms.value = next;
    for (const point of new Set(changed.map((alarm) => alarm.point))) {
      const state = stateOf(point);
      const others = state.alarms.peek().filter((alarm) => !latest.has(alarm.id));
      state.alarms.value = [...others, ...(here.get(point) ?? NOTHING)];
    }
  });
}

function byPoint(rows: Iterable<Alarm>): ReadonlyMap<string, readonly Alarm[]> {
  const found = new Map<string, Alarm[]>();
  for (const alarm of rows) {
    const list = found.get(alarm.point);
    if (list === undefined) found.set(alarm.point, [alarm]);
    else list.push(alarm);
  }
  return found;
}

/** Lists and events carry no evidence; what was read before for one ticket is kept. */
function withEvidence(ticket: Ticket): Ticket {
  const old = tickets.peek().get(ticket.id);
  return ticket.evidence || !old?.evidence ? ticket : { ...ticket, evidence: old.evidence };
}

export function setTickets(rows: readonly Ticket[]): void {
  tickets.value = new Map(rows.map((row) => [row.id, withEvidence(row)]));
}

export function applyTickets(rows: readonly Ticket[]): void {
  const next = new Map(tickets.value);
  for (const row of rows) next.set(row.id, withEvidence(row));
  tickets.value = next;
}

export function applyNotifications(rows: readonly Notification[]): void {
  const next = new Map(notifications.value);
  for (const row of rows) next.set(String(row.id), row);
  notifications.value = next;
}

export function applyGateway(row: Gateway): void {
  gateways.value = new Map(gateways.value).set(row.id, row);
}

export function applyProjections(rows: Readonly<Record<string, Projection | null>>): void {
  batch(() => {
    for (const [point, projection] of Object.entries(rows)) stateOf(point).projection.value = projection;
  });
}

/** Nothing is foreseen of any point until it is told again: the end of an early warning may be among what was missed. */
export function endProjections(): void {
  for (const state of states.values()) state.projection.value = null;
}

/** The point that deserves the first look in a source (null: the whole site): the one with the first alarm, or the first. */
export function mostUrgentPoint(source: string | null): string | null {
  const inside = (p: { readonly source: string | null }): boolean => source === null || p.source === source;
  const alarmed = announcedAlarms.value.find((a) => inside(a) && pointsById.value.has(a.point));
  return alarmed?.point ?? points.value.find(inside)?.id ?? null;
}

export function openSource(source: string | null): void {
  batch(() => {
    selectedSource.value = source;
    chosenByHand.value = true;
    tab.value = "points";
    const shown = pointsById.value.get(selectedPoint.value ?? "");
    if (source !== null && shown?.source !== source) selectedPoint.value = mostUrgentPoint(source);
  });
}

/** Shows a point's trend, wherever the operator came from. */
export function openPoint(point: string): void {
  batch(() => {
    selectedPoint.value = point;
    chosenByHand.value = true;
    tab.value = "points";
    const source = pointsById.value.get(point)?.source ?? null;
    if (selectedSource.value !== null && selectedSource.value !== source) selectedSource.value = source;
  });
}
