"""The picture of a replay: one HTML file that needs nothing else, numbers first, then a drawing for each series."""

from collections.abc import Sequence
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from tocsin_cli.replay.picture import COLOUR, LEFT, PLOT, RIGHT, Axis, Series, draw, label, rect
from tocsin_cli.replay.recording import Recording
from tocsin_core.plant import AlarmDefinition, Plant, Priority
from tocsin_core.replay import EarlyReport, Occurrence, Report, RuleReport
from tocsin_core.replay.report import INSTRUMENT
from tocsin_core.rules import NS, Rules
from tocsin_core.wording import KIND

# A page with more drawings than these is slow to open; the table names every rule all the same.
MOST_SERIES: Final = 60
MOST_REASONS: Final = 100
BARS: Final = 120
BAR_HEIGHT: Final = 60

STYLE: Final = """
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, "Noto Sans CJK SC", sans-serif; color: #1f2937; background: #fff; }
body { margin: 24px auto; max-width: 1240px; padding: 0 20px; }
h1 { font-size: 21px; margin: 0 0 2px; }
h2 { font-size: 15px; margin: 26px 0 4px; }
small { font-weight: normal; color: #6b7280; }
p { margin: 4px 0; color: #4b5563; }
svg { width: 100%; height: auto; display: block; font: 11px system-ui, sans-serif; fill: #4b5563; }
table { border-collapse: collapse; width: 100%; margin: 6px 0; }
th, td { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid #e5e7eb; }
th, dt { font-weight: 600; color: #6b7280; font-size: 12px; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 14px 0; }
dt { font-weight: normal; }
dd { margin: 0; font-size: 18px; font-variant-numeric: tabular-nums; }
.key span { display: inline-block; margin-right: 16px; }
.key i { display: inline-block; width: 14px; height: 10px; margin-right: 5px; vertical-align: -1px; }
.plot { fill: #fff; stroke: #d1d5db; }
.grid { stroke: #9ca3af; stroke-width: 0.5; opacity: 0.35; }
.line { fill: none; stroke: #1d4e89; stroke-width: 1.1; stroke-linejoin: round; }
.limit { stroke-dasharray: 6 4; stroke-width: 1.1; }
.label { fill: #8b5cf6; opacity: 0.16; }
.mark { fill: #7c3aed; }
.lane { fill: #f3f4f6; }
.bad { fill: #6b7280; }
.faint { fill: #9ca3af; }
.flood { color: #b91c1c; }
"""


def page(
    plant: Plant, rules: Rules, recording: Recording, found: Sequence[Occurrence], result: Report, source: str
) -> str:
    """The whole file."""
    axis = Axis(result.start_ns, result.end_ns, ZoneInfo(plant.site.timezone))
    name = plant.site.name
    wrong = _wrong(rules, recording, found, result)
    series = _series(plant, rules, recording, found)
    more = len(series) - MOST_SERIES
    body = [
        f"<h1>{escape(name.zh)} <small>{escape(name.en)}</small></h1>",
        f"<p>报警规则回放 / Replay of the alarm rules over {escape(source)}: {_when(axis)}</p>",
        _figures(result, axis),
        _overview(rules, found, axis),
        _key(recording),
        *(f"{_heading(each)}{draw(each, axis, recording.labels, wrong)}" for each in series[:MOST_SERIES]),
        f"<p>{more} more series had alarms; the table below has them.</p>" if more > 0 else "",
        _reasons(rules, found, axis),
        _rules(result.rules, rules),
        _earlies(result.early),
        *(f"<p>{escape(remark)}</p>" for remark in recording.remarks),
    ]
    title = escape(f"{name.zh} / {name.en}: {source}")
    return (
        f'<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style></head>\n'
        f"<body>{chr(10).join(part for part in body if part)}</body></html>\n"
    )


def _when(axis: Axis) -> str:
    return f"{axis.text(axis.start_ns)} – {axis.text(axis.end_ns)} ({escape(axis.zone.key)})"


