/** Owns where short messages appear. */
import { t } from "../i18n.ts";
import { dismiss, toasts } from "../toast.ts";

export function Toasts() {
  return (
    <div class="toasts" role="alert" data-testid="toasts">
      {toasts.value.map((toast) => (
        <p key={toast.id}>
          {toast.text}
          <button type="button" aria-label={t("close")} onClick={() => dismiss(toast.id)}>
            ×
          </button>
        </p>
      ))}
    </div>
  );
}
