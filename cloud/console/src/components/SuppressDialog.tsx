/** Owns the dialog that shelves an alarm or takes it out of service: never without a reason. */
import { batch, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api } from "../api.ts";
import { duration } from "../format.ts";
import { named, t } from "../i18n.ts";
import { kindWord } from "../kinds.ts";
import { conditionPresent } from "../order.ts";
import { pointsById } from "../store.ts";
import { stream } from "../stream.ts";
import { explain } from "../toast.ts";
import type { Alarm } from "../types.ts";
import { Glyph } from "./Glyph.tsx";

type Mode = "shelve" | "out-of-service";
const DURATIONS_S = [600, 1800, 3600, 14_400, 28_800] as const;

const asked = signal<{ readonly mode: Mode; readonly alarm: Alarm } | null>(null);
const chosen_s = signal<number>(DURATIONS_S[0]);
const once = signal(false);
const why = signal("");
const problem = signal<unknown>(null);
const busy = signal(false);

/** Opens the dialog for one alarm. */
export function suppressing(mode: Mode, alarm: Alarm): void {
  batch(() => {
    asked.value = { mode, alarm };
    chosen_s.value = DURATIONS_S[0];
    once.value = false;
    why.value = "";
    problem.value = null;
  });
}

async function submit(mode: Mode, alarm: Alarm): Promise<void> {
  const reason = why.value.trim();
  if (reason === "") return;
  busy.value = true;
  try {
    stream.took(await (mode === "shelve" ? api.shelve(alarm.id, chosen_s.value, once.value, reason) : api.outOfService(alarm.id, reason)));
    asked.value = null;
  } catch (error) {
    problem.value = error;
  } finally {
    busy.value = false;
  }
}

export function SuppressDialog() {
  return asked.value === null ? null : <Dialog mode={asked.value.mode} alarm={asked.value.alarm} />;
}

function Dialog({ mode, alarm }: { readonly mode: Mode; readonly alarm: Alarm }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current?.showModal(), []);
  const close = (): void => {
    asked.value = null;
  };
  const shelve = mode === "shelve";
  const title = t(shelve ? "shelveTitle" : "outOfServiceTitle");
  const point = pointsById.value.get(alarm.point);
  return (
    <dialog ref={box} class="dialog" aria-label={title} data-testid="suppress-dialog" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit(mode, alarm);
        }}
      >
        <h2>{title}</h2>
        <p class="dialog-subject">
          <Glyph priority={alarm.priority} />
          <b>{kindWord(alarm.kind)}</b> {point === undefined ? "" : named(point.name)} <code>{alarm.alarm}</code>
        </p>
        {shelve && conditionPresent(alarm.phase) && <Once />}
        {shelve && <Durations />}
        <label>
          <span>{t("reason")}</span>
          <textarea
            data-testid="suppress-reason"
            required
            rows={3}
            maxLength={500}
            placeholder={t("reasonRequired")}
            value={why}
            onInput={(event) => {
              why.value = event.currentTarget.value;
            }}
          />
        </label>
        <p class="muted">{t(shelve ? "shelveHint" : "outOfServiceHint")}</p>
        <p class="wrong" role="alert">
          {problem.value === null ? "" : explain(problem.value)}
        </p>
        <div class="dialog-buttons">
          <button type="button" data-testid="suppress-cancel" onClick={close}>
            {t("cancel")}
          </button>
          <button type="submit" class="primary" data-testid="suppress-submit" disabled={busy.value || why.value.trim() === ""}>
            {t(shelve ? "shelve" : "takeOutOfService")}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** Only what is active can return. */
function Once() {
  return (
    <label class="once">
      <input
        type="checkbox"
        data-testid="shelve-once"
        checked={once.value}
        onChange={(event) => {
          once.value = event.currentTarget.checked;
        }}
      />
      <span>{t("untilReturn")}</span>
    </label>
  );
}

function Durations() {
  return (
    <fieldset class="durations">
      <legend>{t(once.value ? "longest" : "duration")}</legend>
      {DURATIONS_S.map((seconds) => (
        <label key={seconds}>
          <input
            type="radio"
            name="duration"
            data-testid={`shelve-duration-${seconds}`}
            checked={chosen_s.value === seconds}
            onChange={() => {
              chosen_s.value = seconds;
            }}
          />
          <span>{duration(seconds)}</span>
        </label>
      ))}
    </fieldset>
  );
}
