/** Owns the place of a chart in the page: its size, its redraws and the line of text under the cursor. */
import { type ReadonlySignal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";
import { type ChartModel, createChart, data, readout } from "../chart.ts";

interface Props {
  readonly model: ReadonlySignal<ChartModel>;
  readonly label: string;
  readonly testId: string;
}

export function Chart({ model, label, testId }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const under = useSignal<number | null>(null);

  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const made = createChart(element, element.clientWidth, element.clientHeight, () => model.peek(), (index) => {
      under.value = index;
    });
    chart.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [model, under]);

  useSignalEffect(() => {
    const { columns } = model.value;
    chart.current?.setData(data(columns));
  });

  const index = under.value;
  return (
    <div class="chart" data-testid={testId} role="img" aria-label={label}>
      <div class="chart-box" ref={box} />
      <output class="readout">{index === null ? "" : readout(model.value, index)}</output>
    </div>
  );
}
