"""A real gateway warns alone: siren, button and journal, whatever becomes of the cloud side, the disk, or itself."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.edge.rig import Gateway, Host, Link, Slave, modbus_device, plant
from tests.edge.send_rig import HangingGateway, LimitedGateway
from tests.support.modbus_switches import Fault, SwitchUnit
from tests.support.modbus_units import TcpUnits
from tests.support.nats import Broker, nats_broker
from tests.support.wait import eventually_async
from tocsin_cli.gateway import app
from tocsin_core.clock import SystemClock
from tocsin_core.engine import initial, occurrence_id, step
from tocsin_core.journal import OBEYED, OVERTAKEN, Entry, Naming, Order, decode, encode_naming, encode_order
from tocsin_core.lifecycle import Event, Phase, RefusalReason, Verb
from tocsin_core.plant import load_plant
from tocsin_core.sparkplug import journal_committed, orders
from tocsin_edge.adapters.metrics import ask, tell
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops.alarm_restore import engine_numbers, heard
from tocsin_edge.settings import compile_settings

ALARMS = ", alarms: {H: {setpoint: 100, deadband: 1, priority: high}, bad: false}"
ALARM = "A/H"
SIREN, BEACON, LAMP, BUTTON = 7, 8, 9, 3
LIMIT = 20_000


@dataclass
class Story:
    """A gateway, the sensor A that it reads, the unit that it switches, and the host that it tells."""

    gateway: Gateway
    slave: Slave
    unit: SwitchUnit
    host: Host

    def be(self, value: float) -> None:
        """Let A read this from now on."""
        self.slave.value[1] = value

    def outputs(self) -> tuple[int | None, int | None]:
        """Siren and beacon, as they are."""
        return self.unit.coils.get(SIREN), self.unit.registers.get(BEACON)

    async def press(self) -> None:
        """Hold the button down, once the gateway knows that it is up, until it has seen it, and let it go."""
        await eventually_async(lambda: self.figures()["buttons"][0]["pressed"] is False)
        before = self.figures()["buttons"][0]["presses"]
        self.unit.inputs[BUTTON] = 1
        await eventually_async(lambda: self.figures()["buttons"][0]["presses"] > before)
        self.unit.inputs[BUTTON] = 0

    def figures(self) -> dict[str, Any]:
        """The page on its alarms."""
        try:
            found: dict[str, Any] = json.loads(ask(self.gateway.spool.parent, "/alarms"))
        except OSError:
            return {"alarms": [], "buttons": [{"presses": 0, "pressed": None}], "outputs": []}
        return found

    def told(self) -> list[tuple[str, Event | None, Phase]]:
        """What the host heard of the journal."""
        return [(each.alarm, each.event, each.phase) for each in self.host.entries]


@asynccontextmanager
async def staged(gateway: Gateway, port: int, mqtt: int) -> AsyncIterator[Story]:
    """Everything but the gateway runs; its plant says to reach the broker at `mqtt`."""
    unit = SwitchUnit()
    async with Slave({1: 1.5}).serve() as slave, TcpUnits({1: unit}) as units, Host(port).listen() as host:
        at = f"modbus: {{port: {units.port}, timeout_ms: 300}}"
        device = modbus_device("A", slave.port, period_ms=100, timeout_ms=300)[:-1] + ALARMS + "}"
        extra = "\n".join(
            (
                "    outputs:",
                f"      - {{id: SIREN, kind: siren, {at}, address: {SIREN}, refresh_ms: 500}}",
                f"      - {{id: BEACON, kind: beacon, {at}, function: 16, address: {BEACON}, on: 255}}",
                f"      - {{id: LAMP, kind: relay, {at}, address: {LAMP}, min_priority: critical}}",
                f"    acknowledge: [{{id: ACK, {at}, address: {BUTTON}, period_ms: 100}}]",
            )
        )
        plant(gateway.spool.parents[3] / "plant", mqtt, {"A": device}, extra)
        yield Story(gateway, slave, unit, host)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker."""
    with nats_broker(tmp_path) as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[LimitedGateway]:
    """Give a gateway that is not started, and end it."""
    process = LimitedGateway(tmp_path / "plant", tmp_path / "data")
    yield process
    process.stop()


