/** Owns the one screen that says whether the plant is being watched, what is not, and since when. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { duration, grouped, shortInstant } from "../format.ts";
import { named, t, wordIfAny } from "../i18n.ts";
import { zone } from "../store.ts";
import { explain } from "../toast.ts";
import type { HealthReport, RoleHealth, SourceHealth, Trouble } from "../types.ts";

const AGAIN_MS = 3000;
/** What was found last, or why nothing was: an old verdict must not pass for a new one. */
const report = signal<HealthReport | null>(null);
const failure = signal<string | null>(null);

export function Health() {
  // Also while the connection for updates is lost: then most of all somebody looks here for the reason.
  useEffect(() => {
    const read = (): void => {
      api.health().then(
        (found) => {
          report.value = found;
          failure.value = null;
        },
        (error: unknown) => {
          report.value = null;
          failure.value = explain(error);
        },
      );
    };
    read();
    const timer = setInterval(read, AGAIN_MS);
    return () => {
      clearInterval(timer);
      report.value = null;
      failure.value = null;
    };
  }, []);
  const found = report.value;
  if (found === null) {
    return (
      <p class="empty" data-testid="health-unknown">
        {failure.value ?? t("loading")}
      </p>
    );
  }
  const faults = found.troubles.filter((trouble) => trouble.severity === "fault").length;
  return (
    <section class="scroll health" aria-label={t("healthReport")}>
      <div class={`verdict ${found.watching ? "well" : "wrong"}`} data-testid="health" data-watching={found.watching} role="status">
        <h2>{found.watching ? t("watched") : t("notWatched")}</h2>
        <span>{found.watching ? t("warnings", { count: found.troubles.length }) : t("faults", { count: faults })}</span>
      </div>
      {found.troubles.length > 0 && (
        <ul class="troubles" data-testid="troubles">
          {found.troubles.map((trouble) => (
            <TroubleRow key={`${trouble.kind}/${trouble.subject}/${trouble.text.en}`} trouble={trouble} />
          ))}
        </ul>
      )}
      <div class="parts">
        {found.roles.map((role) => (
          <RoleCard key={role.role} role={role} />
        ))}
        <Card wrong={found.gateways_online < found.gateways} term={t("sysGateways")} figure={`${found.gateways_online}/${found.gateways}`} />
        <Card wrong={found.points_dark > 0} term={t("pointsJudged")} figure={`${grouped(found.points - found.points_dark)}/${grouped(found.points)}`} />
        <Card wrong={found.messages.overdue_s > 0 || found.messages.failed_last_hour > 0} term={t("messagesWaiting")} figure={grouped(found.messages.waiting)} more={t("messagesFailed", { count: found.messages.failed_last_hour })} />
        <Card wrong={false} term={t("readingsRate")} figure={grouped(Math.round(found.readings_per_second))} />
      </div>
      <h3>{t("sources")}</h3>
      <ul class="coverage">
        {found.sources.map((source) => (
          <Coverage key={source.id} source={source} />
        ))}
      </ul>
    </section>
  );
}

function TroubleRow({ trouble }: { readonly trouble: Trouble }) {
  return (
    <li class={trouble.severity} data-testid={`trouble-${trouble.kind}`} data-severity={trouble.severity}>
      <b>{t(`severity_${trouble.severity}`)}</b>
      <span>{named(trouble.text)}</span>
      {trouble.since !== null && (
        <small>
          {t("since", { time: shortInstant(trouble.since, zone.value, now.value) })} · {duration((now.value - Date.parse(trouble.since)) / 1000)}
        </small>
      )}
    </li>
  );
}

function RoleCard({ role }: { readonly role: RoleHealth }) {
  const term = wordIfAny(`work_${role.role}`) ?? role.role;
  const figure = role.behind_s === null ? t("nobodyWorks") : role.works ? t("works") : t("behind", { duration: duration(role.behind_s) });
  return <Card wrong={!role.works} term={term} figure={figure} more={t("messagesBehind", { count: grouped(role.waiting) })} />;
}

function Card({ wrong, term, figure, more }: { readonly wrong: boolean; readonly term: string; readonly figure: string; readonly more?: string }) {
  return (
    <article class={wrong ? "part wrong" : "part"}>
      <h4>{term}</h4>
      <b>{figure}</b>
      {more !== undefined && <small>{more}</small>}
    </article>
  );
}

function Coverage({ source }: { readonly source: SourceHealth }) {
  const judged = source.points - source.dark;
  const share = source.points === 0 ? 1 : judged / source.points;
  return (
    <li class={source.dark > 0 ? "wrong" : ""} data-testid={`coverage-${source.id}`} data-dark={source.dark}>
      <span>{named(source.name)}</span>
      <meter value={share} min={0} max={1} aria-label={named(source.name)} />
      <b>
        {grouped(judged)}/{grouped(source.points)}
      </b>
    </li>
  );
}
