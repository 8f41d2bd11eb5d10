/** Owns the page's only look at the clock: the server's time, estimated from what the stream last said. */
import { signal } from "@preact/signals";

let offsetMs = 0;

/** The server's time in ms since the epoch, so that ages are right on a workstation with a wrong clock. */
export function serverNow(): number {
  return Date.now() + offsetMs;
}

/** A monotonic clock in ms, for watchdogs. */
export function monotonic(): number {
  return performance.now();
}

export function synchronise(serverTime: string): void {
  const at = Date.parse(serverTime);
  if (Number.isFinite(at)) offsetMs = at - Date.now();
}

/** Ticks once a second; whatever shows an age or a countdown reads it. */
export const now = signal(serverNow());

export function startClock(): void {
  setInterval(() => {
    now.value = serverNow();
  }, 1000);
}