def play(gateway: Gateway, port: int, story: Callable[[Story], Awaitable[None]]) -> None:
    """Run `story` with the gateway started."""

    async def whole() -> None:
        async with staged(gateway, port, port) as stage:
            gateway.start()
            await eventually_async(lambda: stage.outputs() == (0, 0))
            await story(stage)

    asyncio.run(whole())


def test_the_siren_sounds_until_the_button_is_pressed_and_the_beacon_until_it_is_over(
    broker: Broker, gateway: Gateway
) -> None:
    """The journal tells each step with one onset; nothing is ever written but the outputs' own addresses."""

    async def story(stage: Story) -> None:
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await stage.press()
        await eventually_async(lambda: stage.outputs() == (0, 255))
        stage.be(1.0)
        await eventually_async(lambda: stage.outputs() == (0, 0))
        await eventually_async(lambda: len(stage.host.entries) == 3)
        assert stage.told() == [
            (ALARM, Event.RAISE, Phase.UNACKNOWLEDGED),
            (ALARM, Event.ACKNOWLEDGE, Phase.ACKNOWLEDGED),
            (ALARM, Event.RETURN, Phase.NORMAL),
        ]
        raised, acknowledged, returned = stage.host.entries
        assert raised.onset_ns == raised.time_ns == acknowledged.onset_ns == returned.onset_ns
        # The reading that raised it went up with this very time.
        assert (raised.time_ns, 150.0) in [(time_ns, value) for time_ns, value, _ in stage.host.of("A")]
        assert acknowledged.who == "ACK"
        written = {(function, address) for function, address, _ in stage.unit.written}
        assert written == {(5, SIREN), (16, BEACON), (5, LAMP)}
        # Only critical alarms light the lamp.
        assert {value for _, address, value in stage.unit.written if address == LAMP} == {0}
        assert stage.host.clashes == 0
        await eventually_async(lambda: gateway.counters()["journal_committed"] == gateway.counters()["journal_last"])

    play(gateway, broker.mqtt, story)


def test_without_any_cloud_side_it_warns_all_the_same(broker: Broker, gateway: Gateway) -> None:
    """Nobody is at the other end of the uplink: outputs follow, the page tells; later the journal goes up first."""

    async def story() -> None:
        async with Link(broker.mqtt).open() as link, staged(gateway, broker.mqtt, link.port) as stage:
            await link.cut()
            gateway.start()
            await eventually_async(lambda: stage.outputs() == (0, 0))
            stage.be(150.0)
            await eventually_async(lambda: stage.outputs() == (1, 255))
            (alarm,) = stage.figures()["alarms"]
            assert (alarm["alarm"], alarm["phase"]) == (ALARM, "unacknowledged")
            assert alarm["occurrence"] == occurrence_id(ALARM, alarm["onset_ns"])
            assert stage.host.entries == []
            link.whole = True
            await eventually_async(lambda: len(stage.host.entries) == 1)
            assert stage.host.entries[0].onset_ns == alarm["onset_ns"]
            await assert_called_as_above(stage, alarm["onset_ns"])
            kinds = [fed.kind for fed in stage.host.fed]
            first = next(at for at, fed in enumerate(stage.host.fed) if fed.journal and fed.journal.entries)
            assert kinds[0] == "NBIRTH"
            assert "DDATA" not in kinds[:first]

    asyncio.run(story())


def test_killed_in_the_middle_no_alarm_is_doubled_and_none_is_lost(broker: Broker, gateway: Gateway) -> None:
    """Kill -9 at every stage of an alarm's life: one onset for each raising, and each step told once."""

    async def again(stage: Story) -> None:
        gateway.end(signal.SIGKILL)
        gateway.start()
        await eventually_async(lambda: stage.figures()["outputs"] != [])

    async def story(stage: Story) -> None:
        await again(stage)
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        stage.unit.coils.clear()
        await again(stage)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await stage.press()
        await eventually_async(lambda: stage.outputs() == (0, 255))
        await again(stage)
        (alarm,) = stage.figures()["alarms"]
        assert alarm["phase"] == "acknowledged"
        stage.be(1.0)
        await eventually_async(lambda: stage.outputs() == (0, 0))
        await again(stage)
        assert stage.figures()["alarms"] == []
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await eventually_async(lambda: len(stage.host.entries) == 4)
        assert [event for _, event, _ in stage.told()] == [Event.RAISE, Event.ACKNOWLEDGE, Event.RETURN, Event.RAISE]
        onsets = [each.onset_ns for each in stage.host.entries]
        assert onsets[0] == onsets[1] == onsets[2] < onsets[3]
        assert stage.host.clashes == 0

    play(gateway, broker.mqtt, story)


