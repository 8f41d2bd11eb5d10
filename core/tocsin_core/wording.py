"""What people read: alarm, ticket and message texts in Chinese and English."""

from math import isfinite
from typing import Final

from tocsin_core.plant import AlarmDefinition, AlarmKind, PlantPoint, Text
from tocsin_core.plant.fields import name_of

KIND: Final[dict[AlarmKind, Text]] = {
    AlarmKind.HH: name_of("高高报", "high-high"),
    AlarmKind.H: name_of("高报", "high"),
    AlarmKind.L: name_of("低报", "low"),
    AlarmKind.LL: name_of("低低报", "low-low"),
    AlarmKind.RATE: name_of("变化过快", "changes too fast"),
    AlarmKind.TIME_TO_LIMIT: name_of("早期预警", "early warning"),
    AlarmKind.BAD: name_of("仪表故障", "instrument fault"),
    AlarmKind.STALE: name_of("数据中断", "no data"),
}


def number(value: float, decimals: int) -> str:
    """`value` with a point's digits; a dash where there is none."""
    # Adding 0 turns the minus zero of a rounded small negative into a zero.
    return f"{round(value, decimals) + 0.0:.{decimals}f}" if isfinite(value) else "—"


def alarm_message(point: PlantPoint, definition: AlarmDefinition, value: float) -> Text:
    """One line that says which alarm this is and at what value it was raised."""
    kind = KIND[definition.kind]
    zh, en = f"{point.config.name.zh} {kind.zh}", f"{point.config.name.en}: {kind.en}"
    here = f"{number(value, point.decimals)} {point.unit}".strip()
    limit = f"{definition.setpoint:g} {point.unit}".strip()
    if definition.kind in (AlarmKind.HH, AlarmKind.H):
        return name_of(f"{zh}：{here} ≥ {limit}", f"{en}, {here} ≥ {limit}")
    if definition.kind in (AlarmKind.L, AlarmKind.LL):
        return name_of(f"{zh}：{here} ≤ {limit}", f"{en}, {here} ≤ {limit}")
    if definition.kind is AlarmKind.RATE:
        return name_of(f"{zh}：每分钟超过 {limit}，当前 {here}", f"{en}, more than {limit} a minute, now {here}")
    if definition.kind is AlarmKind.TIME_TO_LIMIT:
        minutes = f"{definition.horizon_s / 60:g}"
        return name_of(
            f"{zh}：当前 {here}，预计 {minutes} 分钟内达到 {definition.limit} {limit}",
            f"{en}, now {here}, will reach {definition.limit} {limit} within {minutes} min",
        )
    return name_of(zh, en)


def ticket_title(source: Text | None, message: Text) -> Text:
    """A hazard ticket's title: where, and the alarm that opened it."""
    if source is None:
        return message
    return name_of(f"{source.zh}：{message.zh}", f"{source.en}: {message.en}")


def message_subject(site: Text, message: Text, more: int) -> str:
    """Subject of a message to the duty staff, Chinese first; `more` other alarms came at the same moment."""
    others = f"（另有 {more} 条 / and {more} more）" if more else ""
    return f"【{site.zh}】{message.zh}{others}"


def message_body(site: Text, lines: list[Text], when: str, more: int = 0) -> str:
    """Body of a message: alarms in both languages, first-out on top, the site-local time, and what is asked.

    `more` alarms of the same moment are not among `lines`; their number is said.
    """
    texts = "\n".join(f"{line.zh} / {line.en}" for line in lines)
    others = f"\n另有 {more} 条 / and {more} more" if more else ""
    return f"{texts}{others}\n{site.zh} / {site.en}，{when}\n请立即确认。 / Please acknowledge."
