/** Owns where the bars of the alarm rates and the bands behind them lie, in shares of the picture's height. */
import type { AlarmSystem, Load } from "./types.ts";

export interface HourBar {
  /** start of the hour, ms since the epoch */
  readonly at: number;
  readonly count: number;
  readonly height: number;
  readonly load: Load;
  /** the hour has only begun */
  readonly begun: boolean;
}

export interface BandStripe {
  readonly load: Load;
  readonly from: number;
  readonly to: number;
  /** alarms an hour at its upper edge; null: there is none */
  readonly limit: number | null;
}

const HOUR_MS = 3_600_000;

/** The picture shows at least the manageable load, and room above the highest bar. */
export function topOf(figures: AlarmSystem): number {
  const highest = figures.by_hour.reduce((most, count) => Math.max(most, count), 0);
  return Math.max(highest * 1.1, 1.5 * (figures.bands[1]?.per_hour ?? 0), 1);
}

/** Loads as the server bounds them: the first band ends below its bound, the others at theirs. */
export function loadOf(count: number, bands: AlarmSystem["bands"]): Load {
  const found = bands.find((band, i) => (i === 0 ? count < band.per_hour : count <= band.per_hour));
  return found?.load ?? "unacceptable";
}

export function hourBars(figures: AlarmSystem): HourBar[] {
  const top = topOf(figures);
  const from = Date.parse(figures.from);
  const to = Date.parse(figures.to);
  return figures.by_hour.map((count, i) => {
    const at = from + i * HOUR_MS;
    return { at, count, height: count / top, load: loadOf(count, figures.bands), begun: at + HOUR_MS > to };
  });
}

export function stripes(figures: AlarmSystem): BandStripe[] {
  const top = topOf(figures);
  const found: BandStripe[] = [];
  let from = 0;
  for (const band of [...figures.bands, { load: "unacceptable" as const, per_hour: Number.POSITIVE_INFINITY }]) {
    if (from >= 1) break;
    const to = Math.min(1, band.per_hour / top);
    found.push({ load: band.load, from, to, limit: band.per_hour <= top ? band.per_hour : null });
    from = to;
  }
  return found;
}
