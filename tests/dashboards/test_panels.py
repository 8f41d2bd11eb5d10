"""Every panel's query, taken from the checked-in dashboards, asked of the real databases behind them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.dashboards.demo_plant import LEAKING, DemoPlant, demo_plant, shows
from tests.support.need import ROOT, need_program
from tests.support.postgres import Postgres

FOLDER: Final = ROOT / "dashboards"
DASHBOARDS: Final = sorted(FOLDER.glob("*/*.json"))
STEP_S: Final = 1
SPECIAL: Final = re.compile(r"[$()*+.?\[\]^{|}]")
ESCAPED: Final = r"\\\\\g<0>"
need_program("victoria-metrics")
need_program("vmalert")
# The demo plant is the first test's: on a busy machine it takes a minute and more.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres) -> Iterator[DemoPlant]:
    """The demo plant after an ammonia leak."""
    with demo_plant(tmp_path_factory.mktemp("demo"), postgres_server.with_tables()) as made:
        yield made


def ids(path: Path) -> str:
    """How a test of a dashboard is called."""
    return f"{path.parent.name}-{path.stem}"


def options(demo: DemoPlant, variable: Mapping[str, Any], chosen: Mapping[str, str]) -> list[str]:
    """The values of a dashboard's variable, as Grafana's Prometheus data source finds them."""
    query = substituted(demo, variable["query"], chosen)
    function, inner = re.fullmatch(r"(query_result|label_values)\((.*)\)", query).groups()  # type: ignore[union-attr]  # else the test has failed
    if function == "label_values":
        expression, label = inner.rsplit(", ", 1)
        return [str(row["metric"][label]) for row in instant(demo, expression)]
    pattern = re.compile(variable["regex"].strip("/").replace("(?<", "(?P<"))
    found = []
    for row in instant(demo, inner):
        labels = ",".join(f'{name}="{text}"' for name, text in sorted(row["metric"].items()) if name != "__name__")
        match = pattern.search(f"{row['metric']['__name__']}{{{labels}}} {row['value'][1]}")
        assert match is not None
        assert match["text"]
        found.append(match["value"])
    return found


def substituted(demo: DemoPlant, text: str, chosen: Mapping[str, str]) -> str:
    """Fill in the dashboard's variables and Grafana's own: interval, range, and the macros of its PostgreSQL source."""
    begin, end = round(demo.start_s * 1e9), round(demo.end_s * 1e9)
    own = {
        "$__rate_interval": "8s",
        "$__interval": "5s",
        "$__range": f"{round(demo.end_s - demo.start_s)}s",
        "$__unixEpochNanoFrom()": str(begin),
        "$__unixEpochNanoTo()": str(end),
    }
    for name, value in [*own.items(), *((f"${name}", value) for name, value in chosen.items())]:
        text = text.replace(name, value)
    assert "$" not in text, f"nobody fills this in: {text}"
    return text


def instant(demo: DemoPlant, expression: str) -> list[dict[str, Any]]:
    """The answer to an instant query at the end."""
    return demo.figures("query", query=expression, time=f"{demo.end_s:.3f}")


def answer(demo: DemoPlant, target: Mapping[str, Any], chosen: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the database behind a target answers; of lines, those with a value."""
    if "rawSql" in target:
        return demo.sql(substituted(demo, target["rawSql"], chosen))
    expression = substituted(demo, target["expr"], chosen)
    if target.get("instant"):
        return instant(demo, expression)
    begin, end = f"{demo.start_s:.3f}", f"{demo.end_s:.3f}"
    rows = demo.figures("query_range", query=expression, start=begin, end=end, step=f"{STEP_S}s")
    return [row for row in rows if any(value != "NaN" for _, value in row["values"])]


