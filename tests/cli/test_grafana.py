"""`tocsin grafana push`: on a stand-in for Grafana, and on a real one where TOCSIN_TEST_GRAFANA_URL names it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tests.support.grafana import TOKEN, StandIn, stand_in
from tests.support.need import ROOT
from tests.support.ports import free_port
from tocsin_cli.grafana import app
from tocsin_cloud.adapters.grafana import SHIPPED

SOURCES: Final = {
    "TOCSIN_PROMETHEUS_URL": "http://victoria:8428",
    "TOCSIN_POSTGRES_HOST": "postgres:5432",
    "TOCSIN_POSTGRES_DATABASE": "tocsin",
    "TOCSIN_POSTGRES_USER": "grafana",
    "TOCSIN_POSTGRES_PASSWORD": "a password",
    "TOCSIN_POSTGRES_SSLMODE": "disable",
}
REAL: Final = ("TOCSIN_TEST_GRAFANA_URL", "TOCSIN_TEST_GRAFANA_TOKEN")


@pytest.fixture
def grafana() -> Iterator[StandIn]:
    """The stand-in."""
    with stand_in() as made:
        yield made


def pushed(url: str, *options: str, token: str = TOKEN, **environment: str) -> tuple[int, list[dict[str, Any]], str]:
    """Push; gives the exit code, what became of each thing, and the error."""
    done = CliRunner().invoke(
        app, ["push", "--url", url, "--json", *options], env={**environment, "TOCSIN_GRAFANA_TOKEN": token}
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["error"] or "") in done.stderr
    return done.exit_code, told["put"], told["error"] or ""


def outcomes(put: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """What became of each kind of thing."""
    return {(each["what"], each["outcome"]) for each in put}


def test_all_is_made_and_the_second_time_nothing_changes(grafana: StandIn) -> None:
    """Folders, dashboards in both languages, data sources filled in; a second push saves no dashboard anew."""
    code, put, error = pushed(grafana.url, **SOURCES)
    assert (code, error) == (0, "")
    assert outcomes(put) == {(what, "created") for what in ("data source", "folder", "dashboard")}
    assert set(grafana.folders) == {"tocsin-zh", "tocsin-en"}
    assert len(grafana.dashboards) == len(list(SHIPPED.glob("*/*.json"))) == 8
    assert grafana.dashboards["tocsin-plant-zh"]["meta"] == {"folderUid": "tocsin-zh"}
    sent = json.loads((ROOT / "dashboards" / "zh" / "plant.json").read_text(encoding="utf-8"))
    kept = grafana.dashboards["tocsin-plant-zh"]["dashboard"]
    assert kept == sent | {"id": kept["id"], "version": 1}
    postgres = grafana.sources["tocsin-postgres"]
    assert (postgres["url"], postgres["jsonData"]["database"]) == ("postgres:5432", "tocsin")
    assert postgres["secureJsonData"] == {"password": "a password"}
    code, put, _ = pushed(grafana.url, **SOURCES)
    assert code == 0
    assert outcomes(put) == {
        ("folder", "unchanged"),
        ("dashboard", "unchanged"),
        ("data source", "unchanged"),
        ("data source", "updated"),  # the one with a password, which nobody can read back
    }
    assert len(grafana.saves) == 8


def test_what_is_another_is_brought_up_to_date(grafana: StandIn) -> None:
    """A dashboard, a folder's title and a data source that somebody changed stand again as they are shipped."""
    pushed(grafana.url, **SOURCES)
    grafana.dashboards["tocsin-unit-en"]["dashboard"] |= {"title": "mine", "version": 7}
    grafana.folders["tocsin-en"]["title"] = "mine"
    grafana.sources["tocsin-prometheus"]["url"] = "http://elsewhere"
    code, put, _ = pushed(grafana.url, **SOURCES)
    assert code == 0
    updated = {each["uid"] for each in put if each["outcome"] == "updated"}
    assert updated == {"tocsin-unit-en", "tocsin-en", "tocsin-prometheus", "tocsin-postgres"}
    assert grafana.dashboards["tocsin-unit-en"]["dashboard"]["version"] == 8
    assert grafana.sources["tocsin-prometheus"]["url"] == "http://victoria:8428"


def test_data_sources_without_an_address_are_left_alone(grafana: StandIn) -> None:
    """What is missing is named; everything else is put all the same."""
    code, put, _ = pushed(grafana.url, TOCSIN_PROMETHEUS_URL="http://victoria:8428")
    assert code == 0
    assert set(grafana.sources) == {"tocsin-prometheus"}
    (left,) = [each for each in put if each["outcome"] == "left alone"]
    assert "TOCSIN_POSTGRES_HOST" in left["reason"]


def test_each_failure_is_one_clear_line(grafana: StandIn) -> None:
    """A wrong token, nobody there, a conflict, a name that is taken, a refusal; the exit code is 1."""
    assert pushed(grafana.url, token="wrong")[2].endswith(
        "does not take the token: it is wrong, disabled or has expired"
    )
    code, put, error = pushed(f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "cannot be reached" in error
    grafana.meddled = "tocsin-health-en"
    code, put, error = pushed(grafana.url)
    assert code == 1
    assert error.startswith("dashboard tocsin-health-en: conflict: The dashboard has been changed by someone else")
    assert {each["uid"] for each in put} >= {"tocsin-zh", "tocsin-gateways-en"}
    grafana.sources["theirs"] = {"name": "Tocsin readings and figures"}
    assert "the name is taken by another" in pushed(grafana.url, TOCSIN_PROMETHEUS_URL="http://v")[2]
    grafana.refuse = 403, {"message": "Access denied"}
    assert "needs the role Admin" in pushed(grafana.url)[2]
    grafana.refuse = 200, []
    assert "does not answer as a Grafana does" in pushed(grafana.url)[2]


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://admin:admin@host"])
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    """Exit code 2; a password has no business in an address."""
    done = CliRunner().invoke(app, ["push", "--url", url, "--token", "t"])
    assert done.exit_code == 2
    assert "is no address" in done.stderr


@pytest.mark.skipif(not os.environ.get(REAL[0]), reason="TOCSIN_TEST_GRAFANA_URL names no Grafana")
def test_a_real_grafana_takes_all_of_it() -> None:
    """Pushed twice; the second time Grafana has every folder and dashboard already."""
    url, token = (os.environ[name] for name in REAL)
    for _ in range(2):
        code, put, error = pushed(url, token=token, **SOURCES)
        assert (code, error) == (0, "")
        assert {each["outcome"] for each in put} <= {"created", "updated", "unchanged"}


def test_the_dashboards_come_with_the_package() -> None:
    """Where the verb looks for them is what is checked in."""
    assert SHIPPED.resolve() == (ROOT / "dashboards").resolve()
    assert Path(SHIPPED, "provisioning", "datasources", "tocsin.yaml").is_file()
