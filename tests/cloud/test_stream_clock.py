"""What the alarms worker makes of the stream's clock."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, PLANT, POINT, SITE, columns, plant_folder
from tests.cloud.test_alarms import Rig, rig
from tests.cloud.test_callings import ticking
from tests.support.hostile import NOW_NS
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.snapshot import load as load_snapshot
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.alarms import COMMAND, TICK
from tocsin_core import engine
from tocsin_core.plant import Plant, load_plant
from tocsin_core.rules import NS
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug import Message as Said


def silent_after(seconds: int, folder: Path) -> Plant:
    """The small plant, in which P1 is stale after so long."""
    (plant_folder(folder) / "plant.yaml").write_text(
        PLANT.replace("stale: false", f"stale: {{after_s: {seconds}}}", 1), encoding="utf-8"
    )
    return load_plant(folder)


HOUR_NS: Final = 3600 * NS
SHELVE: Final = b'{"id": "1", "verb": "shelve", "alarm": "P1/H", "who": "li", "reason": "repair", "duration_s": 60}'


class Story:
    """A gateway that reads P1 each second, and a stream by a clock of its own."""

    def __init__(self, folder: Path, *, server_ahead_ns: int = 0, gateway_ahead_ns: int = 0) -> None:
        """Have both born."""
        self.of = silent_after(10, folder)
        self.ears = Ears(of=self.of)
        self.now_ns = NOW_NS
        self.server_ahead_ns, self.gateway_ahead_ns = server_ahead_ns, gateway_ahead_ns
        self.session = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric(POINT), EdgeMetric("P2")))])
        self.said: list[Message] = []
        self.told: list[tuple[str, str]] = []
        self.batch = 0
        self._say(self.session.nbirth(0, 1, self.gateway_ms))
        self._say(self.session.dbirth(DEVICE, columns({0: 0.0, 1: 0.0}, self.gateway_ms), 0, self.gateway_ms))

    @property
    def gateway_ms(self) -> int:
        """The time by the gateway's clock."""
        return (self.now_ns + self.gateway_ahead_ns) // 1_000_000

    def read(self, *values: float) -> list[tuple[str, str]]:
        """Let a second pass for each of `values`, and the gateway read it; returns what alarms did."""
        before = len(self.told)
        for value in values:
            self.silence(1)
            self.send(value)
        return self.told[before:]

    def silence(self, seconds: int) -> list[tuple[str, str]]:
        """Let so much time pass; returns what alarms did."""
        before = len(self.told)
        for _ in range(seconds):
            self.now_ns += NS
            self.put(TICK + SITE, b"")
        return self.told[before:]

    def send(self, value: float, *, read_ms: int | None = None) -> None:
        """Let the gateway send what it has just read, or what it read at `read_ms`."""
        self.batch += 1
        read, late = columns({0: value}, read_ms or self.gateway_ms), read_ms is not None
        self._say(self.session.ddata(DEVICE, read, self.batch, self.gateway_ms, historical=late))

    def put(self, topic: str, payload: bytes) -> None:
        """Let the server take a message."""
        self.said.append(Message(len(self.said) + 1, self.now_ns + self.server_ahead_ns, topic, payload))
        self.told += _told(self.ears, self.said[-1:])

    def _say(self, message: Said) -> None:
        self.put(message.topic, message.payload)


def _told(ears: Ears, messages: Sequence[Message]) -> list[tuple[str, str]]:
    steps = (step.transition for step in ears.hear(messages).steps)
    definitions = ears.alarms._rules.definitions  # noqa: SLF001 -- shown nowhere else
    return [(definitions[each.definition].id, each.event.text) for each in steps]


def test_it_is_the_same_however_the_stream_is_portioned(tmp_path: Path) -> None:
    """A candidate, a replay after a kill and the one who heard it live know of the same silences."""
    story = Story(tmp_path)
    story.read(1.0, 60.0)
    assert story.silence(12) == [("P1/stale", "raise")]
    story.server_ahead_ns = -HOUR_NS
    story.read(60.0, 1.0)
    assert story.silence(12) == [("P1/stale", "raise")]
    story.server_ahead_ns = 0
    story.read(1.0, 60.0)
    story.server_ahead_ns = -HOUR_NS
    assert story.read(1.0, 60.0) == [("P1/H", "return"), ("P1/H", "raise")]
    again = Ears(of=story.of)
    assert _told(again, story.said) == story.told
    assert _state(again) == _state(story.ears)


def _state(ears: Ears) -> bytes:
    worker = ears.alarms
    assert worker._state is not None  # noqa: SLF001 -- shown nowhere else
    return engine.snapshot(worker._state, worker._rules)  # noqa: SLF001 -- the same


