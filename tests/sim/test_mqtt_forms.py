"""Every form of MQTT sensor that a plant file allows, spoken by the simulator and heard by a real gateway."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.edge.rig import Host
from tests.edge.send_rig import gateway_here
from tests.support.nats import nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.readings import BAD_NOT_CONNECTED, GOOD
from tocsin_core.sensors import Reading, parse, parse_path
from tocsin_sim.adapters.mqtt_publisher import message, publish
from tocsin_sim.payloads import FormError, content, topic_of
from tocsin_sim.simulation import SimulationError, load_simulation
from tocsin_sim.world import World

PLANT = """\
tocsin: 1
site: {{id: site, name: site}}
gateways:
  - id: gw
    uplink: {{host: 127.0.0.1, port: {port}}}
    sensors: {{host: 127.0.0.1, port: {port}}}
    devices:
      - {{id: own-id, period_ms: 200, mqtt: {{topic: site/+/gas}},
          points: [{{id: A, field: '["gas.nh3"].ppm', {rest}}}]}}
      - {{id: named, period_ms: 200, mqtt: {{topic: "+/gas/#", name: hall/7/raw, time: 'meta["a t"]'}},
          points: [{{id: B1, field: "values[0]", {rest}}}, {{id: B2, field: "values[-1]", {rest}}}]}}
      - {{id: plain, period_ms: 200, mqtt: {{topic: plain/level}}, points: [{{id: C, field: "", {rest}}}]}}
      - {{id: worded, period_ms: 200, mqtt: {{topic: w/+/state, words: {{alarm: 2}},
          offline: {{topic: w/+/status, payload: gone}}}}, points: [{{id: D, field: state, {rest}}}]}}
      - {{id: foreign, period_ms: 200, mqtt: {{topic: spBv1.0/net/+/node/dev}},
          points: [{{id: E, field: gas/nh3, {rest}}}]}}
      - {{id: itself, period_ms: 200, mqtt: {{topic: spBv1.0/net/+/node}}, points: [{{id: F, field: hours, {rest}}}]}}
"""
REST = "name: P, kind: generic, unit: bar, range: [-100, 1000]"
SIMULATION = """\
tocsin_sim: 1
default_scenario: calm
sources: {}
instruments:
  own-id: {'["gas.nh3"].ppm': 12.5}
  named: {"values[0]": 1.5, "values[-1]": 2.5}
  plain: {"": 3.5}
  worded: {state: 2}
  foreign: {gas/nh3: -4.5}
  itself: {hours: 5.5}
scenarios:
  calm: {description: nothing}
  quiet:
    description: two fall silent and come back
    effects:
      - {effect: silent, device: worded, start_s: 10, duration_s: 10}
      - {effect: silent, device: foreign, start_s: 10, duration_s: 10}
