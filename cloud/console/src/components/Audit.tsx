/** Owns the audit log: who gave which command, when, from where, and what came of it. */
import { batch, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { shortInstant } from "../format.ts";
import { roleWord, t, wordIfAny } from "../i18n.ts";
import { said } from "../sentences.ts";
import { zone } from "../store.ts";
import { explain, say } from "../toast.ts";
import type { AuditEntry } from "../types.ts";

const PAGE = 100;
const entries = signal<readonly AuditEntry[]>([]);
const ended = signal(false);

async function read(before?: number): Promise<void> {
  try {
    const rows = await api.audit(PAGE, before);
    batch(() => {
      entries.value = before === undefined ? rows : [...entries.value, ...rows];
      ended.value = rows.length < PAGE;
    });
  } catch (error) {
    say(explain(error));
  }
}

export function Audit() {
  useEffect(() => void read(), []);
  const last = entries.value.at(-1);
  return (
    <div class="scroll">
      <p class="muted audit-hint">{t("auditHint")}</p>
      <table class="plain audit" aria-label={t("audit")} data-testid="audit">
        <thead>
          <tr>
            <th>{t("auditAt")}</th>
            <th>{t("auditWho")}</th>
            <th>{t("auditWhat")}</th>
            <th>{t("auditOutcome")}</th>
          </tr>
        </thead>
        <tbody>
          {entries.value.map((entry) => (
            <Row key={entry.seq} entry={entry} />
          ))}
        </tbody>
      </table>
      {last !== undefined && !ended.value && (
        <button type="button" data-testid="audit-older" onClick={() => void read(last.seq)}>
          {t("auditOlder")}
        </button>
      )}
    </div>
  );
}

function Row({ entry }: { readonly entry: AuditEntry }) {
  const action = wordIfAny(`action_${entry.action.replace(/[.-]/g, "_")}`) ?? entry.action;
  const detail = Object.entries(entry.detail).filter(([key, value]) => key !== "command" && value !== "");
  return (
    <tr data-testid={`audit-${entry.seq}`} data-action={entry.action} data-outcome={entry.outcome ?? ""} data-broken={entry.broken}>
      <td class="nowrap">
        {entry.at === null ? "—" : shortInstant(entry.at, zone.value, now.value)}
        <small>{entry.seq}</small>
      </td>
      <td class="nowrap">
        <b>{entry.who === "" ? t("auditNobody") : entry.who}</b>
        <small>{[entry.role === "" ? "" : roleWord(entry.role), entry.origin].filter((part) => part !== "").join(" · ")}</small>
      </td>
      <td class="message">
        <b>
          {action} <code>{entry.target}</code>
        </b>
        <small>{detail.map(([key, value]) => `${wordIfAny(`detail_${key}`) ?? key}: ${key === "why" ? said(String(value)) : value}`).join(" · ")}</small>
      </td>
      <td class={`nowrap${!entry.broken && (entry.outcome === "done" || entry.outcome === "asked") ? "" : " wrong"}`}>
        {entry.broken && <b>{t("auditBroken")}</b>}
        {entry.outcome !== null && t(`outcome_${entry.outcome}`)}
      </td>
    </tr>
  );
}
