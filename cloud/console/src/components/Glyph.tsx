/** Owns the marks of the four priorities: each has its own shape, number and colour, so that none rests on colour alone. */
import { t } from "../i18n.ts";
import type { Priority } from "../types.ts";

const SHAPE: Readonly<Record<Priority, { readonly path: string; readonly digit: string; readonly y: number }>> = {
  critical: { path: "M7 1h10l6 6v10l-6 6H7l-6-6V7z", digit: "1", y: 17 },
  high: { path: "M12 1 23.500 22.500H.5z", digit: "2", y: 20.5 },
  medium: { path: "M12 .5 23.500 12 12 23.500.5 12z", digit: "3", y: 17 },
  low: { path: "M12 1a11 11 0 1 0 0 22 11 11 0 0 0 0-22z", digit: "4", y: 17 },
};

interface Props {
  readonly priority: Priority;
  readonly blink?: boolean;
  readonly hollow?: boolean;
  readonly size?: number;
}

/** `hollow`: the process has returned to normal; `blink`: nobody has acknowledged yet. */
export function Glyph({ priority, blink = false, hollow = false, size = 20 }: Props) {
  const { path, digit, y } = SHAPE[priority];
  const label = `${t("priority")} ${digit} ${t(`priority_${priority}`)}`;
  const classes = `glyph p-${priority}${blink ? " blink" : ""}${hollow ? " hollow" : ""}`;
  return (
    <svg class={classes} width={size} height={size} viewBox="0 0 24 24" role="img" aria-label={label}>
      <title>{label}</title>
      <path d={path} />
      <text x="12" y={y} text-anchor="middle">
        {digit}
      </text>
    </svg>
  );
}
