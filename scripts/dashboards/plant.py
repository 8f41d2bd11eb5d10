"""The plant overview: what stands on each hazard source, now and over time."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import common as options

from scripts.dashboards.style import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    TIME,
    YELLOW,
    Mapped,
    Panel,
    Say,
    Sql,
    Steps,
    column,
    dashboard,
    figure,
    joined,
    lines,
    listing,
    mappings,
    now,
    rows,
    series,
    stacked,
    table_of,
    timeline,
)

# Several processes may be scraped that tell the same: none is counted twice.
BY_SOURCE = "max by (source, {label}) ({name})"
NONE_GOOD: Steps = ((None, GREEN), (1, RED))


def plant(say: Say) -> build.Dashboard:
    """The control room's first screen."""
    made = dashboard(say, "plant", say("厂区总览", "Plant overview"), "now-3h")
    for panel in (*_figures(say), _sources(say)):
        made.with_panel(panel)
    made.with_panel(_worst(say))
    active = BY_SOURCE.format(label="priority", name="tocsin_alarms_active")
    made.with_panel(
        stacked(
            lines(
                say("活动报警（按优先级）", "Active alarms by priority"),
                say.needs_plant,
                series(f"sum by (priority) ({active})", "{{priority}}"),
            ),
            say,
        )
    )
    made.with_panel(_alarms(say)).with_panel(_tickets(say))
    hours = lines(say("每小时报警数", "Alarms an hour"), say.needs_tables, Sql(_per_hour(), series=True)).span(24)
    # An hour without any has no row: a line would run on to the next one that has.
    made.with_panel(stacked(hours.draw_style(options.GraphDrawStyle.BARS), say))
    return made


def _figures(say: Say) -> list[Panel]:
    active = BY_SOURCE.format(label="priority", name="tocsin_alarms_active")
    waiting = BY_SOURCE.format(label="priority", name="tocsin_alarms_unacknowledged")
    open_ = BY_SOURCE.format(label="state", name="tocsin_tickets_open")
    worst = figure(
        say("最高状态", "Highest state"),
        say.needs_plant,
        now("max(tocsin_source_worst)"),
        steps=((None, GREEN),),
        spark=False,
    )
    worst.mappings(mappings(say.worst()))
    flood = figure(
        say("报警泛滥", "Alarm flood"), say.needs_metrics, now("max(tocsin_alarm_flood)"), steps=NONE_GOOD, spark=False
    )
    flood.mappings(mappings({"0": (say("无", "none"), GREEN), "1": (say("泛滥中", "going on"), RED)}))
    return [
        worst,
        figure(
            say("活动报警", "Active alarms"),
            say.needs_plant,
            series(f"sum({active})"),
            steps=((None, GREEN), (1, ORANGE), (10, RED)),
        ),
        figure(say("未确认", "Unacknowledged"), say.needs_plant, series(f"sum({waiting})"), steps=NONE_GOOD),
        figure(
            say("未验收隐患", "Open tickets"),
            say.needs_plant,
            series(f"sum({open_})"),
            steps=((None, GREEN), (1, YELLOW)),
        ),
        figure(
            say("超期隐患", "Tickets overdue"),
            say.needs_metrics,
            series("max(tocsin_tickets_overdue)"),
            steps=NONE_GOOD,
        ),
        figure(
            say("无法判断的测点", "Points in the dark"),
            say.needs_plant,
            series("sum(max by (source) (tocsin_source_points_dark))"),
            steps=((None, GREEN), (1, YELLOW), (10, RED)),
        ),
        figure(
            say("离线网关", "Gateways away"),
            say.needs_metrics,
            series("sum(1 - max by (gateway) (tocsin_gateway_online))"),
            steps=NONE_GOOD,
        ),
        flood,
    ]


