"""The texts that people read, in both languages, word for word."""

from dataclasses import replace
from typing import Final

import pytest

from tests.core.plants import definition, plant_of
from tocsin_core.plant import AlarmDefinition, AlarmKind
from tocsin_core.plant.fields import name_of
from tocsin_core.wording import KIND, alarm_message, message_body, message_subject, number, ticket_title

EARLY: Final = replace(definition("P0", AlarmKind.TIME_TO_LIMIT, 28.0), limit=AlarmKind.H, horizon_s=300.0)


@pytest.mark.parametrize(
    ("alarm", "zh", "en"),
    [
        (
            definition("P0", AlarmKind.HH, 56.0),
            "测点0 高高报：57.1 ppm ≥ 56 ppm",
            "point 0: high-high, 57.1 ppm ≥ 56 ppm",
        ),
        (definition("P0", AlarmKind.H, 28.0), "测点0 高报：57.1 ppm ≥ 28 ppm", "point 0: high, 57.1 ppm ≥ 28 ppm"),
        (definition("P0", AlarmKind.L, 60.5), "测点0 低报：57.1 ppm ≤ 60.5 ppm", "point 0: low, 57.1 ppm ≤ 60.5 ppm"),
        (
            definition("P0", AlarmKind.LL, 58.0),
            "测点0 低低报：57.1 ppm ≤ 58 ppm",
            "point 0: low-low, 57.1 ppm ≤ 58 ppm",
        ),
        (
            definition("P0", AlarmKind.RATE, 5.0),
            "测点0 变化过快：每分钟超过 5 ppm，当前 57.1 ppm",
            "point 0: changes too fast, more than 5 ppm a minute, now 57.1 ppm",
        ),
        (
            EARLY,
            "测点0 早期预警：当前 57.1 ppm，预计 5 分钟内达到 H 28 ppm",
            "point 0: early warning, now 57.1 ppm, will reach H 28 ppm within 5 min",
        ),
        (
            definition("P0", AlarmKind.RED, 50.0),
            "测点0 红色预警：57.1 ppm ≥ 50 ppm",
            "point 0: red, 57.1 ppm ≥ 50 ppm",
        ),
        (
            replace(definition("P0", AlarmKind.ORANGE, 60.0), side=-1),
            "测点0 橙色预警：57.1 ppm ≤ 60 ppm",
            "point 0: orange, 57.1 ppm ≤ 60 ppm",
        ),
        (
            definition("P0", AlarmKind.YELLOW, 50.0),
            "测点0 黄色预警：57.1 ppm ≥ 50 ppm",
            "point 0: yellow, 57.1 ppm ≥ 50 ppm",
        ),
        (
            definition("P0", AlarmKind.BLUE, 50.0),
            "测点0 蓝色预警：57.1 ppm ≥ 50 ppm",
            "point 0: blue, 57.1 ppm ≥ 50 ppm",
        ),
        (
            replace(EARLY, limit=AlarmKind.BLUE),
            "测点0 早期预警：当前 57.1 ppm，预计 5 分钟内达到 蓝色预警 28 ppm",
            "point 0: early warning, now 57.1 ppm, will reach blue 28 ppm within 5 min",
        ),
        (
            definition("P0", AlarmKind.STEL, 42.0),
            "测点0 短时间接触超限：15 分钟平均浓度已达 42 ppm，当前读数 57.1 ppm",
            "point 0: short-term exposure, the mean of 15 min has reached 42 ppm, reading now 57.1 ppm",
        ),
        (
            definition("P0", AlarmKind.TWA, 28.0),
            "测点0 工作日接触超限：8 小时平均浓度已达 28 ppm，当前读数 57.1 ppm",
            "point 0: exposure over the day, the mean of 8 h has reached 28 ppm, reading now 57.1 ppm",
        ),
        (
            definition("P0", AlarmKind.PEAKS, 10.0),
            "测点0 峰接触超限：峰值超出 PC-TWA 10 ppm 的峰接触要求，当前读数 57.1 ppm",
            "point 0: peak exposure, more than the peaks that a PC-TWA of 10 ppm allows, reading now 57.1 ppm",
        ),
        (
            definition("P0", AlarmKind.CUSUM),
            "测点0 运行水平改变（CUSUM）：当前 57.1 ppm",
            "point 0: has shifted (CUSUM), now 57.1 ppm",
        ),
        (
            definition("P0", AlarmKind.EWMA),
            "测点0 运行水平改变（EWMA）：当前 57.1 ppm",
            "point 0: has shifted (EWMA), now 57.1 ppm",
        ),
        (
            definition("P0", AlarmKind.ABNORMAL),
            "测点0 偏离正常运行：指数 57.1 ppm（1 为报警线）",
            "point 0: departs from normal running, score 57.1 ppm (1 is the limit)",
        ),
        (definition("P0", AlarmKind.LOOP), "测点0 回路电流故障", "point 0: loop current fault"),
        (
            definition("P0", AlarmKind.STUCK),
            "测点0 读数停滞：停在 57.1 ppm 附近",
            "point 0: reading is stuck, stays about 57.1 ppm",
        ),
        (definition("P0", AlarmKind.SPIKE), "测点0 读数跳变", "point 0: spike in the readings"),
        (definition("P0", AlarmKind.BAD), "测点0 仪表故障", "point 0: instrument fault"),
        (definition("P0", AlarmKind.STALE), "测点0 数据中断", "point 0: no data"),
    ],
    ids=lambda part: part.kind.value if isinstance(part, AlarmDefinition) else "",
)
def test_an_alarm_says_what_and_at_which_value(alarm: AlarmDefinition, zh: str, en: str) -> None:
    """One line with the point's name, the kind, the value in its digits and the limit."""
    assert alarm_message(plant_of([[alarm]]).points[0], alarm, 57.13) == name_of(zh, en)


def test_every_kind_has_its_words() -> None:
    """A new kind cannot be forgotten here."""
    assert set(KIND) == set(AlarmKind)


@pytest.mark.parametrize(("value", "text"), [(1.25, "1.2"), (-0.04, "0.0"), (float("nan"), "—"), (float("inf"), "—")])
def test_a_value_has_its_points_digits(value: float, text: str) -> None:
    """And a dash where there is none."""
    assert number(value, 1) == text


def test_a_title_says_where() -> None:
    """A point that belongs to no hazard source says it itself."""
    message = name_of("氨 高报", "Ammonia: high")
    assert ticket_title(name_of("罐区", "Tank farm"), message) == name_of("罐区：氨 高报", "Tank farm: Ammonia: high")
    assert ticket_title(None, message) is message


def test_a_message_asks_for_an_acknowledgement() -> None:
    """Subject with the site first; body with every alarm in both languages, the site-local time and the request."""
    site, message = name_of("厂", "Works"), name_of("氨 高报", "Ammonia: high")
    assert message_subject(site, message, 0) == "【厂】氨 高报"
    assert message_subject(site, message, 3) == "【厂】氨 高报（另有 3 条 / and 3 more）"
    assert message_body(site, [message], "2027-01-15 16:00:00") == (
        "氨 高报 / Ammonia: high\n厂 / Works，2027-01-15 16:00:00\n请立即确认。 / Please acknowledge."
    )
