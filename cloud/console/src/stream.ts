/** Owns the connection for updates: opens it, watches it, reads everything anew after each gap, and says when it is lost. */
import { batch } from "@preact/signals";
import { ApiError, api, BASE } from "./api.ts";
import { monotonic, serverNow, synchronise } from "./clock.ts";
import * as store from "./store.ts";
import type { Alarm, Flood, Gateway, Notification, Projection, Ticket, ValuesEvent } from "./types.ts";

/** The server says something at least every 5 s; 8 s of silence is a lost connection. */
const SILENCE_MS = 8000;
const WATCH_MS = 250;
/** What comes is taken together, so that 10,000 alarms in a second cost a few redraws. */
const GATHER_MS = 100;
/** A browser that was told to read anew does so at most so often: it was too slow as it is. */
const ANEW_MS = 1000;
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 5000;
/** As many as the server gives at once: what is counted here is counted from these lists. */
const LIST_LIMIT = 100_000;
/** Those of the most urgent alarms are asked for; the stream brings the others within seconds. */
const PROJECTION_LIMIT = 50;
export const NOTIFICATION_LIMIT = 100;

type Handler = (data: string) => void;

/** One signed-in period: from `start` to `stop` it keeps the store equal to the server. */
export class Stream {
  private source: EventSource | null = null;
  private generation = 0;
  private alarms: Alarm[] = [];
  private tickets: Ticket[] = [];
  private notifications: Notification[] = [];
  private gathering: ReturnType<typeof setTimeout> | null = null;
  private frame: number | null = null;
  private watchedAt = 0;
  private retryTimer: ReturnType<typeof setTimeout> | null = null;
  private watchTimer: ReturnType<typeof setInterval> | null = null;
  private heardAt = 0;
  private retries = 0;
  private held: (() => void)[] | null = null;
  private again = false;
  private version: string | null = null;
  private stopped = true;

  start(): void {
    this.stopped = false;
    store.connection.value = "connecting";
    this.watchedAt = monotonic();
    this.watchTimer = setInterval(() => this.watch(), WATCH_MS);
    // No frame is drawn of a page that nobody sees, and its alarms are to be heard all the same.
    document.addEventListener("visibilitychange", this.flush);
    this.open();
  }

  stop(): void {
    this.stopped = true;
    // Nothing is live any more: whatever reads while it is must not go on asking a server that refuses.
    store.connection.value = "connecting";
    this.close();
    if (this.watchTimer !== null) clearInterval(this.watchTimer);
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    this.retryTimer = null;
    document.removeEventListener("visibilitychange", this.flush);
    this.alarms = [];
    this.tickets = [];
    this.notifications = [];
    this.flush();
  }

  private close(): void {
    this.generation += 1;
    this.source?.close();
    this.source = null;
    this.held = null;
  }

