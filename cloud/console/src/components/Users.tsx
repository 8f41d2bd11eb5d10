/** Owns the users and the API tokens of programs, for administrators. */
import { batch, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { shortInstant } from "../format.ts";
import { roleWord, t } from "../i18n.ts";
import { session, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { ApiToken, Instant, User } from "../types.ts";

const ROLES = ["operator", "shift-leader", "safety-officer", "regulator", "administrator"];
const SHORTEST = 10;
const users = signal<readonly User[]>([]);
const tokens = signal<readonly ApiToken[]>([]);
/** A token is told once: it stands here until the tab is left. */
const made = signal<string | null>(null);

async function read(): Promise<void> {
  const [people, programs] = await Promise.all([api.users(), api.tokens()]);
  batch(() => {
    users.value = people;
    tokens.value = programs;
  });
}

/** Does something and shows what is there afterwards; tells whether it was done. */
async function act(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    await read();
    return true;
  } catch (error) {
    say(explain(error));
    return false;
  }
}

function when(at: Instant | null): string {
  return at === null ? "—" : shortInstant(at, zone.value, now.value);
}

/** What stands in a form's fields, by their names. */
function fields(form: HTMLFormElement): (name: string) => string {
  const data = new FormData(form);
  return (name) => String(data.get(name) ?? "").trim();
}

export function Users() {
  useEffect(() => {
    void act(async () => undefined);
    return () => {
      made.value = null;
    };
  }, []);
  return (
    <section class="scroll people" aria-label={t("tab_users")}>
      <h3>{t("people")}</h3>
      <table class="plain" data-testid="users">
        <thead>
          <tr>
            <th>{t("user")}</th>
            <th>{t("role")}</th>
            <th>{t("created")}</th>
            <th />
          </tr>
        </thead>
        <tbody>
          {users.value.map((user) => (
            <UserRow key={user.user} user={user} />
          ))}
        </tbody>
      </table>
      <NewUser />
      <h3>{t("programs")}</h3>
      <p class="muted">{t("programsHint")}</p>
      <table class="plain" data-testid="tokens">
        <thead>
          <tr>
            <th>{t("tokenLabel")}</th>
            <th>{t("user")}</th>
            <th>{t("lastUsed")}</th>
            <th>{t("expires")}</th>
            <th />
          </tr>
        </thead>
        <tbody>
          {tokens.value.map((token) => (
            <TokenRow key={token.id} token={token} />
          ))}
        </tbody>
      </table>
      <NewToken />
    </section>
  );
}

function UserRow({ user }: { readonly user: User }) {
  const own = session.value?.user === user.user;
  return (
    <tr class={user.disabled ? "over" : ""} data-testid={`user-${user.user}`} data-disabled={user.disabled}>
      <td>
        <b>{user.name}</b>
        <small>{user.user}</small>
      </td>
      <td>
        <RoleChoice
          value={user.role}
          disabled={own || user.disabled}
          onChange={(role) => void act(() => api.changeUser(user.user, { role }))}
        />
      </td>
      <td class="nowrap">{when(user.created_at)}</td>
      <td class="nowrap acts">
        {!own && !user.disabled && (
          <button type="button" onClick={() => void act(() => api.endSessions(user.user))}>
            {t("signOutEverywhere")}
          </button>
        )}
        {!own && (
          <button type="button" data-testid={`switch-${user.user}`} onClick={() => void act(() => api.changeUser(user.user, { disabled: !user.disabled }))}>
            {user.disabled ? t("enable") : t("disable")}
          </button>
        )}
      </td>
    </tr>
  );
}

function TokenRow({ token }: { readonly token: ApiToken }) {
  const over = token.revoked_at !== null || (token.expires_at !== null && Date.parse(token.expires_at) <= now.value);
  return (
    <tr class={over ? "over" : ""} data-testid={`token-${token.label}`} data-over={over}>
      <td>
        <b>{token.label}</b>
        <small>{token.id}</small>
      </td>
      <td>
        {token.user}
        <small>{roleWord(token.role)}</small>
      </td>
      <td class="nowrap">{when(token.last_used_at)}</td>
      <td class="nowrap">{token.revoked_at !== null ? t("revokedAt", { time: when(token.revoked_at) }) : when(token.expires_at)}</td>
      <td class="nowrap acts">
        {!over && (
          <button type="button" data-testid={`revoke-${token.label}`} onClick={() => void act(() => api.revokeToken(token.id))}>
            {t("revoke")}
          </button>
        )}
      </td>
    </tr>
  );
}

interface RoleProps {
  readonly value?: string;
  readonly disabled?: boolean;
  readonly onChange?: (role: string) => void;
}

function RoleChoice({ value, disabled, onChange }: RoleProps) {
  return (
    <select name="role" aria-label={t("role")} value={value ?? ROLES[0]} disabled={disabled ?? false} onChange={(event) => onChange?.(event.currentTarget.value)}>
      {ROLES.map((role) => (
        <option key={role} value={role}>
          {roleWord(role)}
        </option>
      ))}
    </select>
  );
}

function NewUser() {
  return (
    <form
      class="row-form"
      data-testid="new-user"
      onSubmit={(event) => {
        event.preventDefault();
        const form = event.currentTarget;
        const field = fields(form);
        const body = { user: field("user"), name: field("name") || field("user"), role: field("role"), password: field("password") };
        void act(() => api.addUser(body)).then((done) => {
          if (done) form.reset();
        });
      }}
    >
      <input name="user" required maxLength={64} autocomplete="off" placeholder={t("user")} aria-label={t("user")} />
      <input name="name" maxLength={200} autocomplete="off" placeholder={t("shownName")} aria-label={t("shownName")} />
      <RoleChoice />
      <input name="password" type="password" required minLength={SHORTEST} autocomplete="new-password" placeholder={t("password")} aria-label={t("password")} />
      <button type="submit" class="primary">
        {t("addUser")}
      </button>
    </form>
  );
}

function NewToken() {
  return (
    <>
      <form
        class="row-form"
        data-testid="new-token"
        onSubmit={(event) => {
          event.preventDefault();
          const form = event.currentTarget;
          const field = fields(form);
          const days = field("days");
          const body = { label: field("label"), role: field("role"), days: days === "" ? null : Number(days) };
          void act(async () => {
            made.value = (await api.makeToken(field("user"), body)).token;
          }).then((done) => {
            if (done) form.reset();
          });
        }}
      >
        <input name="label" required maxLength={200} autocomplete="off" placeholder={t("tokenLabel")} aria-label={t("tokenLabel")} />
        <select name="user" aria-label={t("user")}>
          {users.value.filter((user) => !user.disabled).map((user) => (
            <option key={user.user} value={user.user}>
              {user.user}
            </option>
          ))}
        </select>
        <RoleChoice />
        <input name="days" type="number" min={1} max={3660} placeholder={t("days")} aria-label={t("days")} />
        <button type="submit" class="primary">
          {t("makeToken")}
        </button>
      </form>
      {made.value !== null && (
        <p class="made" role="status">
          {t("tokenOnce")} <code data-testid="made-token">{made.value}</code>
        </p>
      )}
    </>
  );
}
