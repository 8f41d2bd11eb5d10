"""Who counts as a gateway, and how much that nobody declared is taken in."""

import asyncio
from pathlib import Path

import pytest

from tests.cloud.ears import Ears
from tests.cloud.rig import plant_folder
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops import historian
from tocsin_cloud.loops.hearing import hear
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import StrangerSettings
from tocsin_core.plant import load_plant
from tocsin_core.readings import EARLIEST_NS, Frame
from tocsin_core.sparkplug.host import HostSession
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

NOW_NS = EARLIEST_NS + 10**15


class Host:
    """A session with its bounds and the live view it feeds."""

    def __init__(self, folder: Path, most: StrangerSettings) -> None:
        """Have heard nothing yet."""
        self.table = PointTable(load_plant(plant_folder(folder)), most)
        self.live = LiveView(self.table)
        self.session = HostSession(self.table.resolve)

    def hear(self, topic: str, *metrics: str) -> set[str]:
        """Take in a message that holds these metrics, or garbage without any; returns the reasons of its faults."""
        payload = Payload(timestamp=NOW_NS // 1_000_000, seq=0)
        for name in metrics:
            payload.metrics.add(name=name, datatype=DataType.INT64, long_value=0, timestamp=payload.timestamp)
        body = payload.SerializeToString() if metrics else b"\xff\x00rubbish"
        fed = hear(self.session, self.table, Message(1, NOW_NS, f"spBv1.0/{topic}", body))
        self.live.hear(fed, NOW_NS)
        # Every message here has the number 0, which is not what is looked at.
        return {fault.reason for fault in fed.faults} - {"sequence-gap"}

    def states(self) -> dict[str, str]:
        """Every gateway's state by its id."""
        return {gateway: known.state for (_, gateway), known in self.live.gateways.items()}


def test_only_a_birth_makes_a_gateway(tmp_path: Path) -> None:
    """Neither rubbish nor data of an unborn node make one or bring one online, in the plant file or not."""
    host = Host(tmp_path, StrangerSettings())
    unheard = {"gw": "unknown", "theirs": "unknown"}
    for node in ("nobody", "gw"):
        assert host.hear(f"site/NBIRTH/{node}") == {"undecodable"}
        assert host.hear(f"site/DDATA/{node}/D9") == {"undecodable"}
        assert "not-born" in host.hear(f"site/DDATA/{node}/D9", "speed")
        assert host.states() == unheard
    host.hear("site/NBIRTH/new", "bdSeq")
    host.hear("site/NBIRTH/gw", "bdSeq")
    assert host.states() == {"gw": "online", "theirs": "unknown", "new": "online"}
    host.hear("site/DDATA/gw/D9", "speed")
    assert host.live.gateways["site", "gw"].devices == {}
    host.hear("site/NDEATH/gw", "bdSeq")
    host.hear("site/NDATA/gw", "speed")
    assert host.states()["gw"] == "offline"


def test_strangers_have_bounded_room(tmp_path: Path) -> None:
    """Gateways, devices and points beyond the bounds are refused with the reason; the plant's own always get in."""
    host = Host(tmp_path, StrangerSettings(gateways=2, devices=1, points=3))
    for node in ("a", "b"):
        assert host.hear(f"site/NBIRTH/{node}", "bdSeq") == set()
    assert host.hear("site/NBIRTH/c", "bdSeq", "x") == {"too-many-gateways"}
    assert host.hear("site/NDATA/c", "x") == {"too-many-gateways"}
    assert host.hear("site/NBIRTH/a", "bdSeq", "x", "y") == set()
    assert host.hear("site/DBIRTH/a/one", "x") == set()
    assert host.hear("site/DBIRTH/a/two", "x") == {"too-many-devices"}
    assert host.hear("site/DBIRTH/a/one", "x", "more") == {"too-many-points"}
    assert host.hear("site/NBIRTH/gw", "bdSeq") == set()
    assert host.hear("site/DBIRTH/gw/D1", "P1") == set()
    assert set(host.states()) == {"gw", "theirs", "a", "b"}
    assert [one.id for one in host.table.undeclared] == ["site/a/x", "site/a/y", "site/a/one/x"]


def test_a_foreign_groups_points_belong_to_its_own_gateway(tmp_path: Path) -> None:
    """A node of another group that is called like ours is another gateway, for its points too."""
    host = Host(tmp_path, StrangerSettings())
    host.hear("site/NBIRTH/gw", "bdSeq", "here")
    host.hear("elsewhere/NBIRTH/gw", "bdSeq", "there")
    owners = {one.id: one.gateway for one in host.table.undeclared}
    assert owners == {"site/gw/here": "gw", "elsewhere/gw/there": "elsewhere/gw"}


def test_a_restart_remembers_who_was_let_in(tmp_path: Path) -> None:
    """What the live view kept fills the room again, so that restarts do not widen it."""
    most = StrangerSettings(gateways=1)
    before, after = Host(tmp_path / "one", most), Host(tmp_path / "two", most)
    before.hear("site/NBIRTH/a", "bdSeq")
    after.live.restore(before.live.known())
    assert after.states() == {"gw": "unknown", "theirs": "unknown", "a": "online"}
    assert after.hear("site/NBIRTH/b", "bdSeq") == {"too-many-gateways"}
    assert after.hear("site/NBIRTH/a", "bdSeq") == set()


def test_the_keys_of_many_points_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The historian asks for them in portions, between which others have their turn."""
    monkeypatch.setattr(historian, "KEYS_AT_ONCE", 1)
    ears, turns = Ears(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def story() -> None:
        others_too = asyncio.create_task(others())
        await ears.historian._keys_of(Frame.empty())  # noqa: SLF001 -- what a commit begins with
        others_too.cancel()

    asyncio.run(story())
    assert turns >= len(ears.table.ids) > 1


def test_metrics_that_nobody_declared_have_an_id_each(tmp_path: Path) -> None:
    """A slash in the name of a node's metric does not make it one of a device's: their readings would be mixed up."""
    table = Host(tmp_path, StrangerSettings()).table
    addresses = [
        ("gw", "d", "m"),
        ("gw", None, "d/m"),
        ("gw", None, "d"),
        ("gw", "d", ""),
        ("gw", None, "d/"),
        ("gw", None, ""),
    ]
    places = [table.resolve("site", *address) for address in addresses]
    ids = [table.ids[place] for place in places if place is not None]
    assert ids[:4] == ["site/gw/d/m", "site/gw//d/m", "site/gw/d", "site/gw/d/"]
    assert len(set(ids)) == len(addresses)
