"""What the alarms worker makes of the stream's clock."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, PLANT, POINT, SITE, columns, plant_folder
from tests.cloud.test_alarms import Rig, rig
from tests.cloud.test_callings import ticking
from tests.support.hostile import NOW_NS
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.snapshot import load as load_snapshot
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.alarms import TICK
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


class Story:
    """A gateway that reads P1 each second, and a stream by a clock of its own."""

    def __init__(self, folder: Path) -> None:
        """Have both born."""
        self.of = silent_after(10, folder)
        self.ears = Ears(of=self.of)
        self.now_ns = NOW_NS
        self.session = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric(POINT), EdgeMetric("P2")))])
        self.said: list[Message] = []
        self.told: list[tuple[str, str]] = []
        self.batch = 0
        self._say(self.session.nbirth(0, 1, self.gateway_ms))
        self._say(self.session.dbirth(DEVICE, columns({0: 0.0, 1: 0.0}, self.gateway_ms), 0, self.gateway_ms))

    @property
    def gateway_ms(self) -> int:
        """The time by the gateway's clock."""
        return self.now_ns // 1_000_000

    def read(self, *values: float) -> list[tuple[str, str]]:
        """Let a second pass for each of `values`, and the gateway read it; returns what alarms did."""
        before = len(self.told)
        for value in values:
            self.silence(1)
            self.batch += 1
            read = columns({0: value}, self.gateway_ms)
            self._say(self.session.ddata(DEVICE, read, self.batch, self.gateway_ms, historical=False))
        return self.told[before:]

    def silence(self, seconds: int) -> list[tuple[str, str]]:
        """Let so much time pass; returns what alarms did."""
        before = len(self.told)
        for _ in range(seconds):
            self.now_ns += NS
            self.put(TICK + SITE, b"")
        return self.told[before:]

    def put(self, topic: str, payload: bytes) -> None:
        """Let the server take a message."""
        self.said.append(Message(len(self.said) + 1, self.now_ns, topic, payload))
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
    again = Ears(of=story.of)
    assert _told(again, story.said) == story.told
    assert _state(again) == _state(story.ears)


def _state(ears: Ears) -> bytes:
    worker = ears.alarms
    assert worker._state is not None  # noqa: SLF001 -- shown nowhere else
    return engine.snapshot(worker._state, worker._rules)  # noqa: SLF001 -- the same


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
