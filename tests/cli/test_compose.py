"""docker-compose.yml, held against what it names: our own command line, nats-server, PostgreSQL, files, images."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from tests.support.need import ROOT
from tests.support.postgres import Postgres
from tocsin_cli.bench.postgres import programs
from tocsin_cli.main import main
from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.nats_server import program
from tocsin_cloud.settings import HistoryAddress

COMPOSE: Final[dict[str, Any]] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = [name for name, service in SERVICES.items() if service["image"] == "tocsin:local"]
SPOKEN: Final = [name for name in OURS if "entrypoint" not in SERVICES[name]]
SERVERS: Final = [name for name in OURS if name.startswith("nats-")]
# Which of a service's mounted files ask for variables of its environment, and how.
ASKED: Final = {
    "grafana": ("dashboards/provisioning", re.compile(r"\$\{(\w+)\}")),
    "victoria": ("dashboards/scrape.yml", re.compile(r"%\{(\w+)\}")),
}
SECRETS: Final = ("TOCSIN_ADMIN_PASSWORD", "TOCSIN_SQL_PASSWORD", "TOCSIN_GRAFANA_PASSWORD", "TOCSIN_MQTT_PASSWORD")


def mounts(name: str) -> dict[str, str]:
    """What is mounted where in a service: from the place within to that outside."""
    return {within: outside for outside, within, *_ in (each.split(":") for each in SERVICES[name].get("volumes", []))}


def test_the_cluster_is_all_there() -> None:
    """Three servers, two workers and two gateways beside the stores, the page and Grafana."""
    assert len(SERVERS) == 3
    kinds = [re.sub(r"-\d", "", name) for name in SERVICES]
    assert (kinds.count("worker"), kinds.count("gateway")) == (2, 2)
    assert {"postgres", "victoria", "vmalert", "grafana", "page", "plant"} <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_ours_or_pinned_and_every_file_is_there(name: str) -> None:
    """No registry's address, no `latest`; every volume is declared, everything mounted from the checkout exists."""
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"([a-z-]+/)?[a-z-]+:(local|v?\d+\.\d+[\w.-]*)", image)
    assert ("build" in SERVICES[name]) == (image == "tocsin:local")
    for outside in mounts(name).values():
        if outside.startswith("./"):
            assert (ROOT / outside).exists()
        else:
            assert outside in COMPOSE["volumes"]
    assert SERVICES[name].get("depends_on", {}).__class__ in (dict, list)
    assert set(SERVICES[name].get("depends_on", ())) <= SERVICES.keys()


@pytest.mark.parametrize("name", ASKED)
def test_a_service_is_given_what_its_files_ask_of_its_environment(name: str) -> None:
    """Each variable and no other of ours; addresses are of services that listen there, folders are mounted."""
    path, pattern = ASKED[name]
    assert f"./{path}" in mounts(name).values()
    files = [ROOT / path, *(ROOT / path).rglob("*.yaml")]
    asked = {each for file in files if file.is_file() for each in pattern.findall(file.read_text(encoding="utf-8"))}
    given = {key: value for key, value in SERVICES[name]["environment"].items() if key.startswith("TOCSIN_")}
    assert asked == given.keys()
    for key, value in given.items():
        if found := re.fullmatch(r"(?:http://)?([\w-]+):(\d+)", value):
            service, port = found.groups()
            listens = [word for word in SERVICES[service].get("command", []) if word.endswith(f":{port}")]
            assert listens or (service, port) == ("postgres", "5432"), key
        elif value.startswith("/"):
            assert any(Path(value).is_relative_to(within) for within in mounts(name)), key
    assert given.get("TOCSIN_DASHBOARDS", "") in {"", *(w for w, o in mounts(name).items() if o == "./dashboards")}


