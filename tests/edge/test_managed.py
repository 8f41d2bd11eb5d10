"""A real gateway between real slaves and a real broker is managed from above: what it takes, and what it undoes."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes
from typing import Any

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.support.modbus_switches import SwitchUnit
from tests.support.modbus_units import TcpUnits
from tests.support.nats import Broker, nats_broker
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.managed import KEY_FILE, Offer, Outcome, Standing, parts_of, seal
from tocsin_core.plant import load_plant
from tocsin_core.plant.slice import hash_of, slice_of
from tocsin_core.sparkplug import slice_part
from tocsin_edge.adapters.metrics import ask

PERIOD_MS = 500
COIL = 7
KEY = Ed25519PrivateKey.generate()


class ManagedGateway(Gateway):
    """A real gateway that trusts KEY and tries what it is sent for so many seconds."""

    def __init__(self, folder: Path, data: Path, trial_s: float) -> None:
        """Pin the key."""
        super().__init__(folder, data)
        self._command += ["--trial", str(trial_s)]
        self.folder = data / "gateways" / "gw"
        self.folder.mkdir(parents=True, exist_ok=True)
        public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / KEY_FILE).write_bytes(public)

    def waited_s(self) -> float:
        """How long its main thread could have run and had no processor."""
        try:
            return int(Path(f"/proc/{self._pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
        except OSError:
            # It has ended, or this kernel does not count.
            return 0.0

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = json.loads(ask(self.folder, "/status"))
        return found

    def status_or(self, otherwise: dict[str, Any]) -> dict[str, Any]:
        """What it says of itself, if it says anything."""
        try:
            return self.status()
        except OSError:
            return otherwise

    def alarms(self) -> list[dict[str, Any]]:
        """The alarms that are not at rest."""
        found: list[dict[str, Any]] = json.loads(ask(self.folder, "/alarms"))["alarms"]
        return found

    def screen(self) -> str:
        """What `tocsin status` shows of it."""
        command = [sys.executable, "-m", "tocsin_cli", "status", "--data", str(self.folder.parents[1])]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def watches(self) -> bool:
        """Whether it answers, and watches all of its devices."""
        return all(each["watched"] for each in self.status_or({"devices": [{"watched": False}]})["devices"])


@dataclass
class Above:
    """The cloud side: hears the gateway as a host does, and sends it slices of plants written by the test."""

    tmp_path: Path
    broker: Broker
    host: Host
    client: aiomqtt.Client
    written: int = field(default=0)

    def slice_of(self, devices: dict[str, str], extra: str = "") -> bytes:
        """What the gateway would be sent of a plant with these devices."""
        self.written += 1
        folder = plant(self.tmp_path / f"plant-{self.written}", self.broker.mqtt, devices, extra)
        return slice_of(load_plant(folder), "gw")

    async def send(self, sealed: bytes) -> None:
        """Send what was sealed, in parts."""
        for part in parts_of(sealed):
            await self.client.publish("spBv1.0/site/NCMD/gw", slice_part(part, 1))

    async def offer(self, version: int, data: bytes) -> None:
        """Send a slice as the cloud side does."""
        await self.send(seal(Offer("site", "gw", version, data), KEY.sign))

    @property
    def standing(self) -> Standing | None:
        """What the gateway said last."""
        told = [fed.standing for fed in self.host.fed if fed.standing is not None]
        return Standing.of_text(told[-1]) if told else None

    def told(self) -> list[tuple[str, str]]:
        """The steps of alarms that the journal told: alarm and event."""
        return [(entry.alarm, entry.event.name.lower()) for entry in self.host.entries if entry.event is not None]

    def answered(self, version: int, outcome: Outcome) -> bool:
        """Whether that is the gateway's answer."""
        standing = self.standing
        answer = None if standing is None else standing.answer
        return answer is not None and (answer.version, answer.outcome) == (version, outcome)

    async def until(self, version: int, outcome: Outcome, timeout_s: float = 60) -> Standing:
        """Wait for an answer."""
        await eventually_async(lambda: self.answered(version, outcome), timeout_s)
        assert self.standing is not None
        return self.standing


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with nats_broker(folder) as running:
        yield running


@asynccontextmanager
async def above(tmp_path: Path, broker: Broker) -> AsyncIterator[Above]:
    """Be the cloud side until left."""
    async with Host(broker.mqtt).listen() as host, aiomqtt.Client("127.0.0.1", broker.mqtt) as client:
        yield Above(tmp_path, broker, host, client)


