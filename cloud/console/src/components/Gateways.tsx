/** Owns the state of the chain itself: gateways, their devices, what is committed, figures and quarantine. */
import { signal, useSignalEffect } from "@preact/signals";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { duration, grouped, shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { applyGateway, connection, gateways, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { Gateway, Kpi, Quarantined } from "../types.ts";

const AGAIN_MS = 5000;
const QUARANTINE_ROWS = 50;
const CERTIFICATE_WARN_MS = 30 * 86_400_000;
const kpi = signal<Kpi | null>(null);
const quarantine = signal<readonly Quarantined[]>([]);

export function Gateways() {
  useSignalEffect(() => {
    if (connection.value !== "live") return undefined;
    const read = (): void => {
      Promise.all([api.kpi(), api.quarantine(QUARANTINE_ROWS), api.gateways()]).then(
        ([figures, rows, counted]) => {
          kpi.value = figures;
          quarantine.value = rows;
          counted.forEach(applyGateway);
        },
        (error: unknown) => say(explain(error)),
      );
    };
    read();
    const timer = setInterval(read, AGAIN_MS);
    return () => clearInterval(timer);
  });
  const rows = [...gateways.value.values()];
  return (
    <section class="scroll gateways" aria-label={t("gateways")}>
      {rows.length === 0 && <p class="empty">{t("noGateways")}</p>}
      {rows.map((row) => (
        <GatewayCard key={row.id} row={row} />
      ))}
      <Figures />
      <Quarantine />
    </section>
  );
}

function GatewayCard({ row }: { readonly row: Gateway }) {
  const when = (at: string | null): string => (at === null ? "—" : shortInstant(at, zone.value, now.value));
  const backlog = Math.max(0, row.batch - row.committed);
  return (
    <article class={`gateway ${row.state}`} data-testid={`gateway-${row.id}`} data-state={row.state}>
      <header>
        <h3>
          {named(row.name)} <code>{row.id}</code>
        </h3>
        <span class={`online ${row.state}`}>{t(`online_${row.state}`)}</span>
        {row.since !== null && <span class="muted">{t("since", { time: when(row.since) })}</span>}
      </header>
      <dl class="figures">
        <Figure term={t("lastSeen")} text={row.last_seen === null ? "—" : t("ago", { duration: duration((now.value - Date.parse(row.last_seen)) / 1000) })} />
        <Figure term={t("readings")} text={grouped(row.readings)} />
        <Figure term={t("batch")} text={grouped(row.batch)} />
        <Figure term={t("committed")} text={grouped(row.committed)} />
        <Figure term={t("backlog")} text={grouped(backlog)} />
        <div data-testid={`clock-${row.id}`}>
          <dt>{t("gatewayClock")}</dt>
          <dd class={row.skewed || row.clock?.synchronised === false ? "wrong" : ""}>{clockText(row, when)}</dd>
        </div>
        {row.certificate_ends !== null && (
          <div data-testid={`certificate-${row.id}`}>
            <dt>{t("certificate")}</dt>
            <dd class={Date.parse(row.certificate_ends) - now.value < CERTIFICATE_WARN_MS ? "wrong" : ""}>
              {t("until", { time: when(row.certificate_ends) })}
            </dd>
          </div>
        )}
        {row.slice !== null && (
          <div data-testid={`slice-${row.id}`} title={row.slice.reason ?? undefined}>
            <dt>{t("slice")}</dt>
            <dd class={row.slice.current === false ? "wrong" : ""}>{sliceText(row.slice)}</dd>
          </div>
        )}
      </dl>
      <ul class="devices" aria-label={t("devices")}>
        {row.devices.map((device) => (
          <li key={device.id} class={device.state} data-testid={`device-${row.id}-${device.id}`}>
            <code>{device.id}</code>
            <span class={`online ${device.state}`}>{t(`online_${device.state}`)}</span>
            <span class="muted">{t("devicePoints", { points: device.points })}</span>
            {device.bad > 0 && <span class="wrong">{t("deviceBad", { bad: device.bad })}</span>}
          </li>
        ))}
      </ul>
    </article>
  );
}

function clockText({ clock, skew_s, skewed }: Gateway, when: (at: string) => string): string {
  if (skewed && skew_s !== null) return t(skew_s > 0 ? "clockAhead" : "clockBehind", { duration: duration(Math.abs(skew_s)) });
  if (clock === null) return "—";
  if (!clock.synchronised) return t("clockUnset", { time: when(clock.since) });
  return clock.error_ms === null ? t("clockSet") : t("clockSetWithin", { ms: Math.ceil(clock.error_ms) });
}

function sliceText(slice: NonNullable<Gateway["slice"]>): string {
  if (slice.current === true) return t("sliceCurrent");
  if (slice.outcome === "refused" || slice.outcome === "rolled back") {
    const outcome = t(slice.outcome === "refused" ? "sliceRefused" : "sliceRolledBack");
    return `${outcome}${slice.reason ? t("sliceReason", { reason: slice.reason }) : ""}`;
  }
  return t("sliceUnderWay");
}

function Figure({ term, text }: { readonly term: string; readonly text: string }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </div>
  );
}

function Figures() {
  const figures = kpi.value;
  if (figures === null) return null;
  const ms = (value: number | null): string => (value === null ? "—" : `${Math.round(value)} ms`);
  return (
    <article class="gateway" aria-label={t("health")}>
      <h3>{t("health")}</h3>
      <dl class="figures">
        <Figure term={t("rate")} text={figures.readings_per_second.toFixed(1)} />
        <Figure term={t("stored")} text={grouped(figures.readings_stored)} />
        <Figure term={t("latency")} text={`${ms(figures.latency_ms.p50)} / ${ms(figures.latency_ms.p99)}`} />
        <Figure term={t("late")} text={grouped(figures.late_readings)} />
        <Figure term={t("stepsBack")} text={grouped(figures.clock_steps_back)} />
      </dl>
    </article>
  );
}

function Quarantine() {
  const rows = quarantine.value;
  const counts = Object.entries(kpi.value?.quarantined ?? {}).filter(([, count]) => count > 0);
  return (
    <article class="gateway" aria-label={t("quarantine")}>
      <header>
        <h3>{t("quarantine")}</h3>
        {counts.map(([reason, count]) => (
          <span key={reason} class="wrong">
            {reason} {grouped(count)}
          </span>
        ))}
      </header>
      {rows.length === 0 ? (
        <p class="muted">{t("quarantineNone")}</p>
      ) : (
        <table class="plain">
          <tbody>
            {rows.map((row) => (
              <tr key={`${row.at} ${row.topic} ${row.reason}`}>
                <td class="nowrap">{shortInstant(row.at, zone.value, now.value)}</td>
                <td>{row.reason}</td>
                <td>
                  <code>{row.topic}</code>
                  <small>{row.detail}</small>
                </td>
                <td class="nowrap">{t("size", { size: row.size })}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </article>
  );
}
