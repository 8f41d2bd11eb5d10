"""A real gateway and a real cloud side with a link between them that is cut one way, the other, or both: they agree."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.cloud.rig import CloudProcess, broker
from tests.edge.rig import Gateway, Slave, modbus_device
from tests.support.wait import eventually_async
from tocsin_cli.bench.faults_link import Link
from tocsin_cli.bench.faults_script import Cut
from tocsin_cloud.loops.aside import BESIDE
from tocsin_cloud.loops.taking_over import STANDS
from tocsin_core.clock import SystemClock
from tocsin_core.engine import occurrence_id
from tocsin_edge.adapters.metrics import ask, tell

PEOPLE: Final = """
people: [{id: anna, name: Anna, channels: ["outbox://anna"]}]
rosters: [{id: duty, name: Duty, shifts: [{from: "00:00", to: "00:00", people: [anna]}]}]
notify: {min_priority: low, steps: [{after_s: 0, to: [duty]}]}
"""
LIMIT: Final = 100
LIMITS: Final = "{{setpoint: {}, deadband: 1, on_delay_s: 0, off_delay_s: 0, priority: high}}"
SENSORS: Final = {"A": 1, "B": 2, "C": 3}
HIGH, LOW = 150.0, 1.0
# Of another plant file, which is laxer for A and stricter for B; and what lies between its limits and the first's.
OTHER: Final = {"A": 120, "B": 80}
ABOVE, BELOW = 110.0, 90.0
LONG_S: Final = 90

Standing = tuple[str, str, int, bool]
"""Occurrence, phase, end of the shelf (ns, 0: none), whether it is out of service."""


def plant_file(folder: Path, mqtt: int, modbus: int, limits: Mapping[str, int]) -> Path:
    """Write the plant: one gateway with three sensors, each with a high alarm; `limits` that are not `LIMIT`."""
    lines = ["tocsin: 1", "site: {id: site, name: Site}", PEOPLE, "gateways:", "  - id: gw"]
    lines += [f"    uplink: {{host: 127.0.0.1, port: {mqtt}}}", "    devices:"]
    for name, unit in SENSORS.items():
        # The cloud side alone decides `stale`: on a busy machine it may do so at any moment.
        alarms = f", alarms: {{H: {LIMITS.format(limits.get(name, LIMIT))}, bad: false, stale: false}}"
        device = modbus_device(name, modbus, unit, period_ms=100, timeout_ms=300)[:-1] + alarms + "}"
        lines += [f"      - id: {name}", *(f"        {line}" for line in device.splitlines())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@dataclass
class Ends:
    """Both ends of the link, and the sensors; `raised` are the occurrences that the gateway's page has told of."""

    gateway: Gateway
    cloud: CloudProcess
    link: Link
    slave: Slave
    differ: bool = False
    raised: set[str] = field(default_factory=set)

    def be(self, sensor: str, value: float) -> None:
        """Let a sensor read this from now on."""
        self.slave.value[SENSORS[sensor]] = value

    def page(self) -> dict[str, Any]:
        """What the gateway says of its alarms."""
        try:
            found: dict[str, Any] = json.loads(ask(self.gateway.spool.parent, "/alarms"))
        except OSError:
            return {"alarms": [], "decided": 0, "journal": {"entries": []}}
        raising = (each for each in found["journal"]["entries"] if each["event"] == "raise")
        self.raised.update(occurrence_id(each["alarm"], each["onset_ns"]) for each in raising)
        return found

    async def at_gateway(self, verb: str, alarm: str, duration_s: float = 0.0) -> None:
        """Somebody at the gateway asks something, and is obeyed."""
        wish = {"verb": verb, "alarms": [alarm], "who": "wang", "reason": "there", "duration_s": duration_s}
        said = json.loads(await asyncio.to_thread(tell, self.gateway.spool.parent, "/alarms", json.dumps(wish)))
        assert said == {"outcomes": [{"alarm": alarm, "refusal": ""}]}

    async def at_cloud(self, verb: str, alarm: str, body: dict[str, Any] | None = None) -> None:
        """Somebody at the cloud side asks something of the alarm's last raising that is known there, and is obeyed.

        What the gateway says to it is another matter where it judges by another plant file.
        """

        async def obeyed() -> str | None:
            (occurrence,) = self.cloud.rows(
                f"SELECT id FROM occurrence WHERE alarm = '{alarm}' ORDER BY raised_ns DESC LIMIT 1"  # noqa: S608 -- ours
            )
            try:
                answer = await self.cloud.post(f"alarms/{occurrence[0]}/{verb}", body or {})
            except httpx.HTTPStatusError as error:
                # A newer raising was just coming in.
                assert error.response.status_code == httpx.codes.CONFLICT  # noqa: PT017
                return None
            return str(answer["gateway"])

        answered = await eventually_async(obeyed, LONG_S)
        assert self.differ or answered in ("waiting", "done")

    def gateways_view(self) -> dict[str, Standing]:
        """Every alarm that is not at rest, as the gateway has it."""
        return {
            each["alarm"]: (
                each["occurrence"] or "",
                each["phase"],
                each["shelved_until_ns"],
                each["out_of_service"],
            )
            for each in self.page()["alarms"]
        }

    def clouds_view(self) -> dict[str, Standing]:
        """Every alarm that is not at rest, as the cloud side has it."""
        hidden = {
            alarm: (until or 0, bool(out))
            for alarm, until, out in self.cloud.rows("SELECT alarm, shelved_until_ns, out_of_service FROM alarm_state")
        }
        rows = self.cloud.rows("SELECT alarm, id, phase FROM occurrence ORDER BY raised_ns")
        newest = {alarm: (occurrence, phase) for alarm, occurrence, phase in rows}
        found = {
            alarm: (*newest.get(alarm, ("", "normal")), *hidden.get(alarm, (0, False))) for alarm in newest | hidden
        }
        return {alarm: each for alarm, each in found.items() if each[1:] != ("normal", 0, False)}

    def agree(self) -> bool:
        """Whether both ends say the same of every alarm, nothing is under way, and no raising is at one end alone."""
        waiting = self.cloud.rows("SELECT count(*) FROM gateway_order WHERE state = 'waiting'")
        there, here = self.gateways_view(), self.clouds_view()
        known = {row[0] for row in self.cloud.rows("SELECT id FROM occurrence")}
        return waiting == [(0,)] and self.raised == known and there == here

    def same(self) -> bool:
        """As `agree`, where the gateway may have raised what stood here: it calls it as it is called here."""
        waiting = self.cloud.rows("SELECT count(*) FROM gateway_order WHERE state = 'waiting'")
        with_ours = {
            occurrence_id(alarm, time_ns): ours
            for alarm, time_ns, ours in self.cloud.rows(
                f"SELECT alarm, time_ns, occurrence FROM transition WHERE event = 'raise' AND reason = '{BESIDE}'"  # noqa: S608 -- ours
            )
        }
        there = self.gateways_view()
        known = {row[0] for row in self.cloud.rows("SELECT id FROM occurrence")}
        raised = {with_ours.get(each, each) for each in self.raised}
        return waiting == [(0,)] and raised == known and there == self.clouds_view()

    async def phase_at_gateway(self, alarm: str, phase: str) -> None:
        """Wait until the gateway has the alarm in this phase."""
        await eventually_async(lambda: self.gateways_view().get(alarm, ("", "normal"))[1] == phase, LONG_S)

    async def phase_at_cloud(self, alarm: str, phase: str) -> None:
        """Wait until the cloud side has the alarm in this phase."""
        await eventually_async(lambda: self.clouds_view().get(alarm, ("", "normal"))[1] == phase, LONG_S)


