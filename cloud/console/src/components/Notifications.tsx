/** Owns the record of messages: who was told what, by which way, when, and whether it arrived. */
import { now } from "../clock.ts";
import { shortInstant } from "../format.ts";
import { t } from "../i18n.ts";
import { said } from "../sentences.ts";
import { notifications, zone } from "../store.ts";
import type { Notification } from "../types.ts";

export function Notifications() {
  const rows = [...notifications.value.values()].sort((a, b) => Date.parse(b.due_at) - Date.parse(a.due_at));
  if (rows.length === 0) return <p class="empty">{t("noNotifications")}</p>;
  return (
    <div class="scroll">
      <table class="plain notifications" aria-label={t("notifications")}>
        <thead>
          <tr>
            <th>{t("dueAt")}</th>
            <th>{t("to")}</th>
            <th>{t("message")}</th>
            <th>{t("state")}</th>
            <th>{t("sentAt")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={row.id} row={row} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ row }: { readonly row: Notification }) {
  const when = (at: string): string => shortInstant(at, zone.value, now.value);
  return (
    <tr data-testid={`notification-${row.id}`} data-state={row.state} data-occurrence={row.occurrence}>
      <td class="nowrap">{when(row.due_at)}</td>
      <td class="nowrap">
        <b>{row.to}</b>
        <small>{row.channel}</small>
      </td>
      <td class="message">
        <b>{row.subject}</b>
        <span>{row.body}</span>
        <small>{said(row.reason)}</small>
      </td>
      <td>
        <span class={`tag note ${row.state}`}>{t(`noteState_${row.state}`)}</span>
        {row.attempts > 1 && (
          <small>
            {t("attempts")} {row.attempts}
          </small>
        )}
        {row.error !== null && <small class="wrong">{row.error}</small>}
      </td>
      <td class="nowrap">{row.sent_at === null ? "—" : when(row.sent_at)}</td>
    </tr>
  );
}
