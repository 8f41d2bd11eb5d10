"""How computed points are shown: of what, by which rule, as no gateway's, and when they are too old."""

import asyncio
from pathlib import Path

import pytest

from tests.cloud.api.stand_ins import START_NS, LiveTable
from tests.cloud.rig import COMPUTED, plant_folder
from tocsin_cloud.api import model
from tocsin_cloud.api.present import Points, gateways, projection
from tocsin_cloud.loops.live import Outlook
from tocsin_core.plant import AlarmKind, Plant, load_plant
from tocsin_core.readings import BAD_WAITING

NS = 1_000_000_000


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """The small plant with its vote."""
    return load_plant(plant_folder(tmp_path, COMPUTED))


@pytest.fixture
def live(plant: Plant) -> LiveTable:
    """A live table as long as the plant, with nothing read."""
    n = len(plant.points)
    return LiveTable([0] * n, [float("nan")] * n, [BAD_WAITING] * n)


def test_a_computed_point_says_of_what_and_how(plant: Plant, live: LiveTable) -> None:
    """Rule and members in both languages instead of a gateway and a device; measured points have none of it."""
    *measured, vote = Points(plant).all(asyncio.run(live.latest()), START_NS)
    assert (vote.id, vote.gateway, vote.device, vote.declared) == ("V1", None, None, True)
    assert vote.computed is not None
    assert (vote.computed.rule, vote.computed.members) == ("vote", ["P1", "P2"])
    assert vote.computed.told == model.Name(zh="2 取 2 表决", en="vote, 2 out of 2")
    assert all(point.computed is None and point.gateway is not None for point in measured)


def test_a_computed_value_that_stands_still_is_stale(plant: Plant, live: LiveTable) -> None:
    """Older than what its slowest member allows it is no longer good, although no alarm of its own says so."""
    index = plant.point_index["V1"]
    live.read(index, START_NS, 12.5)
    longest = int(plant.points[index].longest_s)
    points = Points(plant)
    latest = asyncio.run(live.latest())
    fresh, old = (points.one("V1", live, latest, START_NS + s * NS) for s in (longest, longest + 1))
    assert fresh is not None
    assert old is not None
    assert (fresh.quality_text, old.quality_text) == ("good", "stale")


def test_gateways_count_what_they_read(plant: Plant, live: LiveTable) -> None:
    """A computed point is nobody's: it is in no gateway's count, bad or not, and makes no gateway of its own."""
    shown = gateways(plant, live, asyncio.run(live.latest()))
    assert [gateway.id for gateway in shown] == ["gw", "theirs"]
    assert [(device.id, device.points, device.bad) for device in shown[0].devices] == [("D1", 2, 2)]


def test_a_grade_may_be_foreseen() -> None:
    """Time to limit of a tailings pond looks ahead to a colour."""
    shown = projection(Outlook(START_NS, 1.0, 0.1, 0.0, 0.2, 2.0, AlarmKind.ORANGE, 600.0, 10.0))
    assert shown.limit_kind == "orange"


def test_deadbands_are_the_process_s(plant: Plant, live: LiveTable) -> None:
    """What speaks of the instrument has no deadband to show."""
    bare = plant.points[plant.point_index["P1"]]
    points = Points(plant).all(asyncio.run(live.latest()), START_NS)
    shown = next(point for point in points if point.id == bare.id)
    assert {limit.kind: (limit.deadband, limit.side) for limit in shown.limits} == {AlarmKind.H: (5.0, "high")}
