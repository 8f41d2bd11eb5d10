/** Owns one hazard ticket: its facts, the trend that proves it, its log, and the next step of its life. */
import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { type ChartModel, isLevel } from "../chart.ts";
import { now } from "../clock.ts";
import { toColumns } from "../columns.ts";
import { shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { trendWindow } from "../layout.ts";
import { logged, said } from "../sentences.ts";
import { applyTickets, may, openPoint, plant, pointsById, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { Evidence, Ticket } from "../types.ts";
import { Chart } from "./Chart.tsx";
import { Deadline } from "./Tickets.tsx";

const GOOD = 0xc0;

export function TicketDetail({ ticket }: { readonly ticket: Ticket }) {
  const read = useSignal(false);
  // Lists and events leave the evidence out; it is read for the one ticket that is looked at.
  useEffect(() => {
    api
      .ticket(ticket.id)
      .then((row) => applyTickets([row]), (error: unknown) => say(explain(error)))
      .finally(() => {
        read.value = true;
      });
  }, [ticket.id, read]);
  return (
    <article class="ticket-detail" data-testid="ticket-detail" data-ticket={ticket.id} data-state={ticket.state}>
      <header>
        <span class={`tag ${ticket.level}`}>{t(`ticketLevel_${ticket.level}`)}</span>
        <h2>{named(ticket.title)}</h2>
        <span class={`tag state ${ticket.state}`} data-testid="ticket-state">
          {t(`ticketState_${ticket.state}`)}
        </span>
      </header>
      <Facts ticket={ticket} />
      <section class="ticket-evidence" aria-label={t("evidence")}>
        <h3>{t("evidence")}</h3>
        {ticket.evidence ? <EvidenceChart evidence={ticket.evidence} /> : <p class="empty">{t(read.value ? "noEvidence" : "loading")}</p>}
      </section>
      <div class="ticket-lower">
        <NextStep ticket={ticket} />
        <Log ticket={ticket} />
      </div>
    </article>
  );
}

function Facts({ ticket }: { readonly ticket: Ticket }) {
  const source = plant.value?.hazard_sources.find((s) => s.id === ticket.source);
  const when = (at: string): string => shortInstant(at, zone.value, now.value);
  return (
    <dl class="ticket-facts">
      <div>
        <dt>{t("source")}</dt>
        <dd>{source === undefined ? (ticket.source ?? t("none")) : named(source.name)}</dd>
      </div>
      <div>
        <dt>{t("liable")}</dt>
        <dd>{named(ticket.liable) || t("liableNobody")}</dd>
      </div>
      <div>
        <dt>{t("openedAt")}</dt>
        <dd>{when(ticket.opened_at)}</dd>
      </div>
      <div>
        <dt>{t("deadline")}</dt>
        <dd>
          {when(ticket.deadline)} <Deadline ticket={ticket} />
        </dd>
      </div>
      <div>
        <dt>{t("linkedAlarms")}</dt>
        <dd>
          <code>{ticket.alarm}</code> {ticket.alarms.length > 1 && t("linkedMore", { count: ticket.alarms.length - 1 })}
        </dd>
      </div>
      <div>
        <dt>{t("foundBy")}</dt>
        <dd>{said(ticket.reason)}</dd>
      </div>
    </dl>
  );
}

function EvidenceChart({ evidence }: { readonly evidence: Evidence }) {
  const point = pointsById.value.get(evidence.point);
  const columns = toColumns({
    time: evidence.time,
    value: evidence.value,
    min: evidence.value,
    max: evidence.value,
    quality: evidence.value.map((v) => (v === null ? 0 : GOOD)),
    step_s: null,
  });
  const to = Date.parse(evidence.to) / 1000;
  const model = useComputed<ChartModel>(() => ({
    columns,
    window: [trendWindow(columns.x[0], to, to - Date.parse(evidence.from) / 1000, null)[0], to],
    limits: evidence.limits.filter((l) => isLevel(l.kind)),
    raised: [{ at: Date.parse(evidence.raised_at) / 1000, kind: "H", priority: "high", label: t("raisedAt") }],
    projection: null,
    low: point?.low ?? null,
    high: point?.high ?? null,
    decimals: point?.decimals ?? 2,
    zone: zone.value,
    badWord: t("badSpan"),
  }));
  const name = point === undefined ? evidence.point : named(point.name);
  return (
    <>
      <p class="evidence-caption">
        <button type="button" class="link" disabled={point === undefined} onClick={() => openPoint(evidence.point)}>
          {name} <code>{evidence.point}</code>
        </button>
        <span class="muted">{evidence.unit}</span>
      </p>
      <Chart model={model} label={t("trendOf", { name })} testId="ticket-evidence" />
    </>
  );
}

function Log({ ticket }: { readonly ticket: Ticket }) {
  return (
    <section class="ticket-log" aria-label={t("log")}>
      <h3>{t("log")}</h3>
      <ol>
        {ticket.log.map((entry, i) => (
          <li key={`${entry.at} ${i}`}>
            <time>{shortInstant(entry.at, zone.value, now.value)}</time>
            <b>{entry.who}</b>
            <span>{logged(entry.what)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function NextStep({ ticket }: { readonly ticket: Ticket }) {
  const text = useSignal("");
  const busy = useSignal(false);
  const problem = useSignal<unknown>(null);
  if (ticket.state === "accepted") return null;
  const rectifying = ticket.state === "rectifying";
  if (!may(rectifying ? "tickets.rectify" : "tickets.accept")) return null;
  const missing = text.value.trim() === "";
  const run = async (act: (id: string, text: string) => Promise<Ticket>): Promise<void> => {
    busy.value = true;
    problem.value = null;
    try {
      applyTickets([await act(ticket.id, text.value.trim())]);
      text.value = "";
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  };
  return (
    <form class="ticket-step" onSubmit={(event) => event.preventDefault()}>
      <label>
        <h3>{t(rectifying ? "measures" : "comment")}</h3>
        <textarea
          data-testid={rectifying ? "ticket-measures" : "ticket-comment"}
          rows={3}
          maxLength={2000}
          placeholder={t(rectifying ? "measuresHint" : "commentHint")}
          value={text}
          onInput={(event) => {
            text.value = event.currentTarget.value;
          }}
        />
      </label>
      <p class="wrong" role="alert">
        {problem.value === null ? "" : explain(problem.value)}
      </p>
      <div class="dialog-buttons">
        {rectifying ? (
          <button type="button" class="primary" data-testid="ticket-submit" disabled={busy.value || missing} onClick={() => void run(api.submit)}>
            {t("submit")}
          </button>
        ) : (
          <>
            <button type="button" data-testid="ticket-reject" disabled={busy.value || missing} onClick={() => void run(api.reject)}>
              {t("reject")}
            </button>
            <button type="button" class="primary" data-testid="ticket-accept" disabled={busy.value || missing} onClick={() => void run(api.accept)}>
              {t("accept")}
            </button>
          </>
        )}
      </div>
    </form>
  );
}
