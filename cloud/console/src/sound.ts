/** Owns the audible alarm: which pattern sounds for what, and the browser's need for a gesture before the first tone. */
import { computed, effect, signal } from "@preact/signals";
import { connection, session, unacknowledgedByPriority } from "./store.ts";

export type Pattern = "critical" | "high" | "lost" | "silent";
type Tone = readonly [at_s: number, hertz: number, length_s: number];

/** Tones and their repetition: three quick high ones, two lower ones, and one long low one for a lost server. */
const PATTERNS: Readonly<Record<Exclude<Pattern, "silent">, { readonly every_ms: number; readonly tones: readonly Tone[] }>> = {
  critical: {
    every_ms: 1600,
    tones: [
      [0, 988, 0.14],
      [0.2, 988, 0.14],
      [0.4, 1319, 0.22],
    ],
  },
  high: {
    every_ms: 2600,
    tones: [
      [0, 784, 0.18],
      [0.26, 784, 0.18],
    ],
  },
  lost: { every_ms: 6000, tones: [[0, 262, 0.5]] },
};
const LOUDNESS = 0.25;

export const soundWanted = signal(true);
/** False until the browser has let the page make a sound. */
export const soundUnlocked = signal(false);
export const pattern = computed<Pattern>(() => {
  if (!session.value) return "silent";
  if (unacknowledgedByPriority.value.critical > 0) return "critical";
  if (unacknowledgedByPriority.value.high > 0) return "high";
  return connection.value === "lost" ? "lost" : "silent";
});

let context: AudioContext | null = null;

async function unlock(): Promise<void> {
  context ??= new AudioContext();
  await context.resume();
  soundUnlocked.value = context.state === "running";
}

function play(tones: readonly Tone[]): void {
  if (context === null || context.state !== "running") return;
  for (const [at, hertz, length] of tones) {
    const start = context.currentTime + at;
    const oscillator = new OscillatorNode(context, { type: "square", frequency: hertz });
    const gain = new GainNode(context, { gain: 0 });
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(LOUDNESS, start + 0.01);
    gain.gain.setValueAtTime(LOUDNESS, start + length - 0.03);
    gain.gain.linearRampToValueAtTime(0, start + length);
    oscillator.connect(gain).connect(context.destination);
    oscillator.start(start);
    oscillator.stop(start + length);
  }
}

/** Sounds the pattern of the moment from now on; the first gesture anywhere on the page unlocks it. */
export function startSound(): void {
  for (const gesture of ["pointerdown", "keydown"]) {
    window.addEventListener(gesture, () => {
      if (!soundUnlocked.value) void unlock();
    });
  }
  effect(() => {
    const current = pattern.value;
    if (current === "silent" || !soundWanted.value || !soundUnlocked.value) return undefined;
    const { every_ms, tones } = PATTERNS[current];
    play(tones);
    const timer = setInterval(() => play(tones), every_ms);
    return () => clearInterval(timer);
  });
}
