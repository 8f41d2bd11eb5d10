"""How the dashboards look and ask: two languages, the colours of the grades, data sources, and panels set up alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

LANGUAGES: Final = ("zh", "en")
# The four colours of the risk warnings 重大 red, 较大 orange, 一般 yellow, 低 blue.
RED, ORANGE, YELLOW, BLUE, GREEN, GREY = "#D32F2F", "#F57C00", "#FBC02D", "#1E88E5", "#43A047", "#8E8E8E"
PRIORITIES: Final = (
    ("critical", "紧急", "critical", RED),
    ("high", "高", "high", ORANGE),
    ("medium", "中", "medium", YELLOW),
    ("low", "低", "low", BLUE),
)
PROMETHEUS: Final = model.DataSourceRef("prometheus", "tocsin-prometheus")
POSTGRES: Final = model.DataSourceRef("grafana-postgresql-datasource", "tocsin-postgres")
WIDTH: Final = 24
TIME: Final = "dateTimeAsSystem"
Steps = Sequence[tuple[float | None, str]]
Mapped = Mapping[str, tuple[str, str]]
"""By value: the words and the colour."""


@dataclass(frozen=True)
class Say:
    """Picks the words of one language."""

    language: str

    def __call__(self, zh: str, en: str) -> str:
        """Return the words."""
        return zh if self.language == "zh" else en

    @property
    def needs_readings(self) -> str:
        """What a panel of readings needs."""
        return self("需要：--history victoriametrics", "Needs: --history victoriametrics")

    @property
    def needs_tables(self) -> str:
        """What a panel of alarms, tickets or messages one by one needs."""
        return self("需要：--sql 为 PostgreSQL", "Needs: the tables in PostgreSQL (--sql)")

    @property
    def needs_plant(self) -> str:
        """What a panel of the plant's figures needs."""
        return self("需要：抓取 /api/v1/plant/metrics（带令牌）", "Needs: /api/v1/plant/metrics scraped, with a token")

    @property
    def needs_limits(self) -> str:
        """What a panel of limits needs."""
        return self("需要：抓取 /api/v1/plant/limits（带令牌）", "Needs: /api/v1/plant/limits scraped, with a token")

    @property
    def needs_metrics(self) -> str:
        """What a panel of the system's own figures needs."""
        return self("需要：抓取 /metrics", "Needs: /metrics scraped")

    @property
    def needs_rules(self) -> str:
        """What a panel of the rules that fire needs."""
        return self(
            "需要：vmalert 或 Prometheus 执行 dashboards/alerts", "Needs: dashboards/alerts, by vmalert or Prometheus"
        )

    def priorities(self) -> Mapped:
        """The words and colours of priorities."""
        return {name: (self(zh, en), colour) for name, zh, en, colour in PRIORITIES}

    def worst(self) -> Mapped:
        """The words and colours of `tocsin_source_worst`."""
        grades = {str(4 - n): (self(zh, en), colour) for n, (_, zh, en, colour) in enumerate(PRIORITIES)}
        return {"0": (self("正常", "normal"), GREEN), **grades}


class Sql(Dataquery):
    """A query of Grafana's PostgreSQL data source, of which the SDK has no model."""

    def __init__(self, sql: str, *, series: bool = False) -> None:
        """Ask `sql`, for a table or for time series."""
        self.ref_id = "A"
        self._sql = " ".join(sql.split())
        self._format = "time_series" if series else "table"

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana stores it."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self._format,
            "rawQuery": True,
            "rawSql": self._sql,
            "refId": self.ref_id,
        }


class SqlAnnotation(model.AnnotationTarget):
    """What an annotation asks of the PostgreSQL data source."""

    def __init__(self, query: Sql) -> None:
        """Ask for the columns time, timeend, text and tags."""
        super().__init__()
        self._query = query

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana stores it."""
        return self._query.to_json()


class _Made(Builder[Dataquery]):
    """What is made already, where the SDK wants a builder."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def table_of(columns: Mapping[str, str], rest: str) -> Sql:
    """A query for a table: `columns` is what is selected by what it is called, `rest` goes on from FROM."""
    return Sql(" ".join(("SELECT", ", ".join(f'{what} AS "{name}"' for name, what in columns.items()), rest)))


def series(expression: str, legend: str = "") -> prometheus.Dataquery:
    """A query for lines over time."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(PROMETHEUS)


def now(expression: str, legend: str = "") -> prometheus.Dataquery:
    """A query for present values."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).instant().datasource(PROMETHEUS)


def rows(expression: str) -> prometheus.Dataquery:
    """A query for present values as rows of a table."""
    return now(expression).format(PromQueryFormat.TABLE)


Query = prometheus.Dataquery | Sql
Panel = stat.Panel | timeseries.Panel | table.Panel | statetimeline.Panel | bargauge.Panel


def mappings(mapped: Mapped) -> list[model.ValueMapping]:
    """Value mappings."""
    results = {
        value: model.ValueMappingResult(text=words, color=colour, index=index)
        for index, (value, (words, colour)) in enumerate(mapped.items())
    }
    return [model.ValueMap(results)]