@pytest.mark.parametrize("name", SPOKEN)
def test_our_own_command_line_takes_what_each_service_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option is known, every address can be read and the plant is a good one: all but the work itself is done."""
    started: list[str] = []
    for work in ("tocsin_cloud.cli._main", "tocsin_edge.cli._until_signal", "tocsin_sim.cli.main"):
        monkeypatch.setattr(work, _noting(started, work))
    monkeypatch.setattr("asyncio.run", lambda _: {})
    places = {"/data": str(tmp_path)} | {
        within: str(ROOT / outside) for within, outside in mounts(name).items() if outside.startswith("./")
    }
    words = [re.sub(r"\$\{\w+:-(.*)\}$", r"\1", word) for word in SERVICES[name]["command"]]
    for within, outside in places.items():
        words = [re.sub(rf"(^|=){within}$", rf"\g<1>{outside}", word) for word in words]
    monkeypatch.setattr(sys, "argv", ["tocsin", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (0, "")
    assert len(started) == 1


def _noting(started: list[str], work: str) -> Callable[..., Any]:
    def note(*_arguments: object, **_named: object) -> float:
        started.append(work)
        return 0.0

    return note


def test_every_gateway_is_scraped_and_every_rule_judged() -> None:
    """Each gateway tells its figures on a port of its own, listed by its id; vmalert asks and writes where they are."""
    told = {}
    for name in (name for name in OURS if name.startswith("gateway-")):
        words = dict(word.removeprefix("--").split("=", 1) for word in SERVICES[name]["command"] if "=" in word)
        host, _, port = words["metrics"].partition(":")
        assert host == "0.0.0.0"  # noqa: S104 -- who scrapes it is on another machine of the compose file's network
        told[f"{SERVICES[name]['network_mode'].removeprefix('service:')}:{port}"] = words["gateway"]
    listed = YAML(typ="safe").load(ROOT / mounts("victoria")["/gateways.yml"])
    assert told == {target: each["labels"]["instance"] for each in listed for target in each["targets"]}
    assert len(told) == 2
    judging = SERVICES["vmalert"]["command"]
    for side in ("datasource", "remoteWrite", "remoteRead"):
        assert f"-{side}.url=http://victoria:8428" in judging
    assert "-httpListenAddr=:8428" in SERVICES["victoria"]["command"]
    assert (mounts("vmalert")["/alerts"], "-rule=/alerts/tocsin.yaml" in judging) == ("./dashboards/alerts", True)
    assert (ROOT / "dashboards" / "alerts" / "tocsin.yaml").exists()


def test_no_service_that_may_be_restarted_holds_the_network_of_others() -> None:
    """They would be left without any: it is held by one that does nothing."""
    modes = [service["network_mode"] for service in SERVICES.values() if "network_mode" in service]
    assert set(modes) == {"service:field"}
    assert len(modes) == 4
    assert SERVICES["field"]["entrypoint"] == ["sleep", "infinity"]


def test_the_history_may_be_a_cluster() -> None:
    """The address in the file's head is one to write to and one to read from, of services that keep two copies."""
    head = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    (named,) = re.findall(r"TOCSIN_HISTORY=(\S+)", head)
    insert, select = HistoryAddress.parse(named).hosts
    for address, port in ((insert, 8400), (select, 8401)):
        command = SERVICES[address.host]["command"]
        assert f"-storageNode=vmstorage-1:{port},vmstorage-2:{port}" in command
        assert "-replicationFactor=2" in command
        assert SERVICES[address.host]["profiles"] == SERVICES["vmstorage-1"]["profiles"] == ["victoria-cluster"]


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_takes_its_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what `tocsin broker config` writes for it, and nats-server reads it."""
    path = ROOT / mounts(name)["/etc/nats.conf"]
    monkeypatch.setattr(sys, "argv", ["tocsin", "broker", "config", "--name", name, "--routes", ",".join(SERVERS)])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")
    # Servers and workers are given the one password by the same name.
    given = {str(SERVICES[each]["environment"][VARIABLE]) for each in OURS if each.startswith(("nats-", "worker-"))}
    wanted = "set the password of the host over MQTT, letters and digits, a letter first"
    assert given == {f"${{TOCSIN_MQTT_PASSWORD:?{wanted}}}"}
    monkeypatch.setenv(VARIABLE, "test")
    checked = subprocess.run([program(), "-t", "-c", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_grafana_may_read_alarms_and_no_accounts(postgres_server: Postgres) -> None:
    """What the service `grants` runs: twice, for it is run at each start; then as the reader that it made."""
    url = postgres_server.with_tables()
    where = ["-h", str(url.host), "-p", str(url.port), "-d", str(url.database), "-q", "-t", "-A"]

    def psql(user: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs() / "psql"), *where, "-U", user, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for _ in range(2):
        granted = psql(
            str(url.username), "-v", "password=a 'quoted' word", "-f", str(ROOT / "deploy/postgres/grafana.sql")
        )
        assert granted.returncode == 0, granted.stderr
    assert psql("grafana", "-c", "SELECT count(*) FROM occurrence").stdout == "0\n"
    assert "permission denied" in psql("grafana", "-c", 'SELECT * FROM "user"').stderr
    assert "permission denied" in psql("grafana", "-c", "DELETE FROM occurrence").stderr


def test_docker_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker compose config` where there is one; without the passwords it says which is missing."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs docker compose, which is not installed")
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    command = [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "set the" in refused.stderr
    for name in SECRETS:
        monkeypatch.setenv(name, "a long enough one")
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
