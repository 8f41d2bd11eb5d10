/** Owns the shapes that the HTTP interface speaks, exactly as it speaks them. */

export type Lang = "zh" | "en";
export type Name = { readonly zh: string; readonly en: string };
/** RFC 3339, UTC. */
export type Instant = string;

export type Priority = "low" | "medium" | "high" | "critical";
export type LimitKind = "HH" | "H" | "L" | "LL";
export type GradeKind = "red" | "orange" | "yellow" | "blue";
/** What a value can be beyond. */
export type LevelKind = LimitKind | GradeKind;
export type AlarmKind =
  | LimitKind
  | GradeKind
  | "rate"
  | "stel"
  | "twa"
  | "peaks"
  | "time-to-limit"
  | "cusum"
  | "ewma"
  | "abnormal"
  | "bad"
  | "stale"
  | "loop"
  | "stuck"
  | "spike";
export type Phase =
  | "unacknowledged"
  | "acknowledged"
  | "returned-unacknowledged"
  | "latched-unacknowledged"
  | "latched-acknowledged"
  | "normal";

export type Permission =
  | "plant.read"
  | "alarms.answer"
  | "alarms.take-out"
  | "tickets.rectify"
  | "tickets.accept"
  | "audit.read"
  | "users.manage";

export interface Session {
  readonly user: string;
  readonly name: Name | string;
  readonly role: string;
  readonly may: readonly Permission[];
}

/** Somebody who may sign in, unless disabled. */
export interface User {
  readonly user: string;
  readonly name: string;
  readonly role: string;
  readonly disabled: boolean;
  readonly created_at: Instant;
}

export interface NewUser {
  readonly user: string;
  readonly name: string;
  readonly role: string;
  readonly password: string;
}

/** A program's right to act for a user. */
export interface ApiToken {
  readonly id: string;
  readonly label: string;
  readonly user: string;
  readonly role: string;
  readonly created_at: Instant;
  readonly expires_at: Instant | null;
  readonly last_used_at: Instant | null;
  readonly revoked_at: Instant | null;
}

/** One entry of the audit log. */
export interface AuditEntry {
  readonly seq: number;
  readonly at: Instant | null;
  readonly who: string;
  readonly role: string;
  readonly origin: string;
  readonly action: string;
  readonly target: string;
  readonly outcome: "asked" | "done" | "refused" | "unanswered" | null;
  readonly detail: Readonly<Record<string, string | number>>;
  readonly hash: string;
  readonly broken: boolean;
}

export interface HazardSource {
  readonly id: string;
  readonly name: Name;
  readonly level: 1 | 2 | 3 | 4 | null;
  readonly worst: Priority | null;
  readonly active: number;
  readonly unacknowledged: number;
  readonly early_warning: boolean;
}

/** More alarms than an operator can take in; `until` is null while it goes on. */
export interface Flood {
  readonly since: Instant;
  readonly until: Instant | null;
  readonly alarms: number;
  readonly first: string;
}

export interface Plant {
  readonly site: { readonly id: string; readonly name: Name; readonly timezone: string };
  readonly hazard_sources: readonly HazardSource[];
  readonly gateways: readonly { readonly id: string; readonly name: Name }[];
  /** groups of alarms of which it is told which came first */
  readonly first_out: readonly { readonly id: string; readonly name: Name }[];
  readonly flood: Flood | null;
  readonly started_at: Instant;
  readonly version: string;
}

export interface Limit {
  readonly alarm: string;
  readonly kind: AlarmKind;
  /** which values are beyond it; null where it is no limit */
  readonly side: "high" | "low" | null;
  readonly setpoint: number | null;
  readonly deadband: number | null;
  readonly on_delay_s: number | null;
  readonly off_delay_s: number | null;
  readonly priority: Priority;
  readonly clause: Name | null;
}

export interface Projection {
  readonly time: Instant;
  readonly level: number;
  readonly slope_per_s: number;
  readonly slope_low_per_s: number;
  readonly slope_high_per_s: number;
  readonly limit: number;
  readonly limit_kind: LevelKind;
  readonly horizon_s: number;
  readonly reaches_in_s: number | null;
}

/** How a point is computed, and of which points. */
export interface Computed {
  readonly rule: "vote" | "median" | "spread" | "balance" | "grade" | "normal";
  readonly told: Name;
  readonly members: readonly string[];
}