def _wrong(rules: Rules, recording: Recording, found: Sequence[Occurrence], result: Report) -> set[Occurrence]:
    if recording.labels is None or result.labels is None:
        return set()
    process = [each for each in found if rules.definitions[each.definition].kind not in INSTRUMENT]
    raised = np.asarray([each.raised_ns for each in process], dtype=np.int64)
    near = recording.labels.near(raised, round(result.labels.tolerance_s * NS))
    return {each for each, is_near in zip(process, near.tolist(), strict=True) if not is_near}


def _series(plant: Plant, rules: Rules, recording: Recording, found: Sequence[Occurrence]) -> list[Series]:
    """A series for each point of which a rule spoke, those first whose gravest rule is the gravest."""
    spoke: dict[str, dict[int, list[Occurrence]]] = {}
    for each in found:
        definition = rules.definitions[each.definition]
        if definition.point in plant.point_index:
            spoke.setdefault(definition.point, {}).setdefault(each.definition, []).append(each)
    series = []
    for point_id, mine in spoke.items():
        index = plant.point_index[point_id]
        rows = tuple((rules.definitions[number], mine[number]) for number in sorted(mine))
        frame = recording.frame
        series.append(Series(plant.points[index], frame.take(frame.point == index), rows))
    return sorted(series, key=lambda each: -max(definition.priority.rank for definition, _ in each.spoke))


def _heading(series: Series) -> str:
    name = series.point.config.name
    return f"<h2>{escape(series.point.id)} {escape(name.zh)} <small>{escape(name.en)}</small></h2>"


def _figures(result: Report, axis: Axis) -> str:
    hours = (result.end_ns - result.start_ns) / NS / 3600
    flood = ' class="flood"' if result.flood else ""
    rows = [
        ("时长 / span", f"{hours:,.1f} h"),
        ("读数 / readings", f"{result.readings:,}"),
        ("测点 / points", f"{result.points:,}"),
        ("报警 / alarms", f"{result.occurrences:,}"),
        *((f"{priority}", f"{count:,}") for priority, count in result.by_priority.items()),
    ]
    figures = [f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in rows]
    when = f" ({axis.text(result.worst_at_ns)[11:]})" if result.worst_at_ns is not None else ""
    figures.append(f"<div><dt>最多 10 min / worst 10 min{when}</dt><dd{flood}>{result.worst_10_min}</dd></div>")
    if result.labels is not None:
        held = result.labels
        figures.append(
            f"<div><dt>标注段检出 / labelled stretches found</dt><dd>{held.detected} of {held.stretches}</dd></div>"
        )
        figures.append(f"<div><dt>误报 / false alarms</dt><dd>{held.false_alarms}</dd></div>")
    return f"<dl>{''.join(figures)}</dl>"


def _overview(rules: Rules, found: Sequence[Occurrence], axis: Axis) -> str:
    """How many alarms were raised when, by priority."""
    counts = {priority: np.zeros(BARS, np.int64) for priority in Priority}
    for each in found:
        place = (each.raised_ns - axis.start_ns) * BARS // max(axis.end_ns - axis.start_ns, 1)
        counts[rules.definitions[each.definition].priority][min(max(place, 0), BARS - 1)] += 1
    most = int(np.sum(list(counts.values()), axis=0).max())
    if not most:
        return "<p>没有报警 / No alarm was raised.</p>"
    wide = PLOT / BARS
    high = BAR_HEIGHT + 30
    parts = [f'<svg viewBox="0 0 {LEFT + PLOT + RIGHT} {high}" role="img" aria-label="alarms raised over time">']
    floor = np.full(BARS, float(BAR_HEIGHT + 6))
    for priority in reversed(Priority):
        tall = counts[priority] / most * BAR_HEIGHT
        for place in np.flatnonzero(tall).tolist():
            title = f"{counts[priority][place]} {priority}"
            top = floor[place] - tall[place]
            style = f'fill="{COLOUR[priority]}"'
            parts.append(rect(LEFT + place * wide, top, wide - 1, tall[place], style, title))
        floor -= tall
    parts.append(label(LEFT - 6, 14, f"{most}", 'text-anchor="end"'))
    parts += [label(x, high - 8, words, 'text-anchor="middle"') for x, words in axis.ticks()]
    return "".join([*parts, "</svg>"])


