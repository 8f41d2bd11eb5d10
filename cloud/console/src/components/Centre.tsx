/** Owns the middle of the screen: the tabs and what each of them shows. */
import { t } from "../i18n.ts";
import { gateways, may, notifications, openTickets, type Tab, tab } from "../store.ts";
import { Audit } from "./Audit.tsx";
import { Gateways } from "./Gateways.tsx";
import { Health } from "./Health.tsx";
import { Kpi } from "./Kpi.tsx";
import { Notifications } from "./Notifications.tsx";
import { PointTable } from "./PointTable.tsx";
import { Tickets } from "./Tickets.tsx";
import { Trend } from "./Trend.tsx";
import { Users } from "./Users.tsx";

const TABS: readonly Tab[] = ["points", "tickets", "notifications", "gateways", "health", "kpi"];

function tabs(): readonly Tab[] {
  return [...TABS, ...(may("audit.read") ? (["audit"] as const) : []), ...(may("users.manage") ? (["users"] as const) : [])];
}

export function Centre() {
  return (
    <main class="centre" data-tab={tab.value}>
      <div class="tabs" role="tablist" onKeyDown={walk}>
        {tabs().map((name) => (
          <TabButton key={name} name={name} />
        ))}
      </div>
      <div class="panel" role="tabpanel" id="panel" aria-labelledby={`tab-${tab.value}`}>
        <Shown />
      </div>
    </main>
  );
}

/** The arrows move between tabs, as the pattern for tabs asks. */
function walk(event: KeyboardEvent): void {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  const next = tabs()[tabs().indexOf(tab.value) + step];
  if (step === 0 || next === undefined) return;
  tab.value = next;
  document.getElementById(`tab-${next}`)?.focus();
}

function TabButton({ name }: { readonly name: Tab }) {
  const chosen = tab.value === name;
  const { count, wrong } = attention(name);
  return (
    <button
      type="button"
      role="tab"
      id={`tab-${name}`}
      data-testid={`tab-${name}`}
      aria-selected={chosen}
      aria-controls="panel"
      tabIndex={chosen ? 0 : -1}
      onClick={() => {
        tab.value = name;
      }}
    >
      {t(`tab_${name}`)}
      {count > 0 && <b class={wrong ? "wrong" : ""}>{count}</b>}
    </button>
  );
}

function attention(name: Tab): { readonly count: number; readonly wrong: boolean } {
  if (name === "tickets") return { count: openTickets.value, wrong: false };
  if (name === "notifications") return { count: [...notifications.value.values()].filter((x) => x.state === "failed").length, wrong: true };
  if (name === "gateways") return { count: [...gateways.value.values()].filter((x) => x.state === "offline").length, wrong: true };
  return { count: 0, wrong: false };
}

function Shown() {
  if (tab.value === "tickets") return <Tickets />;
  if (tab.value === "notifications") return <Notifications />;
  if (tab.value === "gateways") return <Gateways />;
  if (tab.value === "health") return <Health />;
  if (tab.value === "kpi") return <Kpi />;
  if (tab.value === "audit") return <Audit />;
  if (tab.value === "users") return <Users />;
  return (
    <>
      <Trend />
      <PointTable />
    </>
  );
}