export interface Point {
  readonly id: string;
  readonly name: Name;
  readonly kind: string;
  readonly cas: string | null;
  readonly unit: string;
  readonly low: number | null;
  readonly high: number | null;
  readonly decimals: number;
  readonly source: string | null;
  /** null where the point is computed */
  readonly gateway: string | null;
  readonly device: string | null;
  readonly declared: boolean;
  /** null where some instrument measures it */
  readonly computed: Computed | null;
  readonly limits: readonly Limit[];
  readonly time: Instant | null;
  readonly value: number | null;
  readonly quality: number;
  readonly quality_text: string;
  readonly projection?: Projection | null;
}

export interface Readings {
  readonly point: string;
  readonly unit: string;
  readonly start: Instant;
  readonly end: Instant;
  readonly step_s: number | null;
  readonly time: readonly Instant[];
  readonly value: readonly (number | null)[];
  readonly min: readonly (number | null)[];
  readonly max: readonly (number | null)[];
  readonly quality: readonly number[];
  readonly unsynchronised: readonly Stretch[];
}

/** A stretch of readings whose times may be wrong: nobody had set the clock that stamped them. */
export interface Stretch {
  readonly first: Instant;
  readonly last: Instant;
}

/** What lay behind a raising. */
export interface Because {
  /** ids of the groups in which it came first */
  readonly first_out: readonly string[];
  /** what a vote had come down to, such as 1oo2 */
  readonly vote: string | null;
  /** the greatest first; without a percentage where only the farthest off is named */
  readonly contributions: readonly { readonly point: string; readonly percent: number | null }[];
}

export interface Alarm {
  readonly id: string;
  readonly alarm: string;
  readonly point: string;
  readonly source: string | null;
  readonly kind: AlarmKind;
  readonly priority: Priority;
  readonly phase: Phase;
  readonly shelved_until: Instant | null;
  /** the shelf ends sooner, with the alarm's return */
  readonly shelved_once: boolean;
  readonly out_of_service: boolean;
  /** hidden: shelved, out of service, or else suppressed by design */
  readonly suppressed: boolean;
  readonly raised_at: Instant;
  readonly committed_at: Instant;
  readonly acknowledged_at: Instant | null;
  readonly acknowledged_by: string | null;
  readonly returned_at: Instant | null;
  readonly value: number | null;
  readonly setpoint: number | null;
  readonly unit: string;
  readonly message: Name;
  readonly clause: Name | null;
  readonly because: Because | null;
}

/** One step of an alarm's life, as the journal holds it. */
export interface Step {
  readonly at: Instant;
  readonly event: string;
  readonly phase_from: Phase;
  readonly phase_to: Phase;
  readonly value: number | null;
  readonly who: string | null;
  readonly reason: string | null;
  /** what the reason of a raising says */
  readonly because: Because | null;
}

export type TicketState = "rectifying" | "awaiting-acceptance" | "accepted";

export interface Evidence {
  readonly point: string;
  readonly unit: string;
  readonly from: Instant;
  readonly to: Instant;
  readonly time: readonly Instant[];
  readonly value: readonly (number | null)[];
  readonly limits: readonly { readonly kind: AlarmKind; readonly setpoint: number }[];
  readonly raised_at: Instant;
}

export interface Ticket {
  readonly id: string;
  readonly title: Name;
  readonly source: string | null;
  readonly level: "general" | "major";
  readonly state: TicketState;
  readonly opened_at: Instant;
  readonly deadline: Instant;
  readonly reason: Name | string;
  readonly alarms: readonly string[];
  readonly alarm: string;
  readonly liable: Name | string | null;
  readonly log: readonly { readonly at: Instant; readonly who: string; readonly what: Name | string }[];
  readonly evidence?: Evidence | null;
}

export type NotificationState = "pending" | "sending" | "delivered" | "failed" | "cancelled";

export interface Notification {
  readonly id: string | number;
  readonly occurrence: string;
  readonly to: string;
  readonly channel: string;
  readonly subject: string;
  readonly body: string;
  readonly state: NotificationState;
  readonly due_at: Instant;
  readonly sent_at: Instant | null;
  readonly attempts: number;
  readonly error: string | null;
  readonly reason: string;
}