def lost(host: Host, metric: str) -> int:
    """How many good readings are lacking between the first tick and the last, one a period; negative: too many."""
    # The very first is not read at a tick, but as soon as the gateway runs.
    times = [time_ns / 1e6 for time_ns, _, quality in host.of(metric) if quality == 0xC0][1:]
    return round((times[-1] - times[0]) / PERIOD_MS) + 1 - len(times)


@dataclass
class Busy:
    """How often this busy machine held up the gateway, or the slaves in here, by what neither of them does itself.

    Looks once a period at how late it is itself, and for how long the gateway's process waited for a processor.
    """

    gateway: ManagedGateway
    held_up: int = field(default=0)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator["Busy"]:
        """Count until left."""
        counting = asyncio.create_task(self._count())
        try:
            yield self
        finally:
            counting.cancel()
            await asyncio.wait([counting])

    async def _count(self) -> None:
        period_s, clock = PERIOD_MS / 1e3, SystemClock()
        while True:
            begun, waited_s = clock.monotonic(), self.gateway.waited_s()
            await asyncio.sleep(period_s)
            late_s = max(clock.monotonic() - begun - period_s, self.gateway.waited_s() - waited_s)
            if late_s > period_s / 5:
                self.held_up += 1 + int(late_s / period_s)


def device(name: str, slave: Slave, unit: int = 1, **other: int) -> str:
    """Write a device whose readings are counted."""
    return modbus_device(name, slave.port, unit, PERIOD_MS, other.get("timeout_ms", 200))


def test_a_version_is_applied_and_no_period_is_lost(tmp_path: Path, broker: Broker) -> None:
    """One device comes, one goes, one is changed, one is as it was: those that stay are read in every period, once."""

    async def story() -> None:
        one, two = Slave({1: 1.0}), Slave({1: 10.0, 2: 20.0, 3: 30.0})
        async with AsyncExitStack() as stack, one.serve(), two.serve(), above(tmp_path, broker) as cloud:
            before = {"A": device("A", one), "B": device("B", two), "C": device("C", two, 2)}
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, before), tmp_path, 60)
            gateway.start()
            try:
                busy = await stack.enter_async_context(Busy(gateway).watched())
                await eventually_async(lambda: cloud.host.of("A") and cloud.host.of("B") and cloud.host.of("C"))
                own = cloud.standing
                assert own == Standing(0, hash_of(cloud.slice_of(before)))
                wider = device("B", two, timeout_ms=300).replace("[0, 1000]", "[0, 2000]")
                after = {"A": device("A", one), "B": wider, "D": device("D", two, 3)}
                data = cloud.slice_of(after, "    spool: {max_mb: 64}")
                await eventually_async(lambda: len(cloud.host.of("A")) > 6)
                await cloud.offer(5, data)
                standing = await cloud.until(5, Outcome.APPLIED)
                assert (standing.version, standing.hash) == (5, hash_of(data))
                told = len(cloud.host.of("A"))
                await eventually_async(lambda: len(cloud.host.of("A")) > told + 6 and cloud.host.of("D"))
                kinds = cloud.host.kinds()
                assert (kinds.count("NBIRTH"), kinds.count("NDEATH")) == (2, 0)
                status = gateway.status()
                assert [each["id"] for each in status["devices"]] == ["A", "B", "D"]
                assert (status["slice"]["counts"], status["slice"]["good"]) == ({"applied": 1}, [5])
                assert status["spool"]["max_bytes"] == 64_000_000
            finally:
                code = gateway.end(signal.SIGTERM)
                gateway.stop()
            assert code == 0
            assert one.asked.count(1) <= len(cloud.host.of("A")) + 2
            assert min(len(cloud.host.of("A")), len(cloud.host.of("B"))) > 12
            for name in "AB":
                assert 0 <= lost(cloud.host, name) <= busy.held_up
            assert {value for _, value, _ in cloud.host.of("D")} == {30.0}
            assert cloud.host.of("C")[-1][0] < cloud.host.of("B")[-1][0] - 3 * PERIOD_MS * 1_000_000
            assert not [fault for fed in cloud.host.fed for fault in fed.faults]

    asyncio.run(story())


