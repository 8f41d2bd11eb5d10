/** Owns the hazard tickets: their list, and which one is looked at. */
import { signal } from "@preact/signals";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { duration, shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { applyTicket, connection, selectedTicket, tickets, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { Ticket } from "../types.ts";
import { TicketDetail } from "./TicketDetail.tsx";

const all = signal(false);

async function readAll(): Promise<void> {
  try {
    for (const ticket of await api.tickets("all")) applyTicket(ticket);
  } catch (error) {
    say(explain(error));
  }
}

function order(a: Ticket, b: Ticket): number {
  const done = Number(a.state === "accepted") - Number(b.state === "accepted");
  if (done !== 0) return done;
  const major = Number(b.level === "major") - Number(a.level === "major");
  return major !== 0 ? major : Date.parse(b.opened_at) - Date.parse(a.opened_at);
}

export function Tickets() {
  const rows = [...tickets.value.values()].filter((ticket) => all.value || ticket.state !== "accepted" || ticket.id === selectedTicket.value).sort(order);
  const chosen = rows.find((ticket) => ticket.id === selectedTicket.value) ?? rows[0] ?? null;
  return (
    <section class="tickets" aria-label={t("tickets")}>
      <div class="ticket-list">
        <fieldset class="segmented" aria-label={t("tickets")}>
          <button type="button" data-testid="tickets-open" aria-pressed={!all.value} onClick={() => choose(false)}>
            {t("openOnly")}
          </button>
          <button type="button" data-testid="tickets-all" aria-pressed={all.value} onClick={() => choose(true)}>
            {t("allTickets")}
          </button>
        </fieldset>
        {rows.length === 0 && <p class="empty">{t("noTickets")}</p>}
        <ul>
          {rows.map((ticket) => (
            <TicketRow key={ticket.id} ticket={ticket} chosen={ticket.id === chosen?.id} />
          ))}
        </ul>
      </div>
      {chosen === null ? <p class="empty">{t("pickTicket")}</p> : <TicketDetail key={`${chosen.id} ${connection.value}`} ticket={chosen} />}
    </section>
  );
}

function choose(wanted: boolean): void {
  all.value = wanted;
  if (wanted) void readAll();
}

function TicketRow({ ticket, chosen }: { readonly ticket: Ticket; readonly chosen: boolean }) {
  return (
    <li>
      <button
        type="button"
        class={`ticket ${ticket.level}${chosen ? " chosen" : ""}`}
        data-testid={`ticket-${ticket.id}`}
        data-state={ticket.state}
        aria-pressed={chosen}
        onClick={() => {
          selectedTicket.value = ticket.id;
        }}
      >
        <span class="ticket-tags">
          <span class={`tag ${ticket.level}`}>{t(`ticketLevel_${ticket.level}`)}</span>
          <span class={`tag state ${ticket.state}`}>{t(`ticketState_${ticket.state}`)}</span>
          <time>{shortInstant(ticket.opened_at, zone.value, now.value)}</time>
        </span>
        <b>{named(ticket.title)}</b>
        <span class="ticket-foot">
          <code>{ticket.alarm}</code>
          <Deadline ticket={ticket} />
        </span>
      </button>
    </li>
  );
}

export function Deadline({ ticket }: { readonly ticket: Ticket }) {
  if (ticket.state === "accepted") return null;
  const left = (Date.parse(ticket.deadline) - now.value) / 1000;
  return left < 0 ? (
    <span class="overdue">{t("overdue", { duration: duration(-left) })}</span>
  ) : (
    <span class="muted">{t("remaining", { duration: duration(left) })}</span>
  );
}