  private open(): void {
    this.close();
    const generation = this.generation;
    const source = new EventSource(`${BASE}/events`, { withCredentials: true });
    this.source = source;
    this.heardAt = monotonic();
    // Events are held from the first moment and applied after the full read: what happens in between is in one or both.
    // A page that is live shows them at once as well: each says how something stands, so that twice does no harm.
    this.held = [];
    this.again = false;
    const handlers: Record<string, Handler> = this.handlers();
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event: MessageEvent<string>) => {
        if (generation !== this.generation) return;
        this.heard();
        const ofStream = name === "hello" || name === "ping" || name === "reset";
        if (!ofStream) this.held?.push(() => handle(event.data));
        if (ofStream || this.held === null || store.connection.value === "live") handle(event.data);
      });
    }
    source.addEventListener("open", () => {
      if (generation !== this.generation) return;
      this.heard();
      void this.readEverything(generation);
    });
    source.addEventListener("error", () => {
      if (generation === this.generation) this.lose();
    });
  }

  private handlers(): Record<string, Handler> {
    return {
      hello: (data) => this.hello(JSON.parse(data) as { server_time: string; version: string }),
      ping: (data) => synchronise((JSON.parse(data) as { server_time: string }).server_time),
      values: (data) => {
        if (store.applyValues(JSON.parse(data) as ValuesEvent)) this.readPoints();
      },
      transitions: (data) => this.gather(this.alarms, JSON.parse(data) as Alarm[]),
      tickets: (data) => this.gather(this.tickets, JSON.parse(data) as Ticket[]),
      notifications: (data) => this.gather(this.notifications, JSON.parse(data) as Notification[]),
      reset: () => this.readAgain(),
      gateway: (data) => store.applyGateway(JSON.parse(data) as Gateway),
      flood: (data) => {
        store.flood.value = (JSON.parse(data) as { flood: Flood | null }).flood;
      },
      projection: (data) => store.applyProjections(JSON.parse(data) as Record<string, Projection | null>),
    };
  }

  private hello(event: { server_time: string; version: string }): void {
    synchronise(event.server_time);
    if (this.version !== null && this.version !== event.version) store.newVersion.value = event.version;
    this.version ??= event.version;
  }

  private heard(): void {
    this.heardAt = monotonic();
  }

  private async readEverything(generation: number): Promise<void> {
    try {
      const [plant, points, alarms, tickets, notifications, gateways] = await Promise.all([
        api.plant(),
        api.points(),
        api.alarms("active", LIST_LIMIT),
        api.tickets("open", LIST_LIMIT),
        api.notifications(NOTIFICATION_LIMIT),
        api.gateways(),
      ]);
      if (generation !== this.generation) return;
      const held = this.held ?? [];
      this.held = null;
      batch(() => {
        store.plant.value = plant;
        store.flood.value = plant.flood;
        store.setPoints(points);
        store.endProjections();
        store.setAlarms(alarms);
        store.alarmsCut.value = alarms.length >= LIST_LIMIT;
        store.setTickets(tickets);
        store.notifications.value = new Map(notifications.map((row) => [String(row.id), row]));
        store.gateways.value = new Map(gateways.map((row) => [row.id, row]));
        for (const apply of held) apply();
        this.flush();
        store.connection.value = "live";
        store.lastHeard.value = serverNow();
        store.fullReads.value += 1;
      });
      this.retries = 0;
      this.readProjections(generation);
      if (this.again) this.readAgain();
    } catch (error) {
      if (generation === this.generation && !(error instanceof ApiError && error.status === 401)) this.lose();
    }
  }

  /** Some events were not sent to us; what is shown stays, and what happens meanwhile is held as well as shown. */
  private readAgain(): void {
    // What is being read now may be older than what is missing.
    this.again = this.held !== null;
    if (this.again) return;
    this.held = [];
    const generation = this.generation;
    setTimeout(() => {
      if (generation === this.generation) void this.readEverything(generation);
    }, ANEW_MS);
  }

  /** The list of points has no projections; those that have an early warning now are asked for one by one. */
  private readProjections(generation: number): void {
    const warned = store.sortedAlarms.value.filter((alarm) => alarm.kind === "time-to-limit").map((alarm) => alarm.point);
    for (const point of new Set(warned.slice(0, PROJECTION_LIMIT))) {
      api.point(point).then(
        (row) => {
          if (generation === this.generation) store.applyProjections({ [point]: row.projection ?? null });
        },
        // The stream brings the next projection within seconds; without it the text "early warning" still stands.
        (error: unknown) => console.warn("projection", point, error),
      );
    }
  }

  private gather<T>(waiting: T[], rows: readonly T[]): void {
    for (const row of rows) waiting.push(row);
    this.gathering ??= setTimeout(() => {
      if (document.hidden) this.flush();
      else this.frame = requestAnimationFrame(this.flush);
    }, GATHER_MS);
  }

  private readonly flush = (): void => {
    if (this.gathering !== null) clearTimeout(this.gathering);
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.gathering = this.frame = null;
    const { alarms, tickets, notifications } = this;
    this.alarms = [];
    this.tickets = [];
    this.notifications = [];
    batch(() => {
      if (alarms.length > 0) store.applyAlarms(alarms);
      if (tickets.length > 0) store.applyTickets(tickets);
      if (notifications.length > 0) store.applyNotifications(notifications);
    });
  };

  /** A point that is not in the plant file has announced itself. */
  private readPoints(): void {
    const generation = this.generation;
    api.points().then(
      (rows) => {
        if (generation === this.generation) store.setPoints(rows);
      },
      (error: unknown) => console.warn("points", error),
    );
  }

  /** What the operator did is shown from the answer; the event that follows says the same. */
  took(alarm: Alarm): void {
    this.gather(this.alarms, [alarm]);
    this.flush();
  }

  private watch(): void {
    const late = monotonic() - this.watchedAt > 2 * WATCH_MS;
    this.watchedAt = monotonic();
    // A page that was held up has not yet heard what was said meanwhile.
    if (late) setTimeout(() => this.look(), WATCH_MS);
    else this.look();
  }

  private look(): void {
    if (this.source === null) return;
    if (monotonic() - this.heardAt > SILENCE_MS) this.lose();
    else if (store.connection.value === "live") store.lastHeard.value = serverNow() - (monotonic() - this.heardAt);
  }

  private lose(): void {
    if (this.stopped) return;
    if (store.connection.value === "live") store.lastHeard.value = serverNow() - (monotonic() - this.heardAt);
    this.close();
    store.connection.value = "lost";
    const delay = Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** this.retries);
    this.retries += 1;
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.retry(), delay * (0.5 + Math.random() / 2));
  }

  /** An EventSource hides the status of its refusal; asking for the session tells "signed out" from "gone". */
  private async retry(): Promise<void> {
    this.retryTimer = null;
    try {
      await api.session();
    } catch (error) {
      if (!this.stopped && !(error instanceof ApiError && error.status === 401)) this.lose();
      return;
    }
    if (!this.stopped) this.open();
  }
}

export const stream = new Stream();