def test_what_is_not_signed_newer_and_its_own_is_refused_and_touches_nothing(tmp_path: Path, broker: Broker) -> None:
    """Each refusal has its name, is counted and told; the version in force and its readings go on as if nothing was."""

    async def story() -> None:
        async with Slave({1: 1.0}).serve() as slave, above(tmp_path, broker) as cloud:
            devices = {"A": device("A", slave)}
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, devices), tmp_path, 60)
            gateway.start()
            try:
                await eventually_async(lambda: cloud.host.of("A"))
                data = cloud.slice_of({"A": device("A", slave, timeout_ms=300)})
                await cloud.offer(7, data)
                await cloud.until(7, Outcome.APPLIED)
                births = cloud.host.kinds().count("NBIRTH")
                good = seal(Offer("site", "gw", 8, data), KEY.sign)
                other = Ed25519PrivateKey.generate()
                counts: dict[str, int] = {}
                refused: list[tuple[str, bytes]] = [
                    ("signature", seal(Offer("site", "gw", 8, data), other.sign)),
                    ("signature", good[:400] + bytes([good[400] ^ 1]) + good[401:]),
                    ("damaged", b"x" + good),
                    ("not for this gateway", seal(Offer("site", "gw2", 8, data), KEY.sign)),
                    ("not for this gateway", seal(Offer("elsewhere", "gw", 8, data), KEY.sign)),
                    ("old version", seal(Offer("site", "gw", 6, data), KEY.sign)),
                    # As long as the slice of many ten thousand points, in eleven commands.
                    ("invalid plant", seal(Offer("site", "gw", 8, token_bytes(1_000_000)), KEY.sign)),
                ]
                for number, (reason, sealed) in enumerate(refused, 1):
                    told = len(cloud.host.fed)
                    await cloud.send(sealed)
                    await eventually_async(has_news(cloud, told))
                    assert cloud.standing is not None
                    assert cloud.standing.answer is not None
                    assert cloud.standing.answer.outcome is Outcome.REFUSED, reason
                    assert cloud.standing.answer.reason.startswith(reason)
                    counts = gateway.status()["slice"]["counts"]
                    assert sum(counts.values()) == number + 1
                    assert (cloud.standing.version, cloud.standing.hash) == (7, hash_of(data))
                assert counts == {
                    "applied": 1,
                    "refused: signature": 2,
                    "refused: damaged": 1,
                    "refused: not for this gateway": 2,
                    "refused: old version": 1,
                    "refused: invalid plant": 1,
                }
                refusal = "version 8 from the cloud side was refused: invalid plant"
                assert refusal in " ".join(gateway.status()["warnings"])
                figures = ask(gateway.folder, "/metrics")
                assert "tocsin_edge_slice_version 7\n" in figures
                assert 'tocsin_edge_slices_total{outcome="refused: signature"} 2\n' in figures
                screen = gateway.screen()
                assert f"plant: version 7 from the cloud side ({hash_of(data)[:12]}), good versions kept: 1" in screen
                assert "version 8 refused" in screen
                assert cloud.host.kinds().count("NBIRTH") == births
                await cloud.offer(8, data)
                await cloud.until(8, Outcome.APPLIED)
            finally:
                gateway.stop()

    asyncio.run(story())


def has_news(cloud: Above, told: int) -> Callable[[], bool]:
    """Give the question whether the gateway has said where it stands since its message number `told`."""
    return lambda: any(fed.standing is not None for fed in cloud.host.fed[told:])


def reads_on(cloud: Above, metric: str) -> Callable[[], bool]:
    """Give the question whether the metric was read a few times since."""
    read = len(cloud.host.of(metric))
    return lambda: len(cloud.host.of(metric)) > read + 3


