/** Owns the page on which a user signs in. */
import { useSignal } from "@preact/signals";
import { ApiError } from "../api.ts";
import { t } from "../i18n.ts";
import { signIn } from "../session.ts";
import { signedOutBecause } from "../store.ts";
import { explain } from "../toast.ts";
import { Bell } from "./Bell.tsx";
import { LangSwitch } from "./LangSwitch.tsx";

export function Login() {
  const user = useSignal("");
  const password = useSignal("");
  const busy = useSignal(false);
  const problem = useSignal<unknown>(null);

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    busy.value = true;
    problem.value = null;
    try {
      await signIn(user.value, password.value);
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  };

  return (
    <main class="login">
      <div class="login-lang">
        <LangSwitch />
      </div>
      <form class="login-card" onSubmit={(event) => void submit(event)} aria-label={t("signInTitle")}>
        <div class="login-brand">
          <Bell size={40} />
          <div>
            <h1>Tocsin</h1>
            <p>{t("product")}</p>
          </div>
        </div>
        {signedOutBecause.value === "ended" && problem.value === null && <p class="login-note">{t("sessionEnded")}</p>}
        <label>
          <span>{t("user")}</span>
          <input
            data-testid="login-user"
            name="username"
            autocomplete="username"
            required
            autofocus
            value={user}
            onInput={(event) => {
              user.value = event.currentTarget.value;
            }}
          />
        </label>
        <label>
          <span>{t("password")}</span>
          <input
            data-testid="login-password"
            name="password"
            type="password"
            autocomplete="current-password"
            required
            value={password}
            onInput={(event) => {
              password.value = event.currentTarget.value;
            }}
          />
        </label>
        <p class="login-problem" role="alert" data-testid="login-problem">
          {problem.value === null ? "" : why(problem.value)}
        </p>
        <button class="primary" type="submit" data-testid="login-submit" disabled={busy}>
          {busy.value ? t("signingIn") : t("signIn")}
        </button>
      </form>
    </main>
  );
}

function why(error: unknown): string {
  return error instanceof ApiError && error.status === 401 ? t("signInWrong") : explain(error);
}
