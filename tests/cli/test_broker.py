"""`tocsin broker config`: what it writes is a configuration that the real nats-server takes."""

import json
import subprocess
from contextlib import ExitStack, redirect_stdout
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.cli.in_process import tocsin
from tests.support.figures import DEMO_PLANT
from tests.support.http import NO_TLS
from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_cloud.adapters.enrolment import Enrolment, moment
from tocsin_cloud.adapters.nats_server import program
from tocsin_cloud.settings import AUTHORITY
from tocsin_core.clock import SystemClock

CLUSTER = ("broker", "config", "--name", "n1", "--routes", "n1,n2,n3:7222")


def test_the_server_takes_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster's server as written to the standard output; with --json the same in one object."""
    words = (*CLUSTER, "--store", str(tmp_path / 'a "b" } c'))
    assert tocsin(monkeypatch, *words) == 0
    text = capsys.readouterr().out
    path = tmp_path / "n1.conf"
    path.write_text(text, encoding="utf-8")
    check = [program(), "-t", "-c", str(path)]
    refused = subprocess.run(check, capture_output=True, text=True, check=False)
    assert "TOCSIN_MQTT_PASSWORD" in refused.stderr
    monkeypatch.setenv("TOCSIN_MQTT_PASSWORD", "test")
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert '"nats://n3:7222"' in text
    assert "stream_replicas: 3" in text
    assert tocsin(monkeypatch, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"config": text}


def test_servers_take_each_other_by_their_certificates_and_no_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real servers with TLS as written are one cluster; one that shows a gateway's certificate joins nobody."""
    names, data = ("n1", "n2", "rogue"), tmp_path / "data"
    monitors = {name: free_port() for name in names}
    ports = {name: free_port() for name in names}
    routes = ",".join(f"localhost:{port}" for port in ports.values())

    def start(name: str) -> None:
        folder = str(tmp_path / name)
        words = ["--name", name, "--routes", routes, "--listen", "127.0.0.1", "--store", folder, "--tls", folder]
        words += ["--route", str(ports[name]), "--monitor", str(monitors[name])]
        words += ["--nats", str(free_port()), "--mqtt", str(free_port())]
        path = tmp_path / name / "nats.conf"
        with path.open("w", encoding="utf-8") as file, redirect_stdout(file):
            assert tocsin(monkeypatch, "broker", "config", *words) == 0
        server = subprocess.Popen([program(), "-c", str(path), "-l", str(path.with_name("log"))])
        stack.callback(server.wait, 10)
        stack.callback(server.terminate)

    for name in names:
        words = ("--host", "localhost", "--data", str(data), "--out", str(tmp_path / name))
        assert tocsin(monkeypatch, "broker", "certificate", *words) == 0
    gateway = Enrolment(data / AUTHORITY).enroll("s", "gw", moment(SystemClock().now_ns()), timedelta(days=1))
    (tmp_path / "rogue" / "server.pem").write_bytes(gateway.certificate)
    (tmp_path / "rogue" / "server.key").write_bytes(gateway.key)
    with ExitStack() as stack:
        for name in names:
            start(name)
        eventually(lambda: _neighbours(monitors["n1"]) == {"n2"})
        eventually(lambda: "authentication error" in (tmp_path / "n1" / "log").read_text(encoding="utf-8"))
        assert _neighbours(monitors["n2"]) == {"n1"}


def _neighbours(monitor: int) -> set[str]:
    try:
        found = httpx.get(f"http://127.0.0.1:{monitor}/routez", trust_env=False, verify=NO_TLS).json()
    except httpx.TransportError:
        return set()
    return {route["remote_name"] for route in found["routes"]}


@pytest.mark.parametrize("wrong", [("--routes", "n1,n2:0"), ("--name", "n 1"), ("--mqtt", "70000")])
def test_what_makes_no_configuration_is_refused_in_one_line(
    wrong: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing on the standard output."""
    assert tocsin(monkeypatch, *CLUSTER, *wrong) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "words",
    [
        ("broker", "users"),
        ("gateway", "renew", str(DEMO_PLANT), "--gateway", "gw-tank-farm"),
        ("gateway", "revoke", str(DEMO_PLANT), "--gateway", "gw-tank-farm"),
    ],
)
def test_a_folder_in_which_nothing_was_issued_is_refused(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in --data: the servers would be told to let no gateway in, or another authority would be made there."""
    wrong = tmp_path / "dta"
    assert tocsin(monkeypatch, *words, "--data", str(wrong)) == 2
    said = capsys.readouterr()
    assert (said.out, "no certificate was ever issued in" in said.err, wrong.exists()) == ("", True, False)
