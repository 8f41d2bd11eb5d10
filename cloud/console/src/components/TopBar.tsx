/** Owns the bar at the top: site, what awaits an answer, the site's clock, the connection, sound, language, user. */
import { now } from "../clock.ts";
import { calendarDate, clockTime, zoneLabel } from "../format.ts";
import { named, roleWord, t } from "../i18n.ts";
import { PRIORITIES } from "../order.ts";
import { signOut } from "../session.ts";
import { soundUnlocked, soundWanted } from "../sound.ts";
import { connection, plant, session, unacknowledgedByPriority, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import { showAccount } from "./AccountDialog.tsx";
import { Bell } from "./Bell.tsx";
import { Glyph } from "./Glyph.tsx";
import { LangSwitch } from "./LangSwitch.tsx";

export function TopBar() {
  return (
    <header class="topbar">
      <div class="brand">
        <Bell />
        <strong>Tocsin</strong>
        <span class="site" data-testid="site-name">
          {named(plant.value?.site.name)}
        </span>
      </div>
      <Unanswered />
      <Clock />
      <ConnectionMark />
      <SoundSwitch />
      <LangSwitch />
      <User />
    </header>
  );
}

function Unanswered() {
  const count = unacknowledgedByPriority.value;
  const total = PRIORITIES.reduce((sum, priority) => sum + count[priority], 0);
  return (
    <section class={`unanswered${total === 0 ? " none" : ""}`} data-testid="unacknowledged-total" data-count={total} aria-label={t("unacknowledgedShort")}>
      <span class="caption">{t("unacknowledgedShort")}</span>
      {PRIORITIES.map((priority) => (
        <span key={priority} class={`tally${count[priority] === 0 ? " zero" : ""}`}>
          <Glyph priority={priority} size={18} blink={count[priority] > 0} />
          <b>{count[priority]}</b>
        </span>
      ))}
    </section>
  );
}

function Clock() {
  const at = now.value;
  return (
    <time class="clock" data-testid="site-clock" dateTime={new Date(at).toISOString()}>
      <b>{clockTime(at, zone.value)}</b>
      <span>
        {calendarDate(at, zone.value)} {zoneLabel(at, zone.value)}
      </span>
    </time>
  );
}

function ConnectionMark() {
  const state = connection.value;
  const text = state === "live" ? t("connected") : state === "lost" ? t("disconnected") : t("connecting");
  return (
    <span class={`connection ${state}`} data-testid="connection" data-state={state} role="status">
      <i aria-hidden="true" />
      {text}
    </span>
  );
}

function SoundSwitch() {
  const wanted = soundWanted.value;
  const locked = wanted && !soundUnlocked.value;
  return (
    <button
      type="button"
      class={`sound${wanted ? "" : " off"}${locked ? " locked" : ""}`}
      data-testid="sound-toggle"
      title={t("soundTitle")}
      aria-pressed={wanted}
      onClick={() => {
        if (!locked) soundWanted.value = !wanted;
      }}
    >
      <svg width="16" height="16" viewBox="0 0 24 24" aria-hidden="true">
        <path class="fill" d="M3 9h4l6-5v16l-6-5H3z" />
        {wanted && !locked ? <path class="line" d="M16.500 8a5.500 5.500 0 0 1 0 8M19 5a10 10 0 0 1 0 14" /> : <path class="line" d="m16 9 6 6m0-6-6 6" />}
      </svg>
      {locked ? t("soundLocked") : wanted ? t("soundOn") : t("soundOff")}
    </button>
  );
}

function User() {
  const who = session.value;
  if (!who) return null;
  return (
    <div class="user">
      <button type="button" class="who" data-testid="account" title={t("account")} onClick={showAccount}>
        <b data-testid="user-name">{named(who.name) || who.user}</b>
        <small>{roleWord(who.role)}</small>
      </button>
      <button type="button" data-testid="sign-out" onClick={() => void signOut().catch((error: unknown) => say(explain(error)))}>
        {t("signOut")}
      </button>
    </div>
  );
}