def chosen_in(demo: DemoPlant, dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Choose each variable of a dashboard in turn: the source and the point of the leak."""
    chosen: dict[str, str] = {}
    for variable in dashboard["templating"]["list"]:
        found = options(demo, variable, chosen)
        if variable["multi"]:
            # As the data source writes several values into a matcher by regular expression.
            chosen[variable["name"]] = f"({'|'.join(SPECIAL.sub(ESCAPED, value) for value in found)})"
            continue
        wanted = {"source": "tank-farm", "point": LEAKING, "unit": "ppm"}[variable["name"]]
        assert wanted in found
        chosen[variable["name"]] = wanted
    return chosen


@pytest.mark.parametrize("path", DASHBOARDS, ids=ids)
def test_every_query_returns_the_demo_plants_data(demo: DemoPlant, path: Path) -> None:
    """Each target of each panel, and each annotation, has something to show after the leak."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    chosen = chosen_in(demo, dashboard)
    empty = [
        (panel["title"], target.get("expr") or target["rawSql"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if not answer(demo, target, chosen)
    ]
    for annotation in dashboard["annotations"]["list"]:
        rows = answer(demo, annotation["target"], chosen)
        assert {"time", "timeend", "text", "tags"} == set(rows[0])
        assert demo.start_s < rows[0]["time"] / 1000 <= rows[0]["timeend"] / 1000 <= demo.end_s
    assert empty == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=ids)
def test_where_nothing_is_scraped_no_figure_is_made_up(demo: DemoPlant, path: Path) -> None:
    """A day before there was anything each number is empty: 0 gateways away would say that all of them are watched."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    chosen = chosen_in(demo, dashboard)
    before = replace(demo, start_s=demo.start_s - 86_400, end_s=demo.end_s - 86_400)
    made_up = [
        panel["title"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if "expr" in target and answer(before, target, chosen)
    ]
    assert made_up == []


def test_an_alarm_that_stands_is_on_its_trend_and_in_its_units_list(demo: DemoPlant) -> None:
    """Also when it was raised before what is shown: until the end of that, or until it returned."""
    dashboard = json.loads((FOLDER / "en" / "unit.json").read_text(encoding="utf-8"))
    chosen = chosen_in(demo, dashboard)
    later = replace(demo, start_s=demo.end_s + 3600, end_s=demo.end_s + 7200)
    stands = f"SELECT raised_ns FROM occurrence WHERE point = '{LEAKING}' AND annunciated AND returned_ns IS NULL"  # noqa: S608 -- own text
    raised_ms = sorted(row["raised_ns"] // 1_000_000 for row in demo.sql(stands))
    assert raised_ms
    (annotation,) = dashboard["annotations"]["list"]
    marked = answer(later, annotation["target"], chosen)
    assert sorted(row["time"] for row in marked) == raised_ms
    assert {row["timeend"] for row in marked} == {round(later.end_s * 1e9) // 1_000_000}
    (listed,) = [panel for panel in dashboard["panels"] if panel["title"] == "Alarms of the unit"]
    rows = answer(later, listed["targets"][0], chosen)
    assert rows
    assert {row["Returned"] for row in rows} == {None}
    assert (
        answer(replace(demo, start_s=demo.start_s - 7200, end_s=demo.start_s - 3600), annotation["target"], chosen)
        == []
    )


def value(demo: DemoPlant, dashboard: str, title: str) -> float:
    """What a figure of a dashboard shows at the end."""
    panels = json.loads((FOLDER / "en" / f"{dashboard}.json").read_text(encoding="utf-8"))["panels"]
    (panel,) = [panel for panel in panels if (panel["type"], panel["title"]) == ("stat", title)]
    (row,) = instant(demo, substituted(demo, panel["targets"][0]["expr"], {}))
    return float(row["value"][1])


def test_what_the_panels_show_is_what_happened(demo: DemoPlant) -> None:
    """The leak is critical, its alarms and its ticket are counted, one gateway is away, and all is watched."""
    assert value(demo, "plant", "Highest state") == 4
    assert value(demo, "plant", "Active alarms") >= 2
    assert value(demo, "plant", "Open tickets") == 1
    assert value(demo, "plant", "Gateways away") == value(demo, "gateways", "Away") == 1
    assert value(demo, "gateways", "There") == 1
    assert value(demo, "gateways", "Readings a second") > 10
    assert value(demo, "health", "Alarms behind") < 15
    assert value(demo, "health", "Broker") == 1
    (leak,) = demo.sql(f"SELECT priority, setpoint FROM occurrence WHERE alarm = '{LEAKING}/HH'")  # noqa: S608 -- own text
    assert leak == {"priority": "critical", "setpoint": 56.0}
    (reading,) = shows(demo.victoria, f'max_over_time(tocsin_value{{point="{LEAKING}"}}[10m])')
    assert float(reading["value"][1]) == pytest.approx(80.0)
