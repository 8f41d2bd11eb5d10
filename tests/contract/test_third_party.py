"""A Sparkplug client that is not ours against the whole cloud side: its points appear, are stored, and are alarmed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.node_peer import NODE, SPARKPLUG, install
from tests.support.ports import free_port
from tests.support.wait import eventually

PLANT = """\
tocsin: 1
site: {id: site, name: 外来设备}
gateways:
  - id: peer
    external: true
    devices:
      - id: tank
        points:
          - {id: LT-1, metric: level, name: 液位, kind: tank-level, unit: m, range: [0, 10], alarms: {H: {setpoint: 2}}}
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[tuple[httpx.Client, int, Path]]:
    """The cloud side as a process of its own: a signed-in client, its MQTT port, and what it says."""
    (tmp_path / "plant.yaml").write_text(PLANT, encoding="utf-8")
    http, mqtt, said = free_port(), free_port(), tmp_path / "cloud.err"
    command = [sys.executable, "-m", "tocsin_cli", "cloud", str(tmp_path), "--data", str(tmp_path / "data")]
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--http", f"127.0.0.1:{http}", "--mqtt", f"127.0.0.1:{mqtt}"], stderr=stderr
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{http}", trust_env=False, timeout=20) as client:
        try:
            eventually(lambda: answers(client), timeout_s=60)
            password = said.read_text().split("with the password ")[1].split()[0]
            token = client.post("/api/v1/session", json={"user": "admin", "password": password}).json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client, mqtt, said
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, said.read_text()


def answers(client: httpx.Client) -> bool:
    """Whether the server says that it is ready."""
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def points(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """The points that the API shows, by id."""
    return {point["id"]: point for point in client.get("/api/v1/points").json()}


def test_a_foreign_edge_node_is_shown_stored_and_alarmed(cloud: tuple[httpx.Client, int, Path]) -> None:
    """What the plant file declares is alarmed, what it does not know appears under its path, death makes it bad."""
    client, mqtt, _ = cloud
    install(SPARKPLUG)
    with subprocess.Popen(
        [NODE, SPARKPLUG / "edge.js", f"mqtt://127.0.0.1:{mqtt}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as edge:
        eventually(lambda: "site/peer/tank/pump" in points(client))
        shown = points(client)
        eventually(lambda: points(client)["LT-1"]["value"] == 1.25)
        assert (shown["site/peer/tank/pump"]["declared"], shown["LT-1"]["declared"]) == (False, True)
        assert "site/peer/uptime" in shown
        assert edge.stdin is not None
        edge.stdin.write(b"\n")
        edge.stdin.flush()
        raised = eventually(lambda: [a for a in client.get("/api/v1/alarms").json() if a["alarm"] == "LT-1/H"])
        assert raised[0]["value"] == 2.5
        since = raised[0]["raised_at"][:10] + "T00:00:00Z"
        stored = eventually(lambda: history(client, "LT-1", since, 2))
        assert stored == [1.25, 2.5]
        assert eventually(lambda: history(client, "site/peer/tank/pump", since, 2)) == [1.0, 0.0]
        edge.wait(60)
    eventually(lambda: points(client)["LT-1"]["quality"] == 8)
    assert points(client)["LT-1"]["value"] is None


def history(client: httpx.Client, point: str, start: str, least: int) -> list[float]:
    """The good values stored since `start`, once there are at least so many."""
    query = {"start": start, "end": "2100-01-01T00:00:00Z"}
    answer = client.get(f"/api/v1/points/{point}/readings", params=query).raise_for_status().json()
    values = [value for value in answer["value"] if value is not None]
    return values if len(values) >= least else []


def test_garbage_is_quarantined_with_its_reason(cloud: tuple[httpx.Client, int, Path]) -> None:
    """Rubbish, a cut-off payload and data before a birth are counted and kept with the reason; nothing ends."""
    client, mqtt, said = cloud
    send = (
        "import sys, paho.mqtt.publish as p\n"
        "topics = [('spBv1.0/site/DDATA/peer/tank', b'\\xff\\x00rubbish'), ('spBv1.0/site/NBIRTH/peer', b'\\x08'),"
        " ('spBv1.0/site/NDATA/peer', b'\\x08\\x01\\x12\\x04\\x10\\x05'), ('spBv1.0/nonsense', b'x')]\n"
        "p.multiple([(t, b, 0, False) for t, b in topics], hostname='127.0.0.1', port=int(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", send, str(mqtt)], check=True, timeout=30)
    eventually(lambda: len(client.get("/api/v1/quarantine").json()) >= 4)
    kept = client.get("/api/v1/quarantine").json()
    assert {row["topic"] for row in kept} >= {"spBv1.0/site/DDATA/peer/tank", "spBv1.0/site/NDATA/peer"}
    assert all(row["reason"] for row in kept)
    assert answers(client)
    assert "Traceback" not in said.read_text()
