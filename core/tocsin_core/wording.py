"""What people read: alarm, ticket and message texts in Chinese and English."""

from math import isfinite
from typing import Final

from tocsin_core.plant import AlarmDefinition, AlarmKind, PlantPoint, Text
from tocsin_core.plant.brought import GRADES, LIMITS
from tocsin_core.plant.fields import name_of

KIND: Final[dict[AlarmKind, Text]] = {
    AlarmKind.HH: name_of("高高报", "high-high"),
    AlarmKind.H: name_of("高报", "high"),
    AlarmKind.L: name_of("低报", "low"),
    AlarmKind.LL: name_of("低低报", "low-low"),
    AlarmKind.RED: name_of("红色预警", "red"),
    AlarmKind.ORANGE: name_of("橙色预警", "orange"),
    AlarmKind.YELLOW: name_of("黄色预警", "yellow"),
    AlarmKind.BLUE: name_of("蓝色预警", "blue"),
    AlarmKind.RATE: name_of("变化过快", "changes too fast"),
    AlarmKind.TIME_TO_LIMIT: name_of("早期预警", "early warning"),
    AlarmKind.STEL: name_of("短时间接触超限", "short-term exposure"),
    AlarmKind.TWA: name_of("工作日接触超限", "exposure over the day"),
    AlarmKind.PEAKS: name_of("峰接触超限", "peak exposure"),
    AlarmKind.CUSUM: name_of("运行水平改变（CUSUM）", "has shifted (CUSUM)"),
    AlarmKind.EWMA: name_of("运行水平改变（EWMA）", "has shifted (EWMA)"),
    AlarmKind.ABNORMAL: name_of("偏离正常运行", "departs from normal running"),
    AlarmKind.LOOP: name_of("回路电流故障", "loop current fault"),
    AlarmKind.STUCK: name_of("读数停滞", "reading is stuck"),
    AlarmKind.SPIKE: name_of("读数跳变", "spike in the readings"),
    AlarmKind.BAD: name_of("仪表故障", "instrument fault"),
    AlarmKind.STALE: name_of("数据中断", "no data"),
}


_LIMIT: Final = name_of("{here} {sign} {limit}", "{here} {sign} {limit}")
_NOW: Final = name_of("当前 {here}", "now {here}")
_LIMITED: Final[dict[AlarmKind, Text]] = {
    **dict.fromkeys((*LIMITS, *GRADES), _LIMIT),
    AlarmKind.RATE: name_of("每分钟超过 {limit}，当前 {here}", "more than {limit} a minute, now {here}"),
    # What is known here is the reading that raised it: the mean is another number.
    AlarmKind.STEL: name_of(
        "15 分钟平均浓度已达 {limit}，当前读数 {here}", "the mean of 15 min has reached {limit}, reading now {here}"
    ),
    AlarmKind.TWA: name_of(
        "8 小时平均浓度已达 {limit}，当前读数 {here}", "the mean of 8 h has reached {limit}, reading now {here}"
    ),
    AlarmKind.PEAKS: name_of(
        "峰值超出 PC-TWA {limit} 的峰接触要求，当前读数 {here}",
        "more than the peaks that a PC-TWA of {limit} allows, reading now {here}",
    ),
    AlarmKind.CUSUM: _NOW,
    AlarmKind.EWMA: _NOW,
    AlarmKind.ABNORMAL: name_of("指数 {here}（1 为报警线）", "score {here} (1 is the limit)"),
    AlarmKind.STUCK: name_of("停在 {here} 附近", "stays about {here}"),
}
"""What is said of the value and the limit, by kind."""


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
    said = _LIMITED.get(definition.kind)
    if said is not None:
        sign = "≥" if definition.side > 0 else "≤"
        more = {"here": here, "limit": limit, "sign": sign}
        return name_of(f"{zh}：{said.zh.format(**more)}", f"{en}, {said.en.format(**more)}")
    if definition.kind is AlarmKind.TIME_TO_LIMIT:
        minutes, foreseen = f"{definition.horizon_s / 60:g}", _foreseen(definition.limit)
        return name_of(
            f"{zh}：当前 {here}，预计 {minutes} 分钟内达到 {foreseen.zh} {limit}",
            f"{en}, now {here}, will reach {foreseen.en} {limit} within {minutes} min",
        )
    return name_of(zh, en)


def _foreseen(limit: AlarmKind | None) -> Text:
    return KIND[limit] if limit in GRADES else name_of(f"{limit}", f"{limit}")


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