def test_a_version_under_which_less_works_is_rolled_back_by_the_gateway_itself(tmp_path: Path, broker: Broker) -> None:
    """A wrong port, also under another id, a broker where nobody is: each goes back, is told, and not tried again."""

    async def story() -> None:
        one, two, three = Slave({1: 1.0}), Slave({1: 2.0}), Slave({1: 3.0})
        async with (
            AsyncExitStack() as stack,
            one.serve(),
            two.serve(),
            three.serve(),
            above(tmp_path, broker) as cloud,
        ):
            devices = {"A": device("A", one), "B": device("B", two), "C": device("C", three)}
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, devices), tmp_path, 4)
            gateway.start()
            try:
                busy = await stack.enter_async_context(Busy(gateway).watched())
                await eventually_async(lambda: cloud.host.of("A") and cloud.host.of("B"))
                own = cloud.standing
                assert own is not None
                nobody = free_port()
                others = {name: devices[name] for name in ("B", "C")}
                for version, reason, changed, elsewhere in (
                    (5, "A: A bad", devices | {"A": modbus_device("A", nobody, 1, PERIOD_MS)}, ""),
                    (6, "no connection to 127.0.0.1", devices, f"    uplink: {{host: 127.0.0.1, port: {nobody}}}"),
                    (7, "D: A bad", {**others, "D": modbus_device("A", nobody, 1, PERIOD_MS)}, ""),
                ):
                    data = cloud.slice_of(changed)
                    if elsewhere:
                        text = (cloud.tmp_path / f"plant-{cloud.written}" / "plant.yaml").read_text(encoding="utf-8")
                        lines = [elsewhere if line.startswith("    uplink:") else line for line in text.splitlines()]
                        (cloud.tmp_path / "moved").mkdir()
                        (cloud.tmp_path / "moved" / "plant.yaml").write_text("\n".join(lines), encoding="utf-8")
                        data = slice_of(load_plant(cloud.tmp_path / "moved"), "gw")
                    await cloud.offer(version, data)
                    standing = await cloud.until(version, Outcome.ROLLED_BACK)
                    assert (standing.version, standing.hash) == (own.version, own.hash)
                    assert standing.answer is not None
                    assert reason in standing.answer.reason
                    told = len(cloud.host.fed)
                    await cloud.offer(version, data)
                    await eventually_async(has_news(cloud, told))
                    assert cloud.answered(version, Outcome.ROLLED_BACK)
                    await eventually_async(reads_on(cloud, "A"))
                assert gateway.status()["slice"]["counts"] == {"rolled back": 3}
                assert cloud.host.of("A")[-1][2] == 0xC0
            finally:
                gateway.end(signal.SIGTERM)
                gateway.stop()
            assert len(cloud.host.of("B")) > 12
            # The line of B was the same all the time, and nothing of it was lost while the uplink was elsewhere.
            assert 0 <= lost(cloud.host, "B") <= busy.held_up

    asyncio.run(story())


def test_killed_in_a_trial_it_starts_on_the_last_good_version(tmp_path: Path, broker: Broker) -> None:
    """Kill -9 while a version is on trial: the next start runs on the good one before and says why."""

    async def story() -> None:
        async with Slave({1: 1.0}).serve() as slave, above(tmp_path, broker) as cloud:
            own = {"A": device("A", slave)}
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, own), tmp_path, 600)
            gateway.start()
            try:
                await eventually_async(lambda: cloud.host.of("A"))
                good = cloud.slice_of({"A": device("A", slave, timeout_ms=300)})
                await cloud.offer(1, good)
                await cloud.until(1, Outcome.APPLIED)
                await cloud.offer(2, cloud.slice_of({"A": modbus_device("A", free_port(), 1, PERIOD_MS)}))
                await cloud.until(2, Outcome.ON_TRIAL)
                gateway.end(signal.SIGKILL)
                gateway.start()
                standing = await cloud.until(2, Outcome.ROLLED_BACK)
                assert (standing.version, standing.hash) == (1, hash_of(good))
                assert standing.answer is not None
                assert standing.answer.reason == "the gateway ended in its trial"
                await eventually_async(reads_on(cloud, "A"))
                assert cloud.host.of("A")[-1][2] == 0xC0
            finally:
                gateway.stop()

    asyncio.run(story())


def test_killed_at_any_moment_of_a_change_it_knows_where_it_stands(tmp_path: Path, broker: Broker) -> None:
    """By kill -9 while a version comes, is kept, tried or made good: it runs on that one or on the one before."""

    async def story() -> None:
        async with Slave({1: 1.0}).serve() as slave, above(tmp_path, broker) as cloud:
            own = {"A": device("A", slave)}
            slices = [cloud.slice_of({"A": device("A", slave, timeout_ms=300 + n)}) for n in range(5)]
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, own), tmp_path, 60)
            gateway.start()
            try:
                await eventually_async(lambda: cloud.host.of("A"))
                assert cloud.standing is not None
                good = (0, cloud.standing.hash)
                for version, pause_s in enumerate((0.0, 0.05, 1.0, 7.0), 1):
                    await cloud.offer(version, slices[version])
                    await asyncio.sleep(pause_s)
                    gateway.end(signal.SIGKILL)
                    told = len(cloud.host.fed)
                    gateway.start()
                    await eventually_async(has_news(cloud, told), 60)
                    standing = cloud.standing
                    if (standing.version, standing.hash) != good:
                        assert (standing.version, standing.hash) == (version, hash_of(slices[version]))
                        assert cloud.answered(version, Outcome.APPLIED)
                    good = (standing.version, standing.hash)
                    await eventually_async(reads_on(cloud, "A"))
                await cloud.offer(9, slices[0])
                await cloud.until(9, Outcome.APPLIED)
                assert not list((gateway.folder / "slices").glob("*.trial"))
            finally:
                gateway.stop()

    asyncio.run(story())