def _sources(say: Say) -> table.Panel:
    named = f"max by (source, {say('name_zh', 'name_en')}, level) (tocsin_source_info)"
    shown = say("name_zh", "name_en")
    panel = listing(
        say("重大危险源", "Hazard sources"),
        say.needs_plant,
        rows(f"max by (source) (tocsin_source_worst) * on (source) group_left ({shown}, level) {named}"),
        rows(f"sum by (source) ({BY_SOURCE.format(label='priority', name='tocsin_alarms_active')})"),
        rows(f"sum by (source) ({BY_SOURCE.format(label='priority', name='tocsin_alarms_unacknowledged')})"),
        rows("max by (source) (tocsin_source_early_warning)"),
        rows(f"sum by (source) ({BY_SOURCE.format(label='state', name='tocsin_tickets_open')})"),
        rows("max by (source) (tocsin_source_points_dark)"),
        rows("max by (source) (tocsin_source_points)"),
    ).height(7)
    worst, early = say("最高状态", "Highest state"), say("早期预警", "Early warning")
    joined(
        panel,
        "source",
        {
            shown: say("危险源", "Hazard source"),
            "level": say("等级", "Level"),
            "Value #A": worst,
            "Value #B": say("活动报警", "Active alarms"),
            "Value #C": say("未确认", "Unacknowledged"),
            "Value #D": early,
            "Value #E": say("未验收隐患", "Open tickets"),
            "Value #F": say("无法判断的测点", "Points in the dark"),
            "Value #G": say("测点", "Points"),
        },
    )
    column(panel, worst, mapped=dict(say.worst()))
    return column(panel, early, mapped={"0": (say("无", "none"), GREEN), "1": (say("有", "stands"), BLUE)})


def _worst(say: Say) -> Panel:
    named = f"max by (source, {say('name_zh', 'name_en')}) (tocsin_source_info)"
    shown = say("name_zh", "name_en")
    query = series(
        f"max by (source) (tocsin_source_worst) * on (source) group_left ({shown}) {named}", f"{{{{{shown}}}}}"
    )
    return timeline(say("各危险源状态", "State of each hazard source"), say.needs_plant, query, say.worst())


def _alarms(say: Say) -> table.Panel:
    priority, raised, phase = say("优先级", "Priority"), say("发生时间", "Raised"), say("状态", "State")
    columns = {
        raised: "raised_ns / 1000000",
        priority: "priority",
        say("报警", "Alarm"): f"message->>'{say.language}'",
        say("危险源", "Hazard source"): "coalesce(source, '')",
        say("测点", "Point"): "point",
        phase: "phase",
        say("值", "Value"): "value",
        say("限值", "Limit"): "setpoint",
        say("单位", "Unit"): "unit",
    }
    rest = """
        FROM occurrence WHERE phase <> 'normal' AND NOT suppressed AND NOT out_of_service
        ORDER BY CASE priority WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2 ELSE 3 END, raised_ns DESC
        LIMIT 200"""
    panel = listing(say("当前报警", "Alarms now"), say.needs_tables, table_of(columns, rest))
    column(panel, raised, unit=TIME, width=170)
    column(panel, phase, mapped=dict(phases(say)))
    return column(panel, priority, mapped=dict(say.priorities()), width=90)


def phases(say: Say) -> Mapped:
    """The words and colours of an alarm's phases."""
    return {
        "unacknowledged": (say("未确认", "unacknowledged"), RED),
        "acknowledged": (say("已确认", "acknowledged"), ORANGE),
        "returned-unacknowledged": (say("已恢复未确认", "returned, unacknowledged"), YELLOW),
        "latched-unacknowledged": (say("锁存未确认", "latched, unacknowledged"), RED),
        "latched-acknowledged": (say("锁存已确认", "latched, acknowledged"), ORANGE),
        "normal": (say("正常", "normal"), GREEN),
    }


def _tickets(say: Say) -> table.Panel:
    opened, deadline, state = say("发现时间", "Opened"), say("整改期限", "Deadline"), say("状态", "State")
    columns = {
        opened: "opened_ns / 1000000",
        say("编号", "Ticket"): "id",
        say("隐患", "What"): f"title->>'{say.language}'",
        say("危险源", "Hazard source"): "coalesce(source, '')",
        say("等级", "Level"): "level",
        state: "state",
        deadline: "deadline_ns / 1000000",
        say("责任人", "Liable"): "coalesce(liable, '')",
    }
    rest = "FROM ticket WHERE state <> 'accepted' ORDER BY deadline_ns LIMIT 200"
    panel = listing(say("未验收隐患", "Open tickets"), say.needs_tables, table_of(columns, rest)).height(7)
    column(panel, opened, unit=TIME, width=170)
    column(panel, deadline, unit=TIME, width=170)
    states = {
        "rectifying": (say("整改中", "being rectified"), ORANGE),
        "awaiting-acceptance": (say("待验收", "awaiting acceptance"), YELLOW),
    }
    return column(panel, state, mapped=states, width=150)


def _per_hour() -> str:
    return """
        SELECT to_timestamp(raised_ns / 3600000000000 * 3600) AS time, priority AS metric, count(*) AS value
        FROM occurrence WHERE annunciated AND raised_ns BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo()
        GROUP BY 1, 2 ORDER BY 1"""
