/** Owns the bars across the page: the server is lost, an alarm flood goes on, the page is outdated. */
import { now } from "../clock.ts";
import { shortInstant } from "../format.ts";
import { word } from "../i18n.ts";
import { connection, flood, lastHeard, newVersion, zone } from "../store.ts";

/** In both languages at once: whoever stands in front of the screen must understand it. */
export function LostBanner() {
  if (connection.value !== "lost") return null;
  const at = lastHeard.value;
  const time = at === null ? null : shortInstant(at, zone.value, now.value);
  const since = (language: "zh" | "en"): string => (time === null ? word(language, "lostNever") : word(language, "lostFrom", { time }));
  return (
    <div class="lost-banner" role="alert" data-testid="lost-banner">
      <svg width="28" height="28" viewBox="0 0 24 24" aria-hidden="true">
        <path d="M12 2 1 21h22zM11 9h2v6h-2zm0 8h2v2h-2z" fill-rule="evenodd" />
      </svg>
      <p>
        <strong lang="zh-CN">
          {word("zh", "lost")} – {since("zh")}
        </strong>
        <span lang="en">
          {word("en", "lost")} – {since("en")}
        </span>
      </p>
    </div>
  );
}

export function FloodBanner() {
  const on = flood.value;
  if (on === null) return null;
  const since = { time: shortInstant(on.since, zone.value, now.value), first: on.first };
  const count = { count: on.alarms };
  return (
    <div class="flood-banner" role="status" data-testid="flood-banner" data-count={on.alarms}>
      {(["zh", "en"] as const).map((language) => (
        <p key={language} lang={language === "zh" ? "zh-CN" : "en"}>
          <strong>{word(language, "flood", count)}</strong> {word(language, "floodSince", since)}
        </p>
      ))}
    </div>
  );
}

export function UpdateBanner() {
  const version = newVersion.value;
  if (version === null) return null;
  return (
    <div class="update-banner" role="status" data-testid="update-banner">
      <span lang="zh-CN">{word("zh", "updated", { version })}</span>
      <span lang="en">{word("en", "updated", { version })}</span>
      <button type="button" onClick={() => location.reload()}>
        {word("zh", "reload")} / {word("en", "reload")}
      </button>
    </div>
  );
}
