/** Owns how a live value is written: in full when it can be believed, struck through when not, a dash when unknown. */
import { fixed } from "../format.ts";
import { t } from "../i18n.ts";
import { grade } from "../quality.ts";
import { doubt, stateOf } from "../store.ts";
import type { Point } from "../types.ts";

export function ValueText({ point, testId }: { readonly point: Point; readonly testId: string }) {
  const state = stateOf(point.id);
  const live = state.live.value;
  const why = doubt(live, state.alarms.value);
  const quality = why === "stale" ? "stale" : grade(live.quality);
  const believed = quality === "good" || quality === "uncertain" || live.value === null;
  const text = fixed(live.value, point.decimals);
  return (
    <span class={`value q-${quality}`}>
      <span data-testid={testId} data-quality={quality}>
        {believed ? <b>{text}</b> : <del title={t("lastValue")}>{text}</del>}
      </span>
      <small>{point.unit}</small>
    </span>
  );
}
