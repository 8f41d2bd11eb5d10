/** Owns the dialog in which users change their own password or end their sessions on every machine. */
import { batch, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError } from "../api.ts";
import { t } from "../i18n.ts";
import { changePassword, signOut } from "../session.ts";
import { explain } from "../toast.ts";

const SHORTEST = 10;

const open = signal(false);
const before = signal("");
const after = signal("");
const again = signal("");
const problem = signal<unknown>(null);
const busy = signal(false);

/** Opens the dialog. */
export function showAccount(): void {
  open.value = true;
}

/** Whatever takes the dialog away, the end of the session too, leaves no password behind for whoever comes next. */
function forget(): void {
  batch(() => {
    open.value = false;
    before.value = after.value = again.value = "";
    problem.value = null;
  });
}

async function run(act: () => Promise<void>): Promise<void> {
  busy.value = true;
  problem.value = null;
  try {
    await act();
    open.value = false;
  } catch (error) {
    problem.value = error;
  } finally {
    busy.value = false;
  }
}

export function AccountDialog() {
  return open.value ? <Dialog /> : null;
}

function Dialog() {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    box.current?.showModal();
    return forget;
  }, []);
  const close = (): void => {
    open.value = false;
  };
  const differs = again.value !== "" && again.value !== after.value;
  const ready = before.value !== "" && after.value.length >= SHORTEST && again.value === after.value;
  return (
    <dialog ref={box} class="dialog" aria-label={t("account")} data-testid="account-dialog" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void run(() => changePassword(before.value, after.value));
        }}
      >
        <h2>{t("account")}</h2>
        <Secret label={t("oldPassword")} testId="password-old" complete="current-password" value={before} />
        <Secret label={t("newPassword")} testId="password-new" complete="new-password" value={after} />
        <Secret label={t("newPasswordAgain")} testId="password-again" complete="new-password" value={again} />
        <p class="muted">{t("passwordHint", { count: SHORTEST })}</p>
        <p class="wrong" role="alert" data-testid="account-problem">
          {differs ? t("passwordsDiffer") : problem.value === null ? "" : why(problem.value)}
        </p>
        <div class="dialog-buttons">
          <button type="button" data-testid="sign-out-everywhere" disabled={busy} onClick={() => void run(() => signOut(true))}>
            {t("signOutEverywhere")}
          </button>
          <button type="button" onClick={close}>
            {t("cancel")}
          </button>
          <button type="submit" class="primary" data-testid="password-submit" disabled={busy.value || !ready}>
            {t("changePassword")}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface SecretProps {
  readonly label: string;
  readonly testId: string;
  readonly complete: "current-password" | "new-password";
  readonly value: typeof before;
}

function Secret({ label, testId, complete, value }: SecretProps) {
  return (
    <label>
      <span>{label}</span>
      <input
        type="password"
        data-testid={testId}
        autocomplete={complete}
        required
        value={value}
        onInput={(event) => {
          value.value = event.currentTarget.value;
        }}
      />
    </label>
  );
}

function why(error: unknown): string {
  return error instanceof ApiError && error.status === 403 ? t("oldPasswordWrong") : explain(error);
}
