"""One unit: the trends of a hazard source's points with their limits, and its alarms as annotations."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

from scripts.dashboards.plant import phases
from scripts.dashboards.style import (
    GREEN,
    ORANGE,
    POSTGRES,
    PRIORITIES,
    PROMETHEUS,
    RED,
    TIME,
    YELLOW,
    Panel,
    Say,
    Sql,
    SqlAnnotation,
    bars,
    coloured,
    column,
    dashboard,
    joined,
    lines,
    listing,
    now,
    rows,
    series,
    table_of,
    timeline,
)

OF_POINT = '{point="$point"}'
# What stands has not returned: it is shown however long ago it was raised.
IN_VIEW = """raised_ns <= $__unixEpochNanoTo()
    AND coalesce(returned_ns, $__unixEpochNanoTo()) >= $__unixEpochNanoFrom()"""
OF_MEMBERS = '{point=~"$members"}'


def unit(say: Say) -> build.Dashboard:
    """The trends of one point at a time, and all of its unit at a glance."""
    made = dashboard(say, "unit", say("单元趋势", "Trends of a unit"), "now-1h")
    shown = say("name_zh", "name_en")
    made.with_variable(
        _variable("source", say("危险源", "Hazard source"), "query_result(tocsin_source_info)").regex(
            _named(shown, "source")
        )
    )
    of_source = 'query_result(tocsin_point_info{source="$source"})'
    made.with_variable(_variable("point", say("测点", "Point"), of_source).regex(_named(shown, "point")))
    made.with_variable(
        _variable("unit", say("单位", "Unit"), f"label_values(tocsin_point_info{OF_POINT}, unit)").hide(
            model.VariableHide.HIDE_VARIABLE
        )
    )
    made.with_variable(_members(say))
    made.annotation(_annotation(say))
    for panel in (_trend(say), _quality(say), _share(say), _points(say), _alarms(say)):
        made.with_panel(panel)
    return made


def _variable(name: str, label: str, query: str) -> build.QueryVariable:
    made = build.QueryVariable(name).label(label).query(query).datasource(PROMETHEUS)
    return made.refresh(model.VariableRefresh.ON_DASHBOARD_LOAD).sort(model.VariableSort.ALPHABETICAL_ASC)


def _members(say: Say) -> build.QueryVariable:
    """All points of the unit, so that nobody asks for the readings of the whole plant."""
    of_source = 'label_values(tocsin_point_info{source="$source"}, point)'
    made = _variable("members", say("本单元测点", "Points of the unit"), of_source).hide(
        model.VariableHide.HIDE_VARIABLE
    )
    made.multi(True).include_all(True)  # noqa: FBT003 -- the library's setters
    return made.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))


def _named(text: str, value: str) -> str:
    # Prometheus gives labels in the order of their names.
    return f'/{text}="(?<text>[^"]*)".*{value}="(?<value>[^"]*)"/'


def _annotation(say: Say) -> build.AnnotationQuery:
    columns = {
        "time": "raised_ns / 1000000",
        "timeend": "coalesce(returned_ns, $__unixEpochNanoTo()) / 1000000",
        "text": f"message->>'{say.language}'",
        "tags": "priority || ',' || kind",
    }
    rest = f"""
        FROM occurrence WHERE point = '$point' AND annunciated AND {IN_VIEW}
        ORDER BY raised_ns DESC LIMIT 500"""
    target = _Target(table_of(columns, rest))
    name = say("报警", "Alarms")
    made = build.AnnotationQuery().name(name).datasource(POSTGRES).icon_color(RED).target(target)
    return made.enable(True)  # noqa: FBT003 -- the library's setter


class _Target(build.AnnotationTarget):
    def __init__(self, query: Sql) -> None:
        super().__init__()
        self._internal = SqlAnnotation(query)


def _trend(say: Say) -> timeseries.Panel:
    value, least, most = say("平均", "mean"), say("最小", "least"), say("最大", "greatest")
    panel = (
        lines(
            "$point ($unit)",
            f"{say.needs_readings}; {say.needs_limits}",
            series(f"avg_over_time(tocsin_value{OF_POINT}[$__interval])", value),
            series(f"min_over_time(tocsin_value{OF_POINT}[$__interval])", least),
            series(f"max_over_time(tocsin_value{OF_POINT}[$__interval])", most),
            series(f"max by (kind, priority) (tocsin_point_limit{OF_POINT})", "{{kind}} · {{priority}}"),
        )
        .span(24)
        .height(12)
        # A reading that comes more rarely than the panel has steps stands alone: no line would show it.
        .show_points(options.VisibilityMode.AUTO)
    )
    coloured(panel, f"^{value}$", "#00ACC1", lineWidth=2)
    for name in (least, most):
        coloured(panel, f"^{name}$", "#00ACC1", lineWidth=0, fillBelowTo=least if name == most else "", fillOpacity=18)
    for name, _, _, colour in PRIORITIES:
        dashes = {"fill": "dash", "dash": [10, 6]}
        coloured(panel, f" · {name}$", colour, lineStyle=dashes, lineWidth=2, fillOpacity=0)
    return panel


def _quality(say: Say) -> Panel:
    words = {"2": (say("好", "good"), GREEN), "1": (say("可疑", "uncertain"), YELLOW), "0": (say("坏", "bad"), RED)}
    # The top two bits of the OPC DA byte: 11 good, 01 uncertain, else bad.
    byte = f"last_over_time(tocsin_quality{OF_POINT}[$__interval])"
    query = series(f"({byte} >= bool 192) * 2 + ({byte} >= bool 64) * ({byte} < bool 128)", "$point")
    return timeline(say("质量", "Quality"), say.needs_readings, query, words).height(6).span(12)


def _share(say: Say) -> Panel:
    limit = 'min by (point) (tocsin_point_limit{source="$source", kind="H"})'
    query = now(f"100 * last_over_time(tocsin_value{OF_MEMBERS}[10m]) / on (point) {limit}", "{{point}}")
    steps = ((None, GREEN), (80, YELLOW), (100, ORANGE), (200, RED))
    return bars(
        say("达到高限的百分比", "Share of the high limit"),
        f"{say.needs_readings}; {say.needs_limits}",
        query,
        steps=steps,
        unit="percent",
    ).height(6)


def _points(say: Say) -> table.Panel:
    shown = say("name_zh", "name_en")
    info = f'max by (point, unit, {shown}) (tocsin_point_info{{source="$source"}})'
    value = f"max by (point) (last_over_time(tocsin_value{OF_MEMBERS}[10m]))"
    panel = listing(
        say("本单元测点", "Points of the unit"),
        f"{say.needs_readings}; {say.needs_limits}",
        rows(f"{value} * on (point) group_left (unit, {shown}) {info}"),
        rows('max by (point) (tocsin_point_limit{source="$source", kind="H"})'),
        rows('max by (point) (tocsin_point_limit{source="$source", kind="HH"})'),
    )
    return joined(
        panel,
        "point",
        {
            "point": say("测点", "Point"),
            shown: say("名称", "Name"),
            "Value #A": say("值", "Value"),
            "unit": say("单位", "Unit"),
            "Value #B": "H",
            "Value #C": "HH",
        },
    )


def _alarms(say: Say) -> table.Panel:
    priority, raised, returned = say("优先级", "Priority"), say("发生时间", "Raised"), say("恢复时间", "Returned")
    phase = say("状态", "State")
    columns = {
        raised: "raised_ns / 1000000",
        returned: "returned_ns / 1000000",
        priority: "priority",
        say("报警", "Alarm"): f"message->>'{say.language}'",
        phase: "phase",
        say("确认人", "Acknowledged by"): "coalesce(acknowledged_by, '')",
    }
    rest = f"""
        FROM occurrence WHERE source = '$source' AND {IN_VIEW}
        ORDER BY returned_ns IS NOT NULL, raised_ns DESC LIMIT 200"""
    panel = listing(say("本单元报警", "Alarms of the unit"), say.needs_tables, table_of(columns, rest))
    column(panel, raised, unit=TIME, width=170)
    column(panel, returned, unit=TIME, width=170)
    column(panel, phase, mapped=dict(phases(say)))
    return column(panel, priority, mapped=dict(say.priorities()), width=90)