"""
EXPECTED = {"A": 12.5, "B1": 1.5, "B2": 2.5, "C": 3.5, "D": 2.0, "E": -4.5, "F": 5.5}


def latest(host: Host) -> dict[str, tuple[float, int]]:
    """The newest value and quality that the host has of each point."""
    return {name: host.of(name)[-1][1:] for name in EXPECTED if host.of(name)}


def good(host: Host) -> bool:
    """Whether all points have their good values now."""
    return latest(host) == {name: (value, GOOD) for name, value in EXPECTED.items()}


class Showing:
    """A world of one sensor."""

    def __init__(self, values: Mapping[str, float]) -> None:
        """Show `values`."""
        self._values = values

    def shown(self, _device: str) -> Mapping[str, float]:
        """What the sensor shows."""
        return self._values


def test_a_real_gateway_hears_every_form(tmp_path: Path) -> None:
    """Wildcards, quoted keys, list places, plain values, words, times, a will, a Sparkplug device and its node."""

    async def story(port: int) -> None:
        folder = tmp_path / "plant"
        folder.mkdir()
        (folder / "plant.yaml").write_text(PLANT.format(port=port, rest=REST), encoding="utf-8")
        (folder / "simulation.yaml").write_text(SIMULATION, encoding="utf-8")
        plant = load_plant(folder)
        world = World(plant, load_simulation(folder), "quiet", seed=1)
        (gateway,) = plant.file.gateways
        async with Host(port).listen() as host, gateway_here(folder, tmp_path / "data", port):
            playing = asyncio.create_task(publish(world, gateway.sensors, gateway.devices, SystemClock()))
            try:
                await eventually_async(lambda: good(host))
                world.advance(10)
                silent = {"D": BAD_NOT_CONNECTED, "E": BAD_NOT_CONNECTED}
                await eventually_async(lambda: silent.items() <= {k: q for k, (_, q) in latest(host).items()}.items())
                world.advance(20)
                await eventually_async(lambda: good(host))
            finally:
                playing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await playing

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


@pytest.mark.parametrize(
    ("paths", "built"),
    [
        ({"a.b": 1.0, "a.c[1]": 2.0}, {"a": {"b": 1.0, "c": [None, 2.0]}}),
        ({"v.0": 1.0, "v[2].x": 2.0, "v[-1]": 3.0}, {"v": [1.0, None, {"x": 2.0}, 3.0]}),
        ({"v[-2]": 1.0, "v[-1]": 2.0}, {"v": [1.0, 2.0]}),
        ({"a.0": 1.0}, {"a": {"0": 1.0}}),
        ({'["a.b"]["c\\"d"]': 1.0, "['e']": 2.0}, {"a.b": {'c"d': 1.0}, "e": 2.0}),
        ({"[0][0]": 1.0}, [[1.0]]),
        ({"": 7.0}, 7.0),
    ],
)
def test_each_path_leads_to_its_value(paths: Mapping[str, float], built: object) -> None:
    """The content is the smallest that has them all, and the listener's own reader finds each."""
    assert content(paths) == built
    fields = tuple(parse_path(path) for path in paths)
    text = message(Showing(paths), "d", Mqtt(topic="t"), 0)  # type: ignore[arg-type]  # all that it asks of a world
    assert parse(text.encode(), Reading(fields, tuple(paths)), 0).value == tuple(paths.values())


@pytest.mark.parametrize("paths", [("a", "a.b"), ("", "a"), ("a[0]", "a.b"), ("a", "a[0]")])
def test_paths_that_exclude_each_other_are_refused(paths: tuple[str, ...]) -> None:
    """A value cannot hold another one, nor a list have names."""
    with pytest.raises(FormError):
        content(dict.fromkeys(paths, 1.0))


@pytest.mark.parametrize(
    ("topic", "name", "expected"),
    [
        ("site/+/gas", None, "site/dev/gas"),
        ("site/+/gas", "7", "site/7/gas"),
        ("+/gas/#", "hall/7/raw", "hall/gas/7/raw"),
        ("#", "a/b", "a/b"),
        ("plain", None, "plain"),
    ],
)
def test_a_name_takes_the_place_of_the_wildcards(topic: str, name: str | None, expected: str) -> None:
    """As the gateway will take it out again."""
    assert topic_of(Mqtt(topic=topic, name=name), "dev") == expected


def test_a_simulation_that_cannot_be_spoken_is_refused(tmp_path: Path) -> None:
    """A name with too many levels, and a time inside a value: each is a problem of the simulation, at the start."""
    text = PLANT.format(port=1, rest=REST)
    for old, new, said in (
        ("{topic: site/+/gas}", "{topic: site/+/gas, name: a/b}", "own-id: the name 'a/b' does not fit"),
        ("time: 'meta[\"a t\"]'", 'time: "values[0].t"', "named: 'values[0]' and 'values[0].t' lie inside"),
    ):
        assert old in text
        (tmp_path / "plant.yaml").write_text(text.replace(old, new), encoding="utf-8")
        (tmp_path / "simulation.yaml").write_text(SIMULATION, encoding="utf-8")
        with pytest.raises(SimulationError, match=said.replace("[", r"\[")):
            World(load_plant(tmp_path), load_simulation(tmp_path), "calm", seed=1)
