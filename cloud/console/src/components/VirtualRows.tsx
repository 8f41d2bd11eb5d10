/** Owns the drawing of long tables: past a bound only the rows in sight are in the document. */
import { useSignal } from "@preact/signals";
import type { ComponentChild } from "preact";
import { useEffect, useRef } from "preact/hooks";

const ALL_BELOW = 300;
const AROUND = 12;

interface Props<T> {
  readonly rows: readonly T[];
  readonly height: number;
  readonly render: (row: T) => ComponentChild;
}

export function VirtualRows<T>({ rows, height, render }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const shown = useSignal(40);

  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => {
      shown.value = Math.ceil(element.clientHeight / height);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [height, shown]);

  const virtual = rows.length > ALL_BELOW;
  const first = virtual ? Math.max(0, Math.min(top.value, rows.length - shown.value) - AROUND) : 0;
  const last = virtual ? Math.min(rows.length, first + shown.value + 2 * AROUND) : rows.length;
  return (
    <div
      class="body"
      role="rowgroup"
      ref={box}
      onScroll={(event) => {
        if (virtual) top.value = Math.floor(event.currentTarget.scrollTop / height);
      }}
    >
      {first > 0 && <div style={{ height: `${first * height}px` }} />}
      {rows.slice(first, last).map(render)}
      {last < rows.length && <div style={{ height: `${(rows.length - last) * height}px` }} />}
    </div>
  );
}
