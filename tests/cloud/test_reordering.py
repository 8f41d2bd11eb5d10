"""The historian waits for messages that others came before, and asks for births when they stay away."""

import asyncio

import pytest

from tests.cloud.ears import Ears
from tests.cloud.rig import columns
from tests.support.hostile import NOW_MS, NOW_NS
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops import births
from tocsin_cloud.settings import LimitSettings
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession

WAIT_NS = 2_000_000_000


@pytest.mark.parametrize(("since_ns", "asked"), [(WAIT_NS, True), (WAIT_NS - 1, False)])
def test_births_are_asked_for_when_the_wait_is_over(
    monkeypatch: pytest.MonkeyPatch,
    since_ns: int,
    asked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A message is missing, nothing more comes: asked for once the Reorder Timeout is over, by the clock alone."""
    said: list[tuple[str, str]] = []

    async def note(_client: object, group: str, node: str, _now_ns: int) -> None:
        said.append((group, node))

    monkeypatch.setattr(births, "ask_rebirth", note)
    edge = EdgeSession("site", "gw", [EdgeDevice("D1", (EdgeMetric("P1"), EdgeMetric("P2")))])
    ears = Ears(limits=LimitSettings(reorder_ns=WAIT_NS))
    messages = [edge.nbirth(0, 1, NOW_MS), edge.dbirth("D1", columns({0: 0.0, 1: 0.0}, NOW_MS), 0, NOW_MS)]
    messages += [
        edge.ddata("D1", columns({0: 1.0}, NOW_MS + number), number, NOW_MS, historical=False) for number in range(1, 4)
    ]
    del messages[3]
    at_ns = NOW_NS - since_ns
    ears.hear([Message(number, at_ns, each.topic, each.payload) for number, each in enumerate(messages, start=1)])
    asyncio.run(ears.historian._ask_for_births())  # noqa: SLF001 -- what `run` does between two waits
    assert said == ([("site", "gw")] if asked else [])
    assert ears.quarantine.counts["sequence-gap"] == 1