def test_what_the_journal_said_outlives_a_snapshot_that_is_gone(broker: Broker, gateway: Gateway) -> None:
    """Without its state the detectors begin anew, and an alarm that stands still stands, under the onset it had."""

    async def story(stage: Story) -> None:
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        state = gateway.spool.parent / "alarms.state"
        await eventually_async(state.exists)
        gateway.end(signal.SIGKILL)
        state.write_bytes(state.read_bytes()[:-1])
        gateway.start()
        await eventually_async(lambda: stage.figures()["alarms"] != [])
        seen = len(stage.host.of("A"))
        await eventually_async(lambda: len(stage.host.of("A")) > seen + 10)
        assert [event for _, event, _ in stage.told()] == [Event.RAISE]
        assert stage.figures()["alarms"][0]["onset_ns"] == stage.host.entries[0].onset_ns
        assert "the alarms' state is damaged" in gateway.log.read_text(encoding="utf-8")

    play(gateway, broker.mqtt, story)


def test_on_a_full_disk_alarms_go_on_and_their_journal_is_kept_later(broker: Broker, gateway: LimitedGateway) -> None:
    """Siren and uplink do not wait for the disk; each entry keeps its number, and nothing is told twice."""

    async def story(stage: Story) -> None:
        gateway.limit(LIMIT)
        await eventually_async(lambda: "spool takes nothing" in gateway.log.read_text(encoding="utf-8"), timeout_s=60)
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await eventually_async(lambda: len(stage.host.entries) == 1)
        assert stage.figures()["journal"]["held"] == 1
        await stage.press()
        await eventually_async(lambda: len(stage.host.entries) == 2)
        gateway.limit()
        await eventually_async(lambda: stage.figures()["journal"]["held"] == 0, timeout_s=60)
        stage.be(1.0)
        await eventually_async(lambda: len(stage.host.entries) == 3)
        await eventually_async(lambda: gateway.counters()["journal_committed"] == gateway.counters()["journal_last"])
        assert [event for _, event, _ in stage.told()] == [Event.RAISE, Event.ACKNOWLEDGE, Event.RETURN]
        assert len({each.onset_ns for each in stage.host.entries}) == 1
        assert stage.host.clashes == 0
        numbers = sorted(stage.host.journal)
        assert numbers == list(range(numbers[0], numbers[0] + 3))

    play(gateway, broker.mqtt, story)


def test_while_the_disk_hangs_alarms_go_on_and_everything_is_kept_once_later(broker: Broker, tmp_path: Path) -> None:
    """Siren, journal and live readings do not wait for it; it is said; nothing is lost or told twice in the end."""
    gateway = HangingGateway(tmp_path / "plant", tmp_path / "data")

    async def story(stage: Story) -> None:
        await eventually_async(lambda: len(stage.host.of("A")) > 3)
        gateway.hang.touch()
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await eventually_async(lambda: len(stage.host.entries) == 1)
        seen = len(stage.host.of("A"))
        await eventually_async(lambda: len(stage.host.of("A")) > seen + 10)
        assert "the disk takes nothing, readings wait in memory: the disk hangs" in status_of(gateway)["warnings"]
        await stage.press()
        await eventually_async(lambda: len(stage.host.entries) == 2)
        assert stage.figures()["journal"]["held"] == 2
        gateway.hang.unlink()
        await eventually_async(lambda: stage.figures()["journal"]["held"] == 0)
        stage.be(1.0)
        await eventually_async(lambda: len(stage.host.entries) == 3)
        await eventually_async(lambda: gateway.counters()["journal_committed"] == gateway.counters()["journal_last"])
        assert [event for _, event, _ in stage.told()] == [Event.RAISE, Event.ACKNOWLEDGE, Event.RETURN]
        assert len({each.onset_ns for each in stage.host.entries}) == 1
        assert stage.host.clashes == 0
        assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
        counters = gateway.counters()
        await eventually_async(lambda: len(stage.host.readings) == counters["readings_polled"])
        assert counters["readings_committed"] == counters["readings_polled"]
        assert counters["readings_dropped"] == 0

    try:
        play(gateway, broker.mqtt, story)
    finally:
        gateway.stop()