def test_without_a_cloud_it_runs_on_the_last_good_version(tmp_path: Path, broker: Broker) -> None:
    """The broker is gone, the newest file damaged, an old one under a new name: it starts on the last good one."""

    async def story() -> None:
        async with Slave({1: 1.0, 2: 2.0}).serve() as slave:
            async with above(tmp_path, broker) as cloud:
                devices = {"A": device("A", slave)}
                gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, devices), tmp_path, 60)
                gateway.start()
                try:
                    await eventually_async(lambda: cloud.host.of("A"))
                    for version, timeout_ms in ((1, 300), (2, 400)):
                        more = {"A": device("A", slave), "B": device("B", slave, 2, timeout_ms=timeout_ms)}
                        await cloud.offer(version, cloud.slice_of(more))
                        await cloud.until(version, Outcome.APPLIED)
                finally:
                    gateway.end(signal.SIGTERM)
            broker.stop()
            newest = gateway.folder / "slices" / f"{2:020d}.good"
            newest.write_bytes(newest.read_bytes()[:-1])
            older = newest.with_name(f"{1:020d}.good")
            newest.with_name(f"{7:020d}.good").write_bytes(older.read_bytes())
            gateway.start()
            try:
                await eventually_async(gateway.watches)
                status = gateway.status()
                assert [each["id"] for each in status["devices"]] == ["A", "B"]
                assert (status["slice"]["version"], status["slice"]["good"]) == (1, [7, 2, 1])
            finally:
                gateway.stop()

    asyncio.run(story())


def test_a_standing_alarm_outlives_a_change_and_a_new_limit_counts_at_once(tmp_path: Path, broker: Broker) -> None:
    """It stands with the same occurrence, raised once; the limit that a later version brings lets it return."""

    async def story() -> None:
        async with Slave({1: 500.0, 2: 2.0}).serve() as slave, above(tmp_path, broker) as cloud:

            def watched(limit: int) -> str:
                alarms = (
                    f", alarms: {{H: {{setpoint: {limit}, deadband: 1, off_delay_s: 0, priority: high}}, bad: false}}"
                )
                return device("A", slave)[:-1] + alarms + "}"

            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, {"A": watched(100)}), tmp_path, 60)
            gateway.start()
            try:
                await eventually_async(lambda: ("A/H", "raise") in cloud.told())
                (before,) = gateway.alarms()
                more = {"A": watched(100), "B": device("B", slave, 2)}
                await cloud.offer(1, cloud.slice_of(more))
                await cloud.until(1, Outcome.APPLIED)
                assert gateway.alarms() == [before]
                await cloud.offer(2, cloud.slice_of(more | {"A": watched(600)}))
                await cloud.until(2, Outcome.APPLIED)
                await eventually_async(lambda: ("A/H", "return") in cloud.told())
                assert [step for alarm, step in cloud.told() if alarm == "A/H"] == ["raise", "return"]
            finally:
                gateway.stop()

    asyncio.run(story())


