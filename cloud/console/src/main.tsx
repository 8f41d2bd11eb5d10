/** Owns the start of the page: styles, clock, language, sound, the first question for the session, the first drawing. */
import "uplot/dist/uPlot.min.css";
import "./styles/base.css";
import "./styles/screen.css";
import "./styles/panels.css";
import "./styles/health.css";
import "./styles/kpi.css";
import "./styles/people.css";
import "./styles/narrow.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { startClock } from "./clock.ts";
import { startAlarmPanel } from "./components/AlarmPanel.tsx";
import { App } from "./components/App.tsx";
import { startTrend } from "./components/Trend.tsx";
import { named, startLanguage, t } from "./i18n.ts";
import { startSession } from "./session.ts";
import { startSound } from "./sound.ts";
import { plant, unacknowledged } from "./store.ts";

startLanguage();
startClock();
startSound();
startTrend();
startAlarmPanel();
effect(() => {
  const count = unacknowledged.value.length;
  const site = named(plant.value?.site.name) || t("product");
  document.title = count > 0 ? `(${count}) ${site} – Tocsin` : `${site} – Tocsin`;
});
// Every mark that blinks does so in step with the others.
document.addEventListener("animationstart", (event) => {
  for (const animation of (event.target as Element).getAnimations()) animation.startTime = 0;
});

void startSession();
const root = document.getElementById("app");
if (root === null) throw new Error("the page has no element #app");
render(<App />, root);
