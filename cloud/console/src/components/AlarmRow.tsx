/** Owns one alarm in the list: what it says at a glance, its details, and what an operator may do about it. */
import { signal, useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { becauseWords } from "../because.ts";
import { now } from "../clock.ts";
import { duration, shortInstant } from "../format.ts";
import { named, t, wordIfAny } from "../i18n.ts";
import { codeWord, gradeOf, groupOf } from "../kinds.ts";
import { acknowledged, annunciated, asksForAnswer, conditionPresent, hiddenBy, latched } from "../order.ts";
import { atRaise } from "../raised.ts";
import { said } from "../sentences.ts";
import { groupNames, may, openPoint, pointsById, zone } from "../store.ts";
import { stream } from "../stream.ts";
import { explain, say } from "../toast.ts";
import type { Alarm, Because, Step } from "../types.ts";
import { Glyph } from "./Glyph.tsx";
import { memo } from "./memo.ts";
import { suppressing } from "./SuppressDialog.tsx";

const opened = signal<string | null>(null);

interface Props {
  readonly alarm: Alarm;
  readonly history: boolean;
}

export const AlarmRow = memo(function AlarmRow({ alarm, history }: Props) {
  const open = useComputed(() => opened.value === alarm.id);
  const asks = !history && asksForAnswer(alarm.phase) && annunciated(alarm, now.peek());
  const present = conditionPresent(alarm.phase);
  const early = groupOf(alarm.kind) === "early";
  const grade = gradeOf(alarm.kind);
  const point = pointsById.value.get(alarm.point);
  const toggle = (): void => {
    opened.value = opened.peek() === alarm.id ? null : alarm.id;
    if (point !== undefined) openPoint(alarm.point);
  };
  return (
    <li
      class={`alarm p-${alarm.priority}${asks ? " asks" : ""}${present ? " present" : ""}${early ? " is-early" : ""}`}
      data-testid={`alarm-${alarm.id}`}
      data-alarm={alarm.alarm}
      data-kind={alarm.kind}
      data-phase={alarm.phase}
      data-priority={alarm.priority}
    >
      <button type="button" class="alarm-main" aria-expanded={open} onClick={toggle}>
        <Glyph priority={alarm.priority} blink={asks} hollow={!present} size={26} />
        <span class="alarm-text">
          <span class="alarm-title">
            <b class={`code${early ? " early" : ""}${grade === null ? "" : ` grade g-${grade}`}`}>{codeWord(alarm.kind)}</b>
            {alarm.because !== null && alarm.because.first_out.length > 0 && (
              <b class="first-out" data-testid={`first-out-${alarm.id}`} title={becauseText(alarm.because)}>
                {t("firstOut")}
              </b>
            )}
            <span class="alarm-name">{point === undefined ? alarm.point : named(point.name)}</span>
          </span>
          <span class="alarm-value">{atRaise(alarm, point?.decimals, point?.limits.find((l) => l.alarm === alarm.alarm)?.side) ?? named(alarm.message)}</span>
          <span class="alarm-facts">
            <span class="phase">{phaseWords(alarm)}</span>
            {alarm.because !== null && <Behind because={alarm.because} />}
            {alarm.clause !== null && <span class="clause">{named(alarm.clause)}</span>}
          </span>
        </span>
        <span class="alarm-age">
          <Age alarm={alarm} history={history} />
          <code>{alarm.point}</code>
          <PriorityWord alarm={alarm} />
        </span>
      </button>
      {asksForAnswer(alarm.phase) && !history && may("alarms.answer") && (
        <span class="alarm-actions">
          <AckButton alarm={alarm} />
        </span>
      )}
      {open.value && <Details alarm={alarm} history={history} />}
    </li>
  );
});

function PriorityWord({ alarm }: { readonly alarm: Alarm }) {
  return <span class="priority-word">{t(`priority_${alarm.priority}`)}</span>;
}

/** What the row has room for beside the first-out mark: a degraded vote, the point that contributes most. */
function Behind({ because }: { readonly because: Because }) {
  const [most] = because.contributions;
  const words = [because.vote, most === undefined ? null : most.percent === null ? most.point : `${most.point} ${most.percent} %`];
  const shown = words.filter((word) => word !== null);
  return shown.length === 0 ? null : <span class="behind" title={becauseText(because)}>{shown.join(" · ")}</span>;
}

function becauseText(because: Because): string {
  return becauseWords(because, groupNames.value).join(t("listSemicolon"));
}

function phaseWords(alarm: Alarm): string {
  const hidden = hiddenBy(alarm, now.peek());
  if (hidden === "out-of-service") return t("outOfService");
  if (hidden === "design") return t("suppressedByDesign");
  if (hidden === "shelf" && alarm.shelved_until !== null) {
    return t(alarm.shelved_once ? "shelvedOnce" : "shelvedUntil", { time: shortInstant(alarm.shelved_until, zone.value, now.peek()) });
  }
  return t(`phase_${alarm.phase}`);
}

function Age({ alarm, history }: Props) {
  const at = now.value;
  if (history) return <time>{shortInstant(alarm.raised_at, zone.value, at)}</time>;
  return <time title={shortInstant(alarm.raised_at, zone.value, at)}>{duration((at - Date.parse(alarm.raised_at)) / 1000)}</time>;
}

interface ActProps {
  readonly label: string;
  readonly testId: string;
  readonly aria: string;
  readonly primary?: boolean;
  readonly act: () => Promise<Alarm>;
}

/** A button that waits for the server's answer; a refusal is said aloud and nothing is shown as done before it is. */
function Act({ label, testId, aria, primary = false, act }: ActProps) {
  const busy = useSignal(false);
  const run = async (): Promise<void> => {
    busy.value = true;
    try {
      stream.took(await act());
    } catch (error) {
      say(explain(error));
    } finally {
      busy.value = false;
    }
  };
  return (
    <button type="button" class={primary ? "ack" : ""} data-testid={testId} aria-label={aria} disabled={busy} onClick={() => void run()}>
      {label}
    </button>
  );
}

function AckButton({ alarm }: { readonly alarm: Alarm }) {
  const aria = t("acknowledgeOf", { alarm: alarm.alarm });
  return <Act primary label={t("acknowledge")} aria={aria} testId={`ack-${alarm.id}`} act={() => api.acknowledge(alarm.id)} />;
}

function Details({ alarm, history }: Props) {
  const when = (at: string | null): string | null => (at === null ? null : shortInstant(at, zone.value, now.peek()));
  return (
    <div class="alarm-details">
      <p>{named(alarm.message)}</p>
      <dl>
        <Fact term={t("because")} text={alarm.because === null ? null : becauseText(alarm.because)} />
        <Fact term={t("priority")} text={t(`priority_${alarm.priority}`)} />
        <Fact term={t("clause")} text={alarm.clause === null ? null : named(alarm.clause)} />
        <Fact term={t("raisedAt")} text={when(alarm.raised_at)} />
        <Fact term={t("acknowledgedAt")} text={when(alarm.acknowledged_at)} />
        <Fact term={t("acknowledgedBy")} text={alarm.acknowledged_by} />
        <Fact term={t("returnedAt")} text={when(alarm.returned_at)} />
        <Fact term={t("occurrence")} text={`${alarm.alarm} · ${alarm.id}`} />
      </dl>
      <Steps alarm={alarm} />
      {!history && <Actions alarm={alarm} />}
    </div>
  );
}

function Fact({ term, text }: { readonly term: string; readonly text: string | null }) {
  if (text === null || text === "") return null;
  return (
    <>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </>
  );
}

/** Read anew whenever something has happened to the alarm. */
function Steps({ alarm }: { readonly alarm: Alarm }) {
  const steps = useSignal<readonly Step[]>([]);
  useEffect(() => {
    let current = true;
    api.steps(alarm.id).then(
      (rows) => {
        if (current) steps.value = rows;
      },
      (error: unknown) => say(explain(error)),
    );
    return () => {
      current = false;
    };
  }, [alarm]);
  return (
    <ol class="steps" aria-label={t("steps")} data-testid={`steps-${alarm.id}`}>
      {steps.value.map((step, i) => (
        <li key={i} data-event={step.event}>
          <time>{shortInstant(step.at, zone.value, now.peek())}</time>
          <b>{wordIfAny(`event_${step.event}`) ?? wordIfAny(`phase_${step.phase_to}`)}</b>
          <span>{[step.who, reasonOf(step)].filter((part) => part !== null).join(" · ")}</span>
        </li>
      ))}
    </ol>
  );
}

function reasonOf(step: Step): string | null {
  if (step.because !== null) return becauseText(step.because);
  return step.reason === null ? null : said(step.reason);
}

function Actions({ alarm }: { readonly alarm: Alarm }) {
  const { id } = alarm;
  return (
    <div class="actions">
      {may("alarms.answer") && <Answers alarm={alarm} />}
      {may("alarms.take-out") &&
        (alarm.out_of_service ? (
          <Act label={t("returnToService")} aria={t("returnToService")} testId={`in-service-${id}`} act={() => api.inService(id)} />
        ) : (
          <button type="button" data-testid={`out-of-service-${id}`} onClick={() => suppressing("out-of-service", alarm)}>
            {t("takeOutOfService")}…
          </button>
        ))}
    </div>
  );
}

function Answers({ alarm }: { readonly alarm: Alarm }) {
  const { id } = alarm;
  const shelved = alarm.shelved_until !== null && Date.parse(alarm.shelved_until) > now.peek();
  return (
    <>
      {acknowledged(alarm.phase) && (
        <Act
          label={t("unacknowledge")}
          aria={t("unacknowledgeOf", { alarm: alarm.alarm })}
          testId={`unacknowledge-${id}`}
          act={() => api.unacknowledge(id)}
        />
      )}
      {latched(alarm.phase) && <Act label={t("reset")} aria={t("reset")} testId={`reset-${id}`} act={() => api.reset(id)} />}
      {shelved ? (
        <Act label={t("unshelve")} aria={t("unshelve")} testId={`unshelve-${id}`} act={() => api.unshelve(id)} />
      ) : (
        <button type="button" data-testid={`shelve-${id}`} onClick={() => suppressing("shelve", alarm)}>
          {t("shelve")}…
        </button>
      )}
    </>
  );
}