def _key(recording: Recording) -> str:
    rows = [(COLOUR[priority], str(priority)) for priority in reversed(Priority)]
    if recording.labels is not None:
        rows.append(("#7c3aed", "标注 / labelled"))
    items = [f'<span><i style="background:{colour}"></i>{escape(words)}</span>' for colour, words in rows]
    if recording.labels is not None:
        items.append(
            '<span><i style="border:1px solid #ea580c;width:12px;height:8px"></i>误报 / outside the labels</span>'
        )
    return f'<p class="key">{"".join(items)}</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first `words` columns are words, the others numbers."""
    heads = "".join(f"<th{'' if i < words else ' class=n'}>{escape(name)}</th>" for i, name in enumerate(head))
    lines = [
        "".join(f"<td{'' if i < words else ' class=n'}>{escape(cell)}</td>" for i, cell in enumerate(row))
        for row in rows
    ]
    return f"<table><tr>{heads}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _reasons(rules: Rules, found: Sequence[Occurrence], axis: Axis) -> str:
    """What lay behind the raisings that had something to say."""
    told = [each for each in found if each.reason]
    if not told:
        return ""
    rows = [
        (axis.text(each.raised_ns), rules.definitions[each.definition].id, each.reason) for each in told[:MOST_REASONS]
    ]
    more = len(told) - len(rows)
    head = ("时间 / time", "规则 / rule", "原因 / reason")
    rest = f"<p>{more} more had a reason; --json has them.</p>" if more > 0 else ""
    return f"<h2>原因 / Reasons</h2>{_table(head, rows, 3)}{rest}"


def _rules(reports: Sequence[RuleReport], rules: Rules) -> str:
    spoke = [each for each in reports if each.occurrences]
    rows = [
        (
            each.alarm,
            _kind(rules.definitions[rules.index[each.alarm]]),
            str(each.priority),
            f"{each.occurrences}",
            f"{each.per_day:.1f}",
            f"{each.standing_s:,.0f}",
            "—" if each.false_alarms is None else f"{each.false_alarms}",
        )
        for each in sorted(spoke, key=lambda each: -each.occurrences)
    ]
    head = (
        "规则 / rule",
        "",
        "优先级 / priority",
        "次数 / raised",
        "每天 / a day",
        "持续 s / standing",
        "误报 / false",
    )
    silent = len(reports) - len(spoke)
    return f"<h2>规则 / Rules</h2>{_table(head, rows, 3)}<p>{silent} rules were not raised.</p>"


def _kind(definition: AlarmDefinition) -> str:
    kind = KIND[definition.kind]
    return f"{kind.zh} / {kind.en}"


def _earlies(reports: Sequence[EarlyReport]) -> str:
    if not reports:
        return ""
    rows = [
        (
            each.alarm,
            each.limit,
            f"{each.warnings}",
            f"{each.foreseen} of {each.limits}",
            f"{each.unfulfilled}",
            "—" if each.lead_median_s is None else f"{each.lead_median_s:.0f}",
            "—" if each.lead_p10_s is None else f"{each.lead_p10_s:.0f}",
        )
        for each in reports
    ]
    head = ("早期预警 / early warning", "限值 / limit", "次数 / warnings", "预见 / limits foreseen",
            "未达 / limit not reached", "提前 s / lead, median", "p10")  # fmt: skip
    return f"<h2>早期预警 / Early warnings</h2>{_table(head, rows, 2)}"
