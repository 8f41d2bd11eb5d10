/** Owns what the page shows: the sign-in, or the control-room screen. */
import { t } from "../i18n.ts";
import { connection, plant, session } from "../store.ts";
import { AccountDialog } from "./AccountDialog.tsx";
import { AlarmPanel } from "./AlarmPanel.tsx";
import { FloodBanner, LostBanner, UpdateBanner } from "./Banner.tsx";
import { Bell } from "./Bell.tsx";
import { Centre } from "./Centre.tsx";
import { Login } from "./Login.tsx";
import { SourceList } from "./SourceList.tsx";
import { SuppressDialog } from "./SuppressDialog.tsx";
import { Toasts } from "./Toasts.tsx";
import { TopBar } from "./TopBar.tsx";

export function App() {
  if (session.value === null) return <Login />;
  if (session.value === undefined || (plant.value === null && connection.value === "connecting")) {
    return (
      <p class="starting" role="status" data-testid="connection" data-state="connecting">
        <Bell size={36} />
        {t("connecting")}
      </p>
    );
  }
  return (
    <div class="screen" data-connection={connection.value}>
      <TopBar />
      <LostBanner />
      <FloodBanner />
      <UpdateBanner />
      <div class="work">
        <SourceList />
        <Centre />
        <AlarmPanel />
      </div>
      <SuppressDialog />
      <AccountDialog />
      <Toasts />
    </div>
  );
}
