/** Owns the hazard tickets: their list, and which one is looked at. */
import { computed, effect, signal } from "@preact/signals";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { duration, shortInstant } from "../format.ts";
import { named, t } from "../i18n.ts";
import { applyTickets, connection, fullReads, selectedTicket, tickets, zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { Ticket } from "../types.ts";
import { MoreRow } from "./MoreRow.tsx";
import { TicketDetail } from "./TicketDetail.tsx";

const PAGE = 150;
/** Of those that are accepted: a plant has had many over the years. */
const MOST_PAST = 1000;

const all = signal(false);
const shown = signal(PAGE);

async function readAll(): Promise<void> {
  try {
    applyTickets(await api.tickets("all", MOST_PAST));
  } catch (error) {
    say(explain(error));
  }
}

// A full read brings the open ones alone.
effect(() => {
  if (all.value && fullReads.value > 0) void readAll();
});

function order(a: Ticket, b: Ticket): number {
  const done = Number(a.state === "accepted") - Number(b.state === "accepted");
  if (done !== 0) return done;
  const major = Number(b.level === "major") - Number(a.level === "major");
  if (major !== 0) return major;
  // As texts, of one length and zone: a flood opens thousands.
  return a.opened_at < b.opened_at ? 1 : a.opened_at > b.opened_at ? -1 : 0;
}

const listed = computed(() =>
  [...tickets.value.values()].filter((ticket) => all.value || ticket.state !== "accepted" || ticket.id === selectedTicket.value).sort(order),
);

export function Tickets() {
  const rows = listed.value;
  const chosen = rows.find((ticket) => ticket.id === selectedTicket.value) ?? rows[0] ?? null;
  const rest = rows.length - shown.value;
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
          {rows.slice(0, shown.value).map((ticket) => (
            <TicketRow key={ticket.id} ticket={ticket} chosen={ticket.id === chosen?.id} />
          ))}
          {rest > 0 && (
            <MoreRow
              label={t("moreRows", { count: rest })}
              more={() => {
                shown.value += PAGE;
              }}
            />
          )}
        </ul>
      </div>
      {chosen === null ? <p class="empty">{t("pickTicket")}</p> : <TicketDetail key={`${chosen.id} ${connection.value}`} ticket={chosen} />}
    </section>
  );
}

function choose(wanted: boolean): void {
  all.value = wanted;
  shown.value = PAGE;
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