export type OnlineState = "online" | "offline" | "unknown";

export interface Gateway {
  readonly id: string;
  readonly name: Name;
  readonly state: OnlineState;
  readonly since: Instant | null;
  readonly last_seen: Instant | null;
  readonly readings: number;
  readonly batch: number;
  readonly committed: number;
  readonly devices: readonly {
    readonly id: string;
    readonly state: OnlineState;
    readonly points: number;
    readonly bad: number;
  }[];
  /** what it said last of its clock; null where it does not tell */
  readonly clock: {
    readonly synchronised: boolean;
    readonly since: Instant;
    readonly error_ms: number | null;
    readonly step_s: number | null;
  } | null;
  readonly unsynchronised: readonly Stretch[];
  /** on which version of its part of the plant it runs; null where it is not managed from here */
  readonly slice: {
    readonly version: number;
    readonly current: boolean | null;
    readonly sent: number | null;
    readonly outcome: "on trial" | "applied" | "refused" | "rolled back" | null;
    readonly reason: string | null;
  } | null;
  /** by how much its clock was ahead of the cloud side's; null where nothing told */
  readonly skew_s: number | null;
  readonly skewed: boolean;
  /** when its last certificate ends; null where it has none */
  readonly certificate_ends: Instant | null;
}

/** Something that is not as it should be. */
export interface Trouble {
  readonly severity: "fault" | "warning";
  readonly kind: string;
  readonly subject: string;
  readonly since: Instant | null;
  readonly text: Name;
}

export interface RoleHealth {
  readonly role: string;
  readonly works: boolean;
  readonly behind_s: number | null;
  readonly waiting: number;
}

export interface SourceHealth {
  readonly id: string;
  readonly name: Name;
  readonly points: number;
  readonly dark: number;
}

/** Whether the plant is being watched, and what is not. */
export interface HealthReport {
  readonly watching: boolean;
  readonly at: Instant;
  readonly troubles: readonly Trouble[];
  readonly roles: readonly RoleHealth[];
  readonly gateways: number;
  readonly gateways_online: number;
  readonly points: number;
  readonly points_dark: number;
  readonly sources: readonly SourceHealth[];
  readonly messages: { readonly waiting: number; readonly overdue_s: number; readonly failed_last_hour: number };
  readonly readings_per_second: number;
}

export interface Quarantined {
  readonly at: Instant;
  readonly topic: string;
  readonly reason: string;
  readonly detail: string;
  readonly size: number;
}

export type Load = "acceptable" | "manageable" | "over-demanding" | "unacceptable";

export interface Counted {
  readonly alarm: string;
  readonly count: number;
}

/** The figures of ISA-18.2 and EEMUA 191 for one operator; shares are of 1. */
export interface AlarmSystem {
  readonly from: Instant;
  readonly to: Instant;
  readonly alarms: number;
  readonly by_hour: readonly number[];
  readonly per_day: number;
  readonly per_hour: number;
  readonly per_ten_minutes: number;
  readonly load: Load;
  readonly bands: readonly { readonly load: Load; readonly per_hour: number }[];
  readonly most_in_ten_minutes: number;
  readonly ten_minutes_over: number;
  readonly hours_over: number;
  readonly floods: readonly Flood[];
  readonly in_flood: number;
  readonly top: readonly Counted[];
  readonly top_share: number;
  readonly priorities: Readonly<Record<Priority, number>>;
  readonly chattering: readonly Counted[];
  readonly fleeting: readonly Counted[];
  readonly standing: readonly string[];
}

export interface Kpi {
  readonly points: number;
  readonly gateways_online: number;
  readonly readings_stored: number;
  readonly readings_per_second: number;
  readonly quarantined: Readonly<Record<string, number>>;
  readonly latency_ms: { readonly p50: number | null; readonly p99: number | null; readonly n: number };
  readonly late_readings: number;
  readonly clock_steps_back: number;
  readonly alarm_system: AlarmSystem;
}

/** The columns of one `values` event; row i of each belongs together. */
export interface ValuesEvent {
  readonly point: readonly string[];
  readonly time: readonly Instant[];
  readonly value: readonly (number | null)[];
  readonly quality: readonly number[];
}
