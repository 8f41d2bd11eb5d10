"""The gateways: who is there, what waits, whose clock nobody sets, and which points are dark."""

from grafana_foundation_sdk.builders import dashboard as build

from scripts.dashboards.style import (
    GREEN,
    GREY,
    ORANGE,
    RED,
    TIME,
    YELLOW,
    Panel,
    Say,
    column,
    dashboard,
    figure,
    joined,
    lines,
    listing,
    rows,
    series,
    timeline,
)

ONLINE = "max by (gateway) (tocsin_gateway_online)"


def gateways(say: Say) -> build.Dashboard:
    """Every gateway on one screen."""
    made = dashboard(say, "gateways", say("网关", "Gateways"), "now-6h")
    none_good = ((None, GREEN), (1, RED))
    for title, query, steps in (
        (say("在线", "There"), f"sum({ONLINE})", ((None, RED), (1, GREEN))),
        (say("不在线", "Away"), f"sum(1 - {ONLINE})", none_good),
        (say("离线设备", "Devices away"), 'sum(max by (gateway) (tocsin_gateway_devices{state="offline"}))', none_good),
        (
            say("待确认批次", "Batches waiting"),
            "sum(max by (gateway) (tocsin_gateway_batches_waiting))",
            ((None, GREEN), (1000, YELLOW), (100_000, RED)),
        ),
        (say("每秒读数", "Readings a second"), "max(tocsin_readings_per_second)", ((None, GREEN),)),
        (say("坏值测点", "Bad points"), 'max(tocsin_points{quality="bad"})', ((None, GREEN), (1, YELLOW), (10, RED))),
        (say("从未读到", "Never read"), 'max(tocsin_points{quality="none"})', ((None, GREEN), (1, YELLOW))),
        (say("静默测点", "Silent points"), "max(tocsin_points_silent)", none_good),
    ):
        made.with_panel(figure(title, say.needs_metrics, series(query), steps=steps))
    made.with_panel(_table(say))
    states = {"1": (say("在线", "there"), GREEN), "0": (say("不在线", "away"), RED)}
    made.with_panel(timeline(say("在线情况", "Who is there"), say.needs_metrics, series(ONLINE, "{{gateway}}"), states))
    made.with_panel(
        lines(
            say("各网关待确认批次", "Batches waiting, by gateway"),
            say.needs_metrics,
            series("max by (gateway) (tocsin_gateway_batches_waiting)", "{{gateway}}"),
        )
    )
    made.with_panel(
        lines(
            say("测点质量", "Points by quality"),
            say.needs_metrics,
            series("max by (quality) (tocsin_points)", "{{quality}}"),
            series("max(tocsin_points_silent)", say("静默", "silent")),
        )
    )
    made.with_panel(
        lines(
            say("与网关判断不一致的报警", "Alarms on which readings and gateway disagree"),
            say.needs_metrics,
            series("max by (gateway) (tocsin_disagreements)", "{{gateway}}"),
            steps=((None, GREEN), (1, RED)),
        )
    )
    return made


def _table(say: Say) -> Panel:
    online, seen, clock = say("在线", "There"), say("最近收到", "Heard last"), say("时钟", "Clock")
    current = say("配置", "Plant file")
    panel = listing(
        say("网关", "Gateways"),
        say.needs_metrics,
        rows(ONLINE),
        rows("max by (gateway) (tocsin_gateway_last_seen_timestamp_seconds) * 1000"),
        rows('max by (gateway) (tocsin_gateway_devices{state="offline"})'),
        rows("max by (gateway) (tocsin_gateway_batches_waiting)"),
        rows("max by (gateway) (tocsin_gateway_clock_synchronised)"),
        rows("max by (gateway) (tocsin_gateway_slice_current)"),
        rows("max by (gateway) (tocsin_disagreements)"),
        rows("max by (gateway) (tocsin_journal_lost_total)"),
    )
    joined(
        panel,
        "gateway",
        {
            "gateway": say("网关", "Gateway"),
            "Value #A": online,
            "Value #B": seen,
            "Value #C": say("离线设备", "Devices away"),
            "Value #D": say("待确认批次", "Batches waiting"),
            "Value #E": clock,
            "Value #F": current,
            "Value #G": say("判断不一致", "Disagreements"),
            "Value #H": say("日志缺失", "Journal lost"),
        },
    )
    column(panel, online, mapped={"1": (say("是", "yes"), GREEN), "0": (say("否", "no"), RED)})
    column(panel, clock, mapped={"1": (say("已对时", "set"), GREEN), "0": (say("无人对时", "nobody sets it"), ORANGE)})
    column(panel, current, mapped={"1": (say("当前", "current"), GREEN), "0": (say("过时", "another"), GREY)})
    return column(panel, seen, unit=TIME)
