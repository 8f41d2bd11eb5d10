"""The example plants' scenarios: the same seed gives the same registers, each does what it says and no more."""

import json
from collections.abc import Iterable
from itertools import pairwise
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from tests.support.plants import PLANTS
from tocsin_core import engine
from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmKind, Plant
from tocsin_core.readings import GOOD, Frame, quality_text
from tocsin_core.registers import Reply, compile_plan
from tocsin_core.rules import compile_rules
from tocsin_sim.app import load_world
from tocsin_sim.scenario import moment, turns
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import Scenario, SetInput, Silent
from tocsin_sim.world import World

GOLDEN = Path(__file__).parents[1] / "golden" / "registers" / "ammonia-leak-seed-1.json"
AMMONIA = "ammonia-refrigeration"
MINE = "coal-mine-face"


def started(plant: str, scenario: str, seed: int = 1) -> tuple[Plant, World]:
    """Return an example plant at scenario time 0."""
    found, _, world = load_world(Settings(plant=PLANTS / plant, scenario=scenario, seed=seed))
    return found, world


def image(world: World, devices: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the registers of these devices that are not zero, by function:address."""
    return {device: {f"{f}:{a}": w for (f, a), w in world.registers(device).items() if w} for device in devices}


def violations(plant: Plant, world: World) -> set[str]:
    """Return the ids of the limit alarms whose condition holds on what is shown now."""
    found = set()
    for point in plant.measured:
        value = world.shown(point.device.id)[point.config.register_ or point.config.field or ""]
        for alarm in point.definitions:
            high = alarm.kind in {AlarmKind.HH, AlarmKind.H} and value >= alarm.setpoint
            low = alarm.kind in {AlarmKind.L, AlarmKind.LL} and value <= alarm.setpoint
            if high or low:
                found.add(alarm.id)
    return found


def first_times(plant: Plant, world: World, until_s: int) -> dict[str, int]:
    """Return when, in whole seconds, each limit alarm's condition first held."""
    first: dict[str, int] = {}
    for second in range(until_s + 1):
        world.advance(second)
        for alarm in violations(plant, world):
            first.setdefault(alarm, second)
    return first


def test_the_same_seed_gives_the_registers_of_the_golden_file() -> None:
    """Seed 1 of the leak has looked like this since it was written down: calm, in the leak, after it."""
    _, world = started(AMMONIA, "leak")
    found = {}
    for second in (0, 45, 120):
        world.advance(second)
        found[str(second)] = image(world, ("NH3-103", "LT-202", "PT-202", "NH3-301"))
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_another_seed_gives_other_registers() -> None:
    """The seed matters."""
    devices = ("NH3-103", "PT-202")
    worlds = [started(AMMONIA, "leak", seed)[1] for seed in (1, 2)]
    for world in worlds:
        world.advance(30)
    assert image(worlds[0], devices) != image(worlds[1], devices)


def test_the_way_to_a_time_does_not_matter() -> None:
    """Ten steps a second or one jump: the same registers."""
    worlds = [started(AMMONIA, "leak")[1] for _ in range(2)]
    worlds[0].advance(40)
    for step in np.arange(0, 40.001, 0.37):
        worlds[1].advance(float(step))
    worlds[1].advance(40)
    devices = ("NH3-103", "NH3-104", "LT-201", "PT-303")
    assert image(worlds[0], devices) == image(worlds[1], devices)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_leak_is_seen_at_the_flange_alone_and_in_time(seed: int) -> None:
    """Level 1 a good while after the start, level 2 within 60 s, back to normal by 120 s; no other limit is touched."""
    plant, world = started(AMMONIA, "leak", seed)
    first = first_times(plant, world, 120)
    assert set(first) == {"NH3-103/H", "NH3-103/HH"}
    assert 30 <= first["NH3-103/H"] <= 45
    assert first["NH3-103/H"] + 6 <= first["NH3-103/HH"] <= 56
    assert violations(plant, world) == set()


def test_the_leak_can_be_foreseen() -> None:
    """The flange's detector rises for at least eight seconds before level 1; those beside the cloud see nothing."""
    _, world = started(AMMONIA, "leak")
    history = []
    for second in range(90):
        world.advance(second)
        history.append([world.shown(device)["gas_ppm"] for device in ("NH3-103", "NH3-105", "NH3-101")])
    near, aside, upwind = np.array(history).T
    assert np.argmax(near >= 28) - np.argmax(near >= 5) >= 8
    assert aside.max() < 3
    assert upwind.max() < 3
    assert near[:18].max() < 3


def raised(plant: Plant, world: World, until_s: int) -> dict[str, int]:
    """Return when, in seconds, the engine first raised each alarm on readings taken once a second."""
    rules, now = compile_rules(plant), 1_800_000_000_000_000_000
    state, count = engine.initial(rules, now), len(plant.measured)
    found: dict[str, int] = {}
    for second in range(until_s + 1):
        world.advance(second)
        values = [world.shown(p.device.id)[p.config.register_ or p.config.field or ""] for p in plant.measured]
        at = now + second * 1_000_000_000
        frame = Frame.of(np.arange(count, dtype=np.int32), np.full(count, at), values, [GOOD] * count)
        state, result = engine.step(state, rules, frame, [], at)
        for transition in result.transitions:
            if transition.event is Event.RAISE:
                found.setdefault(rules.definitions[transition.definition].id, second)
    return found


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_engine_foresees_the_leak_and_nothing_else(seed: int) -> None:
    """At the flange: early warning at least 5 s before level 1, then level 2 by 52 s. No other point says a thing."""
    plant, world = started(AMMONIA, "leak", seed)
    found = raised(plant, world, 125)
    assert set(found) == {"NH3-103/time-to-limit", "NH3-103/H", "NH3-103/HH"}
    assert found["NH3-103/time-to-limit"] + 5 <= found["NH3-103/H"] < found["NH3-103/HH"] <= 52
    assert violations(plant, world) == set()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_overfill_is_foreseen_and_reaches_both_limits(seed: int) -> None:
    """The early warning comes within 40 s of the start, H well after it, HH within two minutes; nothing else speaks."""
    found = raised(*started(AMMONIA, "overfill", seed), 150)
    assert set(found) == {"LT-202/time-to-limit", "LT-202/H", "LT-202/HH"}
    assert found["LT-202/time-to-limit"] <= 40
    assert found["LT-202/time-to-limit"] + 15 <= found["LT-202/H"]
    assert found["LT-202/H"] < found["LT-202/HH"] <= 120


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_stuck_detectors_neighbour_alarms_in_its_place(seed: int) -> None:
    """The detector beside the stuck one warns early and reaches level 1; the stuck one never says a word."""
    found = raised(*started(AMMONIA, "sensor-stuck", seed), 160)
    assert found["NH3-104/time-to-limit"] < found["NH3-104/H"] <= 60
    assert {name.split("/")[0] for name in found} == {"NH3-104"}


def test_the_engine_is_quiet_in_the_calm() -> None:
    """Five quiet minutes raise nothing at all, no early warning either."""
    assert raised(*started(AMMONIA, "calm", seed=5), 300) == {}


@pytest.mark.parametrize("plant", [AMMONIA, MINE])
def test_nothing_alarms_in_the_calm(plant: str) -> None:
    """Ten quiet minutes touch no limit."""
    found, world = started(plant, "calm", seed=8)
    assert first_times(found, world, 600) == {}


@pytest.mark.parametrize(
    ("plant", "scenario", "until_s", "expected"),
    [
        (AMMONIA, "overfill", 150, {"LT-202/H", "LT-202/HH"}),
        (AMMONIA, "blocked-outlet", 120, {"PT-303/H", "PT-303/HH", "TT-303/H", "VT-301/H"}),
        (
            AMMONIA,
            "room-leak",
            90,
            {f"NH3-30{n}/{kind}" for n in (1, 2, 3, 4) for kind in ("H", "HH")} - {"NH3-303/HH"},
        ),
        (MINE, "gas-surge", 120, {"T0/H", "T0/HH", "T1/H", "T2/H", "T2/HH"}),
        (MINE, "heating", 200, {"CO-0/H", "CO-2/H"}),
    ],
)
def test_a_scenario_touches_its_own_limits(plant: str, scenario: str, until_s: int, expected: set[str]) -> None:
    """Each scenario reaches exactly the limits it is about."""
    found, world = started(plant, scenario)
    assert set(first_times(found, world, until_s)) == expected


def test_a_failed_fan_takes_the_air_and_brings_the_gas() -> None:
    """Air speed falls below its limit before methane rises above its own."""
    plant, world = started(MINE, "fan-failure")
    first = first_times(plant, world, 90)
    assert {"V-1/L", "V-2/L", "T0/H", "T1/H", "T2/H", "DP-2/L"} <= set(first)
    assert first["V-1/L"] < first["T1/H"]


def test_a_stuck_sensor_keeps_its_number_while_its_neighbour_sees_the_leak() -> None:
    """The flange's detector never moves; the one that the wind has turned to passes level 1."""
    _, world = started(AMMONIA, "sensor-stuck")
    world.advance(16)
    stuck = world.shown("NH3-103")["gas_ppm"]
    neighbour = []
    for second in range(17, 110):
        world.advance(second)
        assert world.shown("NH3-103")["gas_ppm"] == stuck
        neighbour.append(world.shown("NH3-104")["gas_ppm"])
    assert max(neighbour) > 28


def qualities(plant: Plant, world: World, device_id: str) -> dict[str, str]:
    """Return the quality of a device's points as a gateway would read them."""
    device = next(d for gateway in plant.file.gateways for d in gateway.devices if d.id == device_id)
    plan = compile_plan(plant.profiles[device.profile or ""], [point.register_ or "" for point in device.points])
    registers = world.registers(device_id)
    replies: list[Reply] = [
        np.array([registers[(r.function, r.address + i)] for i in range(r.count)], dtype=np.uint16)
        for r in plan.requests
    ]
    decoded = plan.decode(replies)
    assert all(isnan(v) == (q & 0xC0 == 0) for v, q in zip(decoded.value, decoded.quality.tolist(), strict=True))
    return {p.id: quality_text(q) for p, q in zip(device.points, decoded.quality.tolist(), strict=True)}


def test_faults_come_as_bad_quality_and_go_again() -> None:
    """A fault bit, a NaN and an invalid flag each turn the value bad, its neighbours stay good, and all recover."""
    plant, world = started(AMMONIA, "sensor-fault")
    world.advance(50)
    assert qualities(plant, world, "NH3-104") == {
        "NH3-104": "bad: sensor failure",
        "NH3-104.temp": "good",
        "NH3-104.supply": "good",
    }
    assert qualities(plant, world, "PT-202")["PT-202"] == "bad: sensor failure"
    assert qualities(plant, world, "PT-202")["TT-202"] == "good"
    assert qualities(plant, world, "LT-201")["LT-201.level"] == "bad: sensor failure"
    assert qualities(plant, world, "LT-201")["LT-201"] == "good"
    world.advance(100)
    for device in ("NH3-104", "PT-202", "LT-201"):
        assert set(qualities(plant, world, device).values()) == {quality_text(GOOD)}


def test_silence_and_cuts_come_and_go() -> None:
    """Who is silent and what is cut follows the scenario's times."""
    _, world = started(AMMONIA, "device-silent")
    world.advance(19)
    assert not world.moment.silent
    world.advance(21)
    assert world.moment.silent == {"PT-202", "VT-302"}
    world.advance(81)
    assert not world.moment.silent
    _, world = started(AMMONIA, "link-cut")
    world.advance(21)
    assert world.moment.cut == {"gw-compressor"}


@pytest.mark.parametrize(
    ("time_s", "value"),
    [(9.9, None), (10, 1.0), (15, 2.0), (20, 3.0), (39, 3.0), (40, 3.0), (44, 2.0), (47, 1.25), (48, None)],
)
def test_an_input_rises_stays_and_falls_in_straight_lines(time_s: float, value: float | None) -> None:
    """From 1 to 3 in 10 s, there until 30 s after the start, and back in 8 s."""
    effect = SetInput(effect="set", input="pump.lift", to=3.0, start_s=10, duration_s=30, rise_s=10, fall_s=8)
    found = moment(Scenario(description="a pump", effects=(effect,)), {"pump.lift": 1.0}, time_s).inputs
    assert found == ({} if value is None else {"pump.lift": pytest.approx(value)})


def test_beginnings_and_ends_are_told_once() -> None:
    """However the steps fall, an effect begins once and ends once."""
    effect = Silent(effect="silent", device="PT-202", start_s=20, duration_s=60)
    scenario = Scenario(description="silence", effects=(effect,))
    steps = [0.0, 19.9, 20.0, 20.1, 79.9, 80.0, 200.0]
    told = [begins for a, b in pairwise(steps) for _, begins in turns(scenario, a, b)]
    assert told == [True, False]