@pytest.mark.parametrize(
    ("server", "gateway"),
    [((0, -1), (0, 0)), ((0, -1), (0, -1)), ((1, 0), (0, 0)), ((24, 0), (24, 0)), ((9000, 0), (0, 0))],
)
def test_alarms_and_silences_are_told_as_ever(
    tmp_path: Path, server: tuple[int, int], gateway: tuple[int, int]
) -> None:
    """Hours ahead of the right time, before and after: of the server alone, or of a gateway that goes by it."""
    story = Story(tmp_path, server_ahead_ns=server[0] * HOUR_NS, gateway_ahead_ns=gateway[0] * HOUR_NS)
    assert story.read(*[1.0] * 5, 60.0) == [("P1/H", "raise")]
    story.server_ahead_ns, story.gateway_ahead_ns = server[1] * HOUR_NS, gateway[1] * HOUR_NS
    assert story.read(60.0, 1.0) == [("P1/H", "return")]
    live = story.ears.live
    assert (float(live.value[0]), live.clock_steps_back) == (1.0, 1)
    assert live.gateways[SITE, GATEWAY].since_ns in range(1, story.now_ns + story.server_ahead_ns)
    assert story.read(60.0) == [("P1/H", "raise")]
    assert story.silence(8) == []
    assert story.silence(3) == [("P1/stale", "raise")]
    assert story.read(60.0) == [("P1/stale", "return")]


@pytest.mark.parametrize(("server", "gateway"), [((0, -1), (0, 0)), ((0, -1), (0, -1)), ((1, 0), (0, 0))])
@pytest.mark.parametrize("age_s", [6, 600, 3500, 3700, 9000])
def test_what_is_sent_late_is_late_as_ever(
    tmp_path: Path, server: tuple[int, int], gateway: tuple[int, int], age_s: int
) -> None:
    """A backlog goes up while the clock is set back: nothing of it is of now, whichever clock stamped it."""
    story = Story(tmp_path, server_ahead_ns=server[0] * HOUR_NS, gateway_ahead_ns=gateway[0] * HOUR_NS)
    story.read(*[1.0] * 9)
    stamped_ms = story.gateway_ms - age_s * 1000
    story.server_ahead_ns, story.gateway_ahead_ns = server[1] * HOUR_NS, gateway[1] * HOUR_NS
    story.send(60.0, read_ms=stamped_ms)
    assert story.read(1.0) == []
    story.send(60.0, read_ms=stamped_ms)
    assert story.read(1.0) == []


def test_a_shelf_lasts_as_long_as_was_asked(tmp_path: Path) -> None:
    """Of a server that was a year ahead it would else have lasted for one."""
    story = Story(tmp_path, server_ahead_ns=9000 * HOUR_NS)
    story.put(COMMAND + SITE, SHELVE)
    assert story.read(*[1.0] * 30) == []
    story.server_ahead_ns = 0
    assert story.read(*[1.0] * 40) == [("P1/H", "unshelve")]


def test_a_silence_that_stands_and_one_that_has_begun_are_not_told_twice(tmp_path: Path) -> None:
    """What is silent stays so; what has just fallen silent is told a little later."""
    story = Story(tmp_path)
    story.read(1.0)
    assert story.silence(5) == []
    story.server_ahead_ns = -HOUR_NS
    assert story.silence(12) == [("P1/stale", "raise")]
    story.server_ahead_ns = -2 * HOUR_NS
    assert story.silence(30) == []
    assert story.read(1.0) == [("P1/stale", "return")]


def test_a_silence_that_was_told_is_no_news_to_whoever_reads_the_stream_again(tmp_path: Path) -> None:
    """From a snapshot of before it: one occurrence, acknowledged as it was, and nobody is called again."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.plant = silent_after(1, tmp_path / "silent")
            async with r.working():
                await eventually_async(lambda: load_snapshot(tmp_path / "s.npz") is not None)
            old = (tmp_path / "s.npz").read_bytes()
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: float(r.live.value[0]) == 1.0)
                async with ticking(r):
                    await eventually_async(lambda: _events(r, ["raise"]))
                (told,) = await r.all(sql.Occurrence)
                answer = await r.command("ack", alarm=told.alarm, occurrence=told.id)
                assert answer.accepted
            (tmp_path / "s.npz").write_bytes(old)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _events(r, ["raise", "acknowledge", "return"]))
            assert len(await r.all(sql.Occurrence)) == 1

    asyncio.run(story())


async def _events(r: Rig, events: list[str]) -> bool:
    found = [row.event for row in await r.all(sql.Transition)]
    assert found == events[: len(found)]
    return found == events
