"""The checked-in dashboards are what the generator writes, whole by Grafana's schema, and alike in both languages."""

import json
import re
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from scripts.dashboards.__main__ import written
from tests.support.need import ROOT

FOLDER: Final = ROOT / "dashboards"
MADE: Final = dict(written())
CHINESE: Final = re.compile(r"[\u4e00-\u9fff]")
UIDS: Final = {"tocsin-prometheus", "tocsin-postgres"}


def loaded(place: str) -> dict[str, Any]:
    """A checked-in dashboard."""
    found: dict[str, Any] = json.loads((FOLDER / place).read_text(encoding="utf-8"))
    return found


def provisioned(place: str) -> dict[str, Any]:
    """A file for Grafana's provisioning."""
    found: dict[str, Any] = YAML(typ="safe").load((FOLDER / "provisioning" / place).read_text(encoding="utf-8"))
    return found


def test_what_is_checked_in_is_what_the_generator_writes() -> None:
    """After a change of the generator: `python -m scripts.dashboards`."""
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.json")}
    assert there == set(MADE)
    stale = [place for place, text in MADE.items() if (FOLDER / place).read_text(encoding="utf-8") != text]
    assert stale == []


@pytest.mark.parametrize("place", MADE)
def test_grafanas_own_models_take_all_of_it(place: str) -> None:
    """Read into the models made from Grafana's schema and written again, nothing is lost or another."""
    register_default_plugins()
    dashboard = loaded(place)
    again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    # The schema's model of an annotation's target knows no SQL; the data source reads what stands there.
    for each in (dashboard, again):
        for annotation in each["annotations"]["list"]:
            del annotation["target"]
    assert again == dashboard


@pytest.mark.parametrize("place", MADE)
def test_the_panels_fill_the_grid_and_name_provisioned_sources(place: str) -> None:
    """No two panels overlap, none sticks out, each has its own number, and each asks a data source that there is."""
    taken: set[tuple[int, int]] = set()
    panels = loaded(place)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} <= UIDS
        assert panel["description"].startswith(("Needs: ", "需要："))


def test_what_stands_alone_is_drawn() -> None:
    """A reading a minute has no neighbour in a panel of 15 s a step; an hour with alarms none in a quiet night."""
    for language in ("zh", "en"):
        drawn = {
            panel["title"]: panel["fieldConfig"]["defaults"]["custom"]
            for name in ("unit", "plant")
            for panel in loaded(f"{language}/{name}.json")["panels"]
            if panel["type"] == "timeseries"
        }
        assert drawn["$point ($unit)"]["showPoints"] == "auto"
        assert drawn["Alarms an hour" if language == "en" else "每小时报警数"]["drawStyle"] == "bars"


def test_grafana_knows_every_unit() -> None:
    """A unit that it does not know would stand behind the numbers as it is."""
    known = {value for value in vars(units).values() if isinstance(value, str)}
    used = set()
    for place in MADE:
        for panel in loaded(place)["panels"]:
            config = panel["fieldConfig"]
            used.add(config["defaults"].get("unit", units.Short))
            properties = [each for override in config["overrides"] for each in override["properties"]]
            used |= {each["value"] for each in properties if each["id"] == "unit"}
    assert used - known == set()


@pytest.mark.parametrize("name", sorted({place.partition("/")[2] for place in MADE}))
def test_both_languages_show_the_same(name: str) -> None:
    """The same panels in the same places ask the same of Prometheus; each is in its language alone."""
    chinese, english = loaded(f"zh/{name}"), loaded(f"en/{name}")
    assert not CHINESE.search(json.dumps(english, ensure_ascii=False))
    assert CHINESE.search(chinese["title"])
    for zh, en in zip(chinese["panels"], english["panels"], strict=True):
        assert (zh["type"], zh["gridPos"]) == (en["type"], en["gridPos"])
        assert CHINESE.search(zh["title"]) or "$" in zh["title"]
        asked = [[target.get("expr") for target in panel["targets"]] for panel in (zh, en)]
        assert [str(each).replace("name_zh", "name_en") for each in asked[0]] == [str(each) for each in asked[1]]


def test_the_provisioning_has_what_the_dashboards_ask_and_no_address() -> None:
    """Uids are those of the dashboards; addresses, users and passwords come from the environment."""
    sources = provisioned("datasources/tocsin.yaml")["datasources"]
    assert {source["uid"] for source in sources} == UIDS
    assert all(source["url"].startswith("${") for source in sources)
    providers = provisioned("dashboards/tocsin.yaml")["providers"]
    assert [provider["options"]["path"] for provider in providers] == [
        "${TOCSIN_DASHBOARDS}/zh",
        "${TOCSIN_DASHBOARDS}/en",
    ]
