/** Owns the short messages that tell an operator why something was refused. */
import { signal } from "@preact/signals";
import { ApiError } from "./api.ts";
import { t } from "./i18n.ts";
import { said } from "./sentences.ts";

export interface Toast {
  readonly id: number;
  readonly text: string;
}

export const toasts = signal<readonly Toast[]>([]);
const SHOWN_MS = 8000;
let count = 0;

export function say(text: string): void {
  if (toasts.value.some((toast) => toast.text === text)) return;
  const id = ++count;
  toasts.value = [...toasts.value.slice(-3), { id, text }];
  setTimeout(() => dismiss(id), SHOWN_MS);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

/** The text for a failed call; the server's own reason when it gave one. */
export function explain(error: unknown): string {
  if (error instanceof ApiError) {
    if (error.status === 403) return t("forbidden");
    if (error.status === 0) return t("signInUnreachable");
  }
  return t("failed", { reason: said(error instanceof Error ? error.message : String(error)) });
}