def thresholds(steps: Steps) -> build.ThresholdsConfig:
    """Thresholds by value; the first step begins at minus infinity (None)."""
    found = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _asked(panel: Panel, queries: Sequence[Query]) -> None:
    for letter, query in zip("ABCDEFGHIJKL", queries, strict=False):
        if isinstance(query, Sql):
            query.ref_id = letter
            panel.with_target(_Made(query))
        else:
            panel.with_target(query.ref_id(letter))
    panel.datasource(POSTGRES if isinstance(queries[0], Sql) else PROMETHEUS)


def figure(
    title: str, needs: str, query: Query, *, steps: Steps, unit: str = "short", spark: bool = True
) -> stat.Panel:
    """A number on a coloured ground."""
    panel = stat.Panel().title(title).description(needs).unit(unit).thresholds(thresholds(steps)).span(3).height(4)
    panel.color_mode(options.BigValueColorMode.BACKGROUND_SOLID if not spark else options.BigValueColorMode.VALUE)
    panel.graph_mode(options.BigValueGraphMode.AREA if spark else options.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("–")
    _asked(panel, [query])
    return panel


def lines(title: str, needs: str, *queries: Query, unit: str = "short", steps: Steps = ()) -> timeseries.Panel:
    """Lines over time; with `steps`, thresholds are drawn as lines too."""
    panel = timeseries.Panel().title(title).description(needs).unit(unit).span(12).height(8)
    panel.line_width(2).fill_opacity(8).show_points(options.VisibilityMode.NEVER)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(True)  # noqa: FBT003 -- the library's setter
    )
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    if steps:
        panel.thresholds(thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.DASHED))
    _asked(panel, queries)
    return panel


def stacked(panel: timeseries.Panel, say: Say) -> timeseries.Panel:
    """Stack the lines, coloured by the priority after which they are called."""
    panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL)).fill_opacity(60).line_width(1)
    for name, (words, colour) in say.priorities().items():
        panel.override_by_name(name, [_fixed(colour), model.DynamicConfigValue("displayName", words)])
    return panel


def timeline(title: str, needs: str, query: Query, mapped: Mapped) -> statetimeline.Panel:
    """States over time as coloured bars."""
    panel = statetimeline.Panel().title(title).description(needs).mappings(mappings(mapped)).span(12).height(8)
    panel.show_value(options.VisibilityMode.AUTO).row_height(0.85).fill_opacity(85).line_width(0).merge_values(True)  # noqa: FBT003 -- the library's setter
    _asked(panel, [query])
    return panel


def listing(title: str, needs: str, *queries: Query) -> table.Panel:
    """A table."""
    panel = table.Panel().title(title).description(needs).span(WIDTH).height(9)
    panel.cell_height(options.TableCellHeight.SM).no_value("–")
    _asked(panel, queries)
    return panel


def bars(title: str, needs: str, query: Query, *, steps: Steps, unit: str = "short") -> bargauge.Panel:
    """Horizontal bars."""
    panel = bargauge.Panel().title(title).description(needs).unit(unit).thresholds(thresholds(steps)).span(12).height(8)
    panel.orientation(options.VizOrientation.HORIZONTAL).display_mode(options.BarGaugeDisplayMode.GRADIENT)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).min(0)
    _asked(panel, [query])
    return panel


def column(panel: table.Panel, name: str, **properties: object) -> table.Panel:
    """Set properties of a table's column: unit, width, mappings, background."""
    found: list[model.DynamicConfigValue] = []
    for key, value in properties.items():
        if key == "mapped" and isinstance(value, dict):
            ground = {"type": "color-background", "mode": "basic"}
            found.append(model.DynamicConfigValue("mappings", mappings(value)))
            found.append(model.DynamicConfigValue("custom.cellOptions", ground))
        elif key == "width":
            found.append(model.DynamicConfigValue("custom.width", value))
        else:
            found.append(model.DynamicConfigValue(key, value))
    return panel.override_by_name(name, found)


def joined(panel: table.Panel, key: str, names: Mapping[str, str]) -> table.Panel:
    """Join the rows of several queries by the label `key` and call the columns by `names`, in this order."""
    panel.with_transformation(model.DataTransformerConfig("joinByField", options={"byField": key, "mode": "outer"}))
    order = {name: place for place, name in enumerate(names)}
    chosen = {"include": {"names": list(names)}}
    panel.with_transformation(model.DataTransformerConfig("filterFieldsByName", options=chosen))
    renamed = {"indexByName": order, "renameByName": dict(names)}
    panel.with_transformation(model.DataTransformerConfig("organize", options=renamed))
    return panel


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def coloured(panel: timeseries.Panel, pattern: str, colour: str, **custom: object) -> timeseries.Panel:
    """Draw the lines whose names match in one colour, with other properties of lines."""
    more = [model.DynamicConfigValue(f"custom.{name}", value) for name, value in custom.items()]
    return panel.override_by_regexp(pattern, [_fixed(colour), *more])


def dashboard(say: Say, name: str, title: str, since: str = "now-1h") -> build.Dashboard:
    """An empty dashboard, linked to the others of its language."""
    links = (
        build.DashboardLink(say("Tocsin 各屏", "Tocsin"))
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["tocsin", say.language])
        .as_dropdown(False)  # noqa: FBT003 -- the library's setter
        .keep_time(True)  # noqa: FBT003 -- the library's setter
    )
    return (
        build.Dashboard(title)
        .uid(f"tocsin-{name}-{say.language}")
        .tags(["tocsin", say.language])
        .time(since, "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .links([links])
        .variables([])
        .annotations([])
    )