def test_sensors_are_heard_while_others_come_and_go(tmp_path: Path, broker: Broker) -> None:
    """Of a sensor that stays, and of one whose rules change, every message is read, and once."""

    async def story() -> None:
        async with above(tmp_path, broker) as cloud:
            one, two, three = (sensor(name) for name in ("ONE", "TWO", "THREE"))
            gateway = ManagedGateway(plant(tmp_path / "plant", broker.mqtt, {"ONE": one, "TWO": two}), tmp_path, 60)
            gateway.start()
            sent, began_ms = 0, SystemClock().now_ns() // 1_000_000
            try:
                await eventually_async(lambda: gateway.status_or({}).get("sensors"))

                async def publish() -> bool:
                    nonlocal sent
                    sent += 1
                    for name in ("ONE", "TWO", "THREE"):
                        await cloud.client.publish(name, json.dumps({"v": sent, "t": began_ms + sent}))
                    return all(len(cloud.host.of(name)) > 5 for name in ("ONE", "TWO"))

                await eventually_async(publish)
                first = {name: cloud.host.of(name)[0][1] for name in ("ONE", "TWO")}
                changed = two.replace("[0, 9999]", "[0, 5000]")
                await cloud.offer(1, cloud.slice_of({"ONE": one, "TWO": changed, "THREE": three}))

                async def applied() -> bool:
                    await publish()
                    return cloud.answered(1, Outcome.APPLIED) and len(cloud.host.of("THREE")) > 5

                await eventually_async(applied, 60)
                await eventually_async(lambda: cloud.host.of("ONE")[-1][1] == cloud.host.of("TWO")[-1][1] == sent)
            finally:
                gateway.stop()
            for name, value in first.items():
                assert [reading[1] for reading in cloud.host.of(name)] == [
                    float(n) for n in range(int(value), sent + 1)
                ]

    asyncio.run(story())


def sensor(name: str) -> str:
    """Write a sensor with one point, which both have this name."""
    return (
        f"period_ms: 1000\nmqtt: {{topic: {name}, time: t}}\n"
        f"points:\n  - {{id: {name}, name: {name}, kind: generic, field: v, range: [0, 9999]}}"
    )


def test_a_siren_sounds_on_over_a_change_and_one_that_would_not_sound_is_no_change(
    tmp_path: Path, broker: Broker
) -> None:
    """It is never switched off meanwhile; a version under which it cannot be switched is rolled back.

    Where it moves to another coil for good the former one is switched off, and so is one that only a trial had.
    """

    async def story() -> None:
        unit = SwitchUnit()
        slaves, sirens = Slave({1: 500.0, 2: 2.0}).serve(), TcpUnits({1: unit})
        async with slaves as slave, sirens as units, above(tmp_path, broker) as cloud:

            def siren(port: int, coil: int = COIL) -> str:
                at = f"modbus: {{port: {port}, timeout_ms: 300}}"
                return f"    outputs: [{{id: SIREN, kind: siren, {at}, address: {coil}, refresh_ms: 500}}]"

            alarms = ", alarms: {H: {setpoint: 100, deadband: 1, priority: high}, bad: false}}"
            own = {"A": device("A", slave)[:-1] + alarms}
            folder = plant(tmp_path / "plant", broker.mqtt, own, siren(units.port))
            gateway = ManagedGateway(folder, tmp_path, 5)
            gateway.start()
            try:
                await eventually_async(lambda: unit.coils.get(COIL) == 1)
                written = len(unit.written)
                more = own | {"B": device("B", slave, 2)}
                await cloud.offer(1, cloud.slice_of(more, siren(units.port)))
                await cloud.until(1, Outcome.APPLIED)
                await cloud.offer(2, cloud.slice_of(more, siren(free_port())))
                standing = await cloud.until(2, Outcome.ROLLED_BACK)
                assert standing.answer is not None
                assert standing.answer.reason.startswith("output SIREN: ")
                await eventually_async(lambda: not gateway.status()["faults"])
                lost = more | {"A": modbus_device("A", free_port(), 1, PERIOD_MS)[:-1] + alarms}
                await cloud.offer(3, cloud.slice_of(lost, siren(units.port, COIL + 1)))
                await eventually_async(lambda: unit.coils.get(COIL + 1) == 1)
                await cloud.until(3, Outcome.ROLLED_BACK)
                await eventually_async(lambda: unit.coils[COIL + 1] == 0)
                assert len(unit.written) > written
                assert {value for _, coil, value in unit.written[written:] if coil == COIL} == {1}
                await cloud.offer(4, cloud.slice_of(more, siren(units.port, COIL + 2)))
                await cloud.until(4, Outcome.APPLIED)
                assert unit.coils[COIL + 2] == 1
                await eventually_async(lambda: unit.coils[COIL] == 0)
                # Nobody knows of the one that was never reached.
                await eventually_async(lambda: len(gateway.status()["warning_alone"]["leaving"]) == 1)
                assert 'tocsin_edge_outputs_left_total{as="off"} 2\n' in ask(gateway.folder, "/metrics")
                assert unit.coils == {COIL: 0, COIL + 1: 0, COIL + 2: 1}
            finally:
                gateway.stop()

    asyncio.run(story())