def status_of(gateway: Gateway) -> dict[str, Any]:
    """What the gateway says of itself."""
    found: dict[str, Any] = json.loads(ask(gateway.spool.parent, "/status"))
    return found


async def assert_called_as_above(stage: Story, onset_ns: int) -> None:
    """What the cloud side knows under another onset has its id here, too; only that occurrence of that alarm has."""
    known = Naming(ALARM, onset_ns, onset_ns - 1)
    for naming, called in (
        (known, onset_ns - 1),
        (replace(known, onset_ns=onset_ns + 1), onset_ns),
        (known, onset_ns - 1),
    ):
        said = [encode_naming(naming), encode_naming(replace(naming, alarm="B/H")), b"no"]
        await stage.host.command(journal_committed(stage.host.journal_floor, onset_ns // 1_000_000, said))
        wanted = occurrence_id(ALARM, called)
        await eventually_async(partial(is_called, stage, wanted))


def is_called(stage: Story, wanted: str) -> bool:
    """Whether the gateway's page shows that id."""
    (alarm,) = stage.figures()["alarms"]
    return bool(alarm["occurrence"] == wanted)


def order(name: str, verb: Verb, at_ns: int, alarm: str = ALARM, onset_ns: int = 0, until_ns: int = 0) -> Order:
    """A person's order from the cloud side."""
    return Order(name, verb, alarm, at_ns, "li", "because", onset_ns, until_ns)


def test_orders_are_obeyed_once_unless_somebody_here_was_later(broker: Broker, gateway: Gateway) -> None:
    """Each is answered by one journal entry that names it, carried out or not, also after a kill -9."""

    async def story(stage: Story) -> None:
        clock = SystemClock()

        async def say(*said: Order) -> None:
            await stage.host.command(orders([encode_order(each) for each in said], clock.now_ns() // 1_000_000))

        def answers() -> dict[str, Entry]:
            return {each.command: each for each in stage.host.entries if each.command}

        stage.be(150.0)
        await eventually_async(lambda: len(stage.host.entries) == 1)
        onset_ns = stage.host.entries[0].onset_ns
        before_ns = clock.now_ns()
        shelve = order("o1", Verb.SHELVE, clock.now_ns(), until_ns=clock.now_ns() + 600 * 10**9)
        await say(shelve, shelve, order("o2", Verb.ACKNOWLEDGE, clock.now_ns(), onset_ns=onset_ns - 1))
        await eventually_async(lambda: answers().keys() == {"o1", "o2"})
        # What is shelved is not warned of.
        await eventually_async(lambda: stage.outputs() == (0, 0))
        assert (answers()["o1"].event, answers()["o1"].until_ns) == (Event.SHELVE, shelve.until_ns)
        assert answers()["o1"].time_ns == shelve.at_ns
        assert answers()["o2"].refusal == RefusalReason.ANOTHER_OCCURRENCE
        wish = {"verb": "unshelve", "alarms": [ALARM], "who": "wang"}
        told = json.loads(await asyncio.to_thread(tell, gateway.spool.parent, "/alarms", json.dumps(wish)))
        assert told == {"outcomes": [{"alarm": ALARM, "refusal": ""}]}
        await eventually_async(lambda: stage.outputs() == (1, 255))
        born = stage.host.kinds().count("NBIRTH")
        gateway.end(signal.SIGKILL)
        gateway.start()
        await eventually_async(lambda: stage.host.kinds().count("NBIRTH") > born)
        late = order("o3", Verb.SHELVE, before_ns, until_ns=clock.now_ns() + 600 * 10**9)
        await say(shelve, late, order("o4", Verb.ACKNOWLEDGE, clock.now_ns(), alarm="B/H"))
        await say(order("o5", Verb.ACKNOWLEDGE, clock.now_ns(), onset_ns=onset_ns))
        await eventually_async(lambda: {"o3", "o4", "o5"} <= answers().keys())
        assert answers()["o3"].refusal == OVERTAKEN
        assert answers()["o4"].refusal
        assert (answers()["o5"].event, answers()["o5"].who) == (Event.ACKNOWLEDGE, "li")
        # That came again although its answer had been taken: it was lost above, and is given again.
        assert [(each.event, each.refusal) for each in stage.host.entries if each.command == "o1"] == [
            (Event.SHELVE, ""),
            (None, OBEYED),
        ]
        assert {each.time_ns for each in stage.host.entries if each.command == "o1"} == {shelve.at_ns}
        await eventually_async(lambda: stage.outputs() == (0, 255))
        assert stage.host.clashes == 0

    play(gateway, broker.mqtt, story)


def test_an_output_that_cannot_be_switched_is_a_fault(broker: Broker, gateway: Gateway) -> None:
    """Told in the status, which then is not well, and in the figures; the sensor is read on."""

    async def story(stage: Story) -> None:
        stage.unit.fault = Fault.SILENT
        stage.be(150.0)

        def status() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(ask(gateway.spool.parent, "/status"))
            return found

        await eventually_async(lambda: "output SIREN: no answer" in status()["faults"])
        assert not status()["watching"]
        assert 'tocsin_edge_output_failing{output="SIREN"} 1' in ask(gateway.spool.parent, "/metrics")
        assert 'tocsin_edge_output_wanted{output="SIREN"} 1' in ask(gateway.spool.parent, "/metrics")
        seen = len(stage.host.of("A"))
        await eventually_async(lambda: len(stage.host.of("A")) > seen + 10)
        stage.unit.fault = Fault.NONE
        await eventually_async(lambda: stage.outputs() == (1, 255))
        await eventually_async(lambda: status()["watching"])

    play(gateway, broker.mqtt, story)


def test_commands_are_checked_and_taken_on_the_socket_alone(broker: Broker, gateway: Gateway) -> None:
    """What is no command is refused with the reason; an alarm that is not there, and one at rest, say so."""

    async def story(stage: Story) -> None:
        folder = gateway.spool.parent

        async def refused(body: str) -> str:
            with pytest.raises(ValueError, match=r"\w") as told:
                await asyncio.to_thread(tell, folder, "/alarms", body)
            return str(told.value)

        assert "no others" in await refused('{"verb": "ack", "who": "x", "what": 1}')
        assert "who" in await refused('{"verb": "ack"}')
        assert "sing" in await refused('{"verb": "sing", "who": "x"}')
        assert "duration_s" in await refused('{"verb": "shelve", "who": "x", "duration_s": -1}')
        assert await refused("no JSON")
        wish = {"verb": "ack", "alarms": [ALARM, "B/H"], "who": "x"}
        told = json.loads(await asyncio.to_thread(tell, folder, "/alarms", json.dumps(wish)))
        assert [each["refusal"] for each in told["outcomes"]] == [
            RefusalReason.NOT_ACTIVE,
            "no such alarm is decided here",
        ]
        await eventually_async(lambda: len(stage.host.of("A")) > 2)
        assert stage.host.entries == []

    play(gateway, broker.mqtt, story)


def test_the_verbs_on_the_gateways_machine(broker: Broker, gateway: Gateway) -> None:
    """List, shelve, take from the shelf and acknowledge; 1 where something is refused, 2 where nobody answers."""
    data = gateway.spool.parents[2]

    async def said(*words: str) -> tuple[int, str]:
        arguments = [*words, "--data", str(data), "--gateway", "gw"]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        return result.exit_code, result.output

    async def story(stage: Story) -> None:
        assert (await said("ack"))[1] == "no alarm waits to be acknowledged\n"
        stage.be(150.0)
        await eventually_async(lambda: stage.outputs() == (1, 255))
        assert await said("shelve", ALARM, "--reason", "tested", "--minutes", "9999", "--who", "wang") == (
            1,
            f"{ALARM}: {RefusalReason.TOO_LONG}\n",
        )
        assert (await said("shelve", ALARM, "--reason", "tested", "--minutes", "5", "--who", "wang"))[0] == 0
        code, text = await said("alarms")
        assert code == 0
        assert f"{ALARM}  high  unacknowledged  shelved\n" in text
        assert "siren SIREN: should be off" in text
        assert (await said("unshelve", ALARM))[0] == 0
        code, text = await said("ack", "--json")
        assert json.loads(text) == {"outcomes": [{"alarm": ALARM, "refusal": ""}]}
        await eventually_async(lambda: stage.outputs() == (0, 255))
        await eventually_async(lambda: len(stage.host.entries) == 4)
        assert stage.host.entries[1].who == "wang"
        assert (await said("reset", ALARM))[0] == 1
        gateway.end(signal.SIGTERM)
        assert (await said("alarms"))[0] == 2

    play(gateway, broker.mqtt, story)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_the_journal_is_that_of_one_engine_over_all_that_was_kept(
    broker: Broker, gateway: Gateway, tmp_path: Path, seed: int
) -> None:
    """A sensor that swings, kill -9 whenever it comes: each step told once, with the times of the kept readings."""
    rng = np.random.default_rng(seed)

    async def more(stage: Story) -> None:
        before = len(stage.host.of("A"))
        await eventually_async(lambda: len(stage.host.of("A")) > before)

    async def story(stage: Story) -> None:
        for _ in range(6):
            seen = len(stage.host.of("A"))
            wanted = seen + int(rng.integers(3, 15))
            while len(stage.host.of("A")) < wanted:
                stage.be(float(rng.choice([1.0, 150.0])))
                await more(stage)
            gateway.end(signal.SIGKILL)
            gateway.start()
        await eventually_async(lambda: stage.figures()["outputs"] != [])
        assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0

    play(gateway, broker.mqtt, story)
    alarms = compile_settings(load_plant(tmp_path / "plant"), "gw", tmp_path / "data").alarms
    state, expected = initial(alarms.rules, 0), []
    with closing(Spool.open(gateway.spool, 64, 600, 0)) as spool:
        for batch in spool.since(0, 1_000_000):
            frame = heard(alarms.rules, batch.columns, engine_numbers(alarms, batch.device, batch.metrics))
            state, result = step(state, alarms.rules, frame, [], int(frame.time_ns.max()))
            expected += [(each.event, each.time_ns, each.onset_ns) for each in result.transitions]
        told = [decode(entry.body) for entry in spool.journal.since(0)]
    assert [(each.event, each.time_ns, each.onset_ns) for each in told] == expected
    assert len(expected) > 4


BROKEN = """
from tocsin_edge.loops import local_alarms
step = local_alarms.step
def broken(state, rules, frame, *rest):
    if len(frame) and frame.value.max() > 100.0:
        raise ArithmeticError("the engine is broken")
    return step(state, rules, frame, *rest)
local_alarms.step = broken
from tocsin_cli.main import main
main()
"""


class BrokenGateway(Gateway):
    """A real gateway process whose engine fails at the first alarm."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self._command[2] = BROKEN

    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        assert self._process is not None
        return self._process.poll()


def test_an_error_in_the_engine_ends_the_gateway(broker: Broker, tmp_path: Path) -> None:
    """It does not go on reading as if it watched: it exits with an error, for its service manager to start it anew."""
    gateway = BrokenGateway(tmp_path / "plant", tmp_path / "data")

    async def story(stage: Story) -> None:
        await eventually_async(lambda: len(stage.host.of("A")) > 3)
        assert gateway.exit_code() is None
        stage.be(150.0)
        await eventually_async(lambda: gateway.exit_code() is not None)
        assert gateway.exit_code() not in (0, None)
        assert "the engine is broken" in gateway.log.read_text(encoding="utf-8")

    try:
        play(gateway, broker.mqtt, story)
    finally:
        gateway.stop()
