/** Owns the calls to the server: one typed function each, problems turned into `ApiError`. */
import type {
  Alarm,
  ApiToken,
  AuditEntry,
  Gateway,
  HealthReport,
  Instant,
  Kpi,
  NewUser,
  Notification,
  Plant,
  Point,
  Quarantined,
  Readings,
  Session,
  Step,
  Ticket,
  User,
} from "./types.ts";

export const BASE = "/api/v1";

/** A refusal by the server (status of HTTP), or status 0: it could not be reached. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
  }
}

let onUnauthorised: () => void = () => undefined;
/** Counts sign-ins and -outs: a refusal of what was asked before the last of them says nothing of the present session. */
let period = 0;

/** `handler` is called whenever the server says that nobody is signed in. */
export function whenUnauthorised(handler: () => void): void {
  onUnauthorised = handler;
}

/** A gateway or worker that hangs must not leave a button waiting for ever. */
const TIMEOUT_MS = 15_000;
/** Lists may hold tens of thousands of rows, of a server that is busy raising them. */
const LIST_TIMEOUT_MS = 60_000;

type Method = "GET" | "POST" | "PATCH" | "DELETE";

async function request<T>(method: Method, path: string, body?: unknown, timeout_ms = TIMEOUT_MS): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-Tocsin"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const asked = period;
  let response: Response;
  let text: string;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(timeout_ms),
    });
    text = await response.text();
  } catch (error) {
    throw new ApiError(0, error instanceof Error ? error.message : String(error));
  }
  const signing = path.startsWith("/session") && method !== "GET";
  if (signing && response.ok) period += 1;
  if (response.ok) return (text === "" ? undefined : JSON.parse(text)) as T;
  if (response.status === 401 && asked === period && !(method === "POST" && path === "/session")) onUnauthorised();
  throw new ApiError(response.status, problemDetail(text) ?? `HTTP ${response.status}`);
}

function list<T>(path: string): Promise<T[]> {
  return request<T[]>("GET", path, undefined, LIST_TIMEOUT_MS);
}

function problemDetail(text: string): string | null {
  try {
    const problem: unknown = JSON.parse(text);
    if (typeof problem !== "object" || problem === null) return null;
    const { detail, title } = problem as { detail?: unknown; title?: unknown };
    return typeof detail === "string" ? detail : typeof title === "string" ? title : null;
  } catch {
    // A proxy's error page is not JSON; the caller then shows the status itself.
    return null;
  }
}

const id = encodeURIComponent;

export const api = {
  signIn: (user: string, password: string) => request<Session>("POST", "/session", { user, password }),
  signOut: (everywhere: boolean) => request<void>("DELETE", everywhere ? "/session?everywhere=true" : "/session"),
  changePassword: (old: string, fresh: string) => request<void>("POST", "/session/password", { old, new: fresh }),
  session: () => request<Session>("GET", "/session"),
  plant: () => request<Plant>("GET", "/plant"),
  points: () => list<Point>("/points"),
  point: (point: string) => request<Point>("GET", `/points/${id(point)}`),
  readings: (point: string, start: Instant, end: Instant, step_s: number | null) => {
    const query = new URLSearchParams({ start, end });
    if (step_s !== null) query.set("step", String(step_s));
    return request<Readings>("GET", `/points/${id(point)}/readings?${query}`);
  },
  alarms: (state: "active" | "all", limit: number, before?: Instant) => {
    const query = new URLSearchParams({ state, limit: String(limit) });
    if (before !== undefined) query.set("before", before);
    return list<Alarm>(`/alarms?${query}`);
  },
  acknowledge: (alarm: string) => request<Alarm>("POST", `/alarms/${id(alarm)}/ack`, {}),
  unacknowledge: (alarm: string) => request<Alarm>("POST", `/alarms/${id(alarm)}/unacknowledge`, {}),
  steps: (alarm: string) => request<Step[]>("GET", `/alarms/${id(alarm)}/steps`),
  shelve: (alarm: string, duration_s: number, once: boolean, reason: string) =>
    request<Alarm>("POST", `/alarms/${id(alarm)}/shelve`, { duration_s, once, reason }),
  unshelve: (alarm: string) => request<Alarm>("POST", `/alarms/${id(alarm)}/unshelve`, {}),
  outOfService: (alarm: string, reason: string) =>
    request<Alarm>("POST", `/alarms/${id(alarm)}/out-of-service`, { reason }),
  inService: (alarm: string) => request<Alarm>("POST", `/alarms/${id(alarm)}/in-service`, {}),
  reset: (alarm: string) => request<Alarm>("POST", `/alarms/${id(alarm)}/reset`, {}),
  tickets: (state: "open" | "all", limit: number) => list<Ticket>(`/tickets?state=${state}&limit=${limit}`),
  ticket: (ticket: string) => request<Ticket>("GET", `/tickets/${id(ticket)}`),
  submit: (ticket: string, measures: string) => request<Ticket>("POST", `/tickets/${id(ticket)}/submit`, { measures }),
  accept: (ticket: string, comment: string) => request<Ticket>("POST", `/tickets/${id(ticket)}/accept`, { comment }),
  reject: (ticket: string, comment: string) => request<Ticket>("POST", `/tickets/${id(ticket)}/reject`, { comment }),
  notifications: (limit: number) => request<Notification[]>("GET", `/notifications?limit=${limit}`),
  gateways: () => request<Gateway[]>("GET", "/gateways"),
  quarantine: (limit: number) => request<Quarantined[]>("GET", `/quarantine?limit=${limit}`),
  health: () => request<HealthReport>("GET", "/health"),
  kpi: () => request<Kpi>("GET", "/kpi"),
  users: () => request<User[]>("GET", "/users"),
  addUser: (body: NewUser) => request<User>("POST", "/users", body),
  changeUser: (user: string, body: { readonly role?: string; readonly disabled?: boolean }) =>
    request<User>("PATCH", `/users/${id(user)}`, body),
  endSessions: (user: string) => request<void>("DELETE", `/users/${id(user)}/sessions`),
  tokens: () => request<ApiToken[]>("GET", "/tokens"),
  makeToken: (user: string, body: { readonly label: string; readonly role: string; readonly days: number | null }) =>
    request<ApiToken & { readonly token: string }>("POST", `/users/${id(user)}/tokens`, body),
  revokeToken: (token: string) => request<void>("DELETE", `/tokens/${id(token)}`),
  audit: (limit: number, before?: number) => {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set("before", String(before));
    return request<AuditEntry[]>("GET", `/audit?${query}`);
  },
};