@asynccontextmanager
async def both_ends(folder: Path, limits: Mapping[str, int] | None = None) -> AsyncIterator[Ends]:
    """Broker, cloud side, link, sensors and gateway, which has been heard; `limits` of its own, if it has any."""
    async with (
        broker(folder / "nats") as (server, settings),
        Link(settings.mqtt.port).open() as link,
        Slave(dict.fromkeys(SENSORS.values(), LOW)).serve() as slave,
    ):
        plant = plant_file(folder / "plant", link.port, slave.port, {})
        its_own = plant_file(folder / "its-own", link.port, slave.port, limits or {})
        ends = Ends(
            Gateway(its_own, folder / "edge"),
            CloudProcess(plant, folder / "cloud", server.url, settings.mqtt),
            link,
            slave,
            limits is not None,
        )
        try:
            ends.cloud.start()
            await eventually_async(ends.cloud.ready, LONG_S)
            ends.gateway.start()
            await eventually_async(lambda: ends.page()["decided"] == len(SENSORS), LONG_S)
            await eventually_async(lambda: ends.cloud.rows("SELECT * FROM gateway_journal") != [], LONG_S)
            yield ends
        finally:
            ends.gateway.stop()
            ends.cloud.end(signal.SIGKILL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cut", [Cut.UP, Cut.DOWN, Cut.SILENT], ids=["up", "down", "both"])
def test_both_ends_agree_after_a_partition(tmp_path: Path, cut: Cut) -> None:
    """Raised, returned and raised again, acknowledged and shelved at both ends meanwhile: the same at both, once."""

    async def story() -> None:
        async with both_ends(tmp_path) as ends:
            ends.be("A", HIGH)
            ends.be("B", HIGH)
            for alarm in ("A/H", "B/H"):
                await ends.phase_at_cloud(alarm, "unacknowledged")
            await eventually_async(ends.agree, LONG_S)
            ends.link.cut = cut
            await divided(ends)
            await ends.link.mend()
            await eventually_async(ends.agree, LONG_S)
            assert_as_meant(ends)
            ends.be("A", LOW)
            ends.be("C", LOW)
            await ends.phase_at_gateway("C/H", "returned-unacknowledged")
            await eventually_async(ends.agree, LONG_S)
            assert_once(ends)
            assert all(ends.link.swallowed[way] for way in ((Cut.UP, Cut.DOWN) if cut is Cut.SILENT else (cut,)))

    asyncio.run(story())


@pytest.mark.timeout(600)
def test_both_ends_agree_though_both_are_killed_meanwhile(tmp_path: Path) -> None:
    """Kill -9 of the gateway and of the cloud side while nothing comes through: neither forgets or doubles anything."""

    async def story() -> None:
        async with both_ends(tmp_path) as ends:
            ends.be("A", HIGH)
            ends.be("B", HIGH)
            for alarm in ("A/H", "B/H"):
                await ends.phase_at_cloud(alarm, "unacknowledged")
            ends.link.cut = Cut.SILENT
            await divided(ends)
            before = ends.gateways_view()
            ends.gateway.end(signal.SIGKILL)
            ends.cloud.end(signal.SIGKILL)
            ends.gateway.start()
            ends.cloud.start()
            await eventually_async(lambda: ends.gateways_view() == before, LONG_S)
            await eventually_async(ends.cloud.ready, LONG_S)
            await ends.link.mend()
            await eventually_async(ends.agree, LONG_S)
            assert_as_meant(ends)
            ends.be("A", LOW)
            ends.be("C", LOW)
            await ends.phase_at_gateway("C/H", "returned-unacknowledged")
            await eventually_async(ends.agree, LONG_S)
            assert_once(ends)

    asyncio.run(story())


@pytest.mark.timeout(600)
def test_both_ends_agree_though_their_plant_files_differed(tmp_path: Path) -> None:
    """Cut one way, then the other, asked at both ends: an alarm is one occurrence, and alike once the files are."""

    async def story() -> None:
        async with both_ends(tmp_path, OTHER) as ends:
            # Beyond the limit of the cloud side alone.
            ends.be("A", ABOVE)
            await ends.phase_at_cloud("A/H", "unacknowledged")
            await ends.at_cloud("ack", "A/H")
            ends.link.cut = Cut.UP
            ends.be("A", HIGH)
            # Beyond the limit of the gateway alone.
            ends.be("B", BELOW)
            ends.be("C", HIGH)
            for alarm in ("A/H", "B/H", "C/H"):
                await ends.phase_at_gateway(alarm, "unacknowledged")
            await ends.at_gateway("ack", "B/H")
            await ends.at_gateway("shelve", "A/H", duration_s=600.0)
            await ends.at_cloud("shelve", "A/H", {"duration_s": 1200, "reason": "here"})
            await ends.link.mend()
            await ends.phase_at_cloud("C/H", "unacknowledged")
            ends.link.cut = Cut.DOWN
            await ends.at_cloud("ack", "C/H")
            await ends.at_gateway("shelve", "C/H", duration_s=600.0)
            await ends.link.mend()
            # The gateway is told what was acknowledged before it raised it.
            for alarm in ("A/H", "C/H"):
                await ends.phase_at_gateway(alarm, "acknowledged")
                await ends.phase_at_cloud(alarm, "acknowledged")
            plant_file(tmp_path / "its-own", ends.link.port, ends.slave.port, {})
            ends.gateway.end(signal.SIGKILL)
            ends.gateway.start()
            await eventually_async(ends.same, LONG_S)
            assert {alarm: each[1] for alarm, each in ends.clouds_view().items()} == dict.fromkeys(
                ("A/H", "C/H"), "acknowledged"
            )
            for name in SENSORS:
                ends.be(name, LOW)
            await ends.phase_at_gateway("A/H", "normal")
            await eventually_async(ends.same, LONG_S)
            # B, acknowledged, stood at the gateway until its first reading by the limit of the cloud side.
            steps = ends.cloud.rows(
                f"SELECT alarm, event FROM transition WHERE reason IS NULL OR reason NOT IN ('{BESIDE}', '{STANDS}')"  # noqa: S608 -- ours
            )
            assert Counter(alarm for alarm, event in steps if event == "raise") == dict.fromkeys(
                ("A/H", "B/H", "C/H"), 1
            )
            calls = Counter(ends.cloud.rows("SELECT occurrence FROM message WHERE round_ns = 0 AND repeat = 0"))
            assert set(calls.values()) == {1}
            assert ends.cloud.rows("SELECT count(*) FROM message WHERE round_ns <> 0") == [(0,)]
            assert ends.cloud.rows("SELECT lost FROM gateway_journal") == [(0,)]

    asyncio.run(story())


async def divided(ends: Ends) -> None:
    """What happens while the link is cut.

    A returns and is raised again, is acknowledged at the gateway, and shelved at both ends, last at the gateway. B,
    raised before, is acknowledged at the cloud side and shelved at both ends, last at the cloud side. C is raised, and
    taken out of service at the gateway and put back.
    """
    ends.be("A", LOW)
    await ends.phase_at_gateway("A/H", "returned-unacknowledged")
    ends.be("C", HIGH)
    await ends.phase_at_gateway("C/H", "unacknowledged")
    ends.be("A", HIGH)
    await ends.phase_at_gateway("A/H", "unacknowledged")
    await ends.at_gateway("ack", "A/H")
    await ends.at_cloud("shelve", "A/H", {"duration_s": 1200, "reason": "here"})
    await ends.at_gateway("shelve", "A/H", duration_s=600.0)
    await ends.at_cloud("ack", "B/H")
    await ends.at_gateway("shelve", "B/H", duration_s=600.0)
    await ends.at_cloud("shelve", "B/H", {"duration_s": 1200, "reason": "here"})
    await ends.at_gateway("out-of-service", "C/H")
    await ends.at_gateway("in-service", "C/H")


def assert_as_meant(ends: Ends) -> None:
    """The later command stands, each acknowledgement is of its own raising."""
    view = ends.clouds_view()
    assert {alarm: each[1] for alarm, each in view.items()} == {
        "A/H": "acknowledged",
        "B/H": "acknowledged",
        "C/H": "unacknowledged",
    }
    left_s = {alarm: (each[2] - SystemClock().now_ns()) / 1e9 for alarm, each in view.items() if each[2]}
    assert left_s.keys() == {"A/H", "B/H"}
    assert left_s["A/H"] < 600 < left_s["B/H"] < 1200
    assert not view["C/H"][3]
    people = dict(ends.cloud.rows("SELECT alarm, acknowledged_by FROM occurrence WHERE phase = 'acknowledged'"))
    assert people == {"A/H": "wang", "B/H": "admin"}


def assert_once(ends: Ends) -> None:
    """Nothing of the journal was lost, nothing doubled, and nobody called twice about one raising."""
    assert ends.cloud.rows("SELECT lost FROM gateway_journal") == [(0,)]
    steps = Counter(ends.cloud.rows("SELECT occurrence, event FROM transition WHERE occurrence <> ''"))
    twice = {step: count for step, count in steps.items() if count > 1}
    # Both ends shelved, and neither knew that the other had.
    assert {event for _, event in twice} <= {"shelve"}
    assert sum(event == "raise" for _, event in steps) == 4
    calls = Counter(ends.cloud.rows("SELECT occurrence FROM message WHERE round_ns = 0 AND repeat = 0"))
    assert set(calls.values()) == {1}
    # Who puts an unacknowledged alarm back into service lets people be called again.
    again = ends.cloud.rows(
        "SELECT DISTINCT alarm FROM message JOIN occurrence ON occurrence.id = occurrence WHERE round_ns <> 0"
    )
    assert set(again) <= {("C/H",)}
