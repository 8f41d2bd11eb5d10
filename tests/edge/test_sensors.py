"""One MQTT sensor and one sensor network by themselves: what counts as new, as a repetition, as gone."""

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD, BAD_CONFIGURATION, BAD_DEVICE_FAILURE, BAD_NOT_CONNECTED, GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, parse_command
from tocsin_core.sparkplug.edge import Columns, Message
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_edge.adapters.sensors import Arrival
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.network import Networks
from tocsin_edge.loops.sensor import Sensor
from tocsin_edge.settings import DeviceSettings, SensorDevice

NOW_MS = 1_790_000_000_000
PERIOD_MS = 1000


class Held:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        """Start at NOW_MS."""
        self.ms = NOW_MS

    def now_ns(self) -> int:
        """UTC, ns."""
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        """Seconds."""
        return self.ms / 1000


class Bench:
    """One sensor, what it was told to put, and its clock."""

    samples: list[Sample]

    def __init__(self, source: Mqtt, fields: Sequence[str] = ("v",)) -> None:
        """Make a sensor with these fields."""
        self.clock = Held()
        self.samples = []
        how = SensorDevice(source, tuple(fields))
        metrics = tuple(EdgeMetric(f"m{place}") for place in range(len(fields)))
        device = DeviceSettings(EdgeDevice("D", metrics), Ranges.of([None] * len(fields)), PERIOD_MS * 1_000_000, how)
        self.sensor = Sensor(device, how, self.clock, self.samples.append)

    def say(self, payload: object, after_ms: int = 0, *, retained: bool = False) -> None:
        """Let it publish JSON some time later."""
        self.clock.ms += after_ms
        self.sensor.take(Arrival("t", json.dumps(payload).encode(), retained=retained))

    @property
    def readings(self) -> list[tuple[int, int, float, int]]:
        """Every reading: position, ms after the start, value, quality."""
        return [
            (point, time_ms - NOW_MS, value, quality)
            for sample in self.samples
            for point, time_ms, value, quality in zip(
                sample.columns.metric.tolist(),
                sample.columns.time_ms.tolist(),
                sample.columns.value.tolist(),
                sample.columns.quality.tolist(),
                strict=True,
            )
        ]

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, beside messages and readings."""
        counts = self.sensor.figures().counts
        return {kind: number for kind, number in counts.items() if kind not in ("messages", "readings")}


TIMED = Mqtt(topic="t", time="t")
UNTIMED = Mqtt(topic="t")


def test_a_message_has_its_own_time_or_its_arrival() -> None:
    """The payload's time stands; one out of its window is counted and the arrival is taken."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS - 250})
    bench.say({"v": 2, "t": 1}, after_ms=1000)
    bench.say({"v": 3}, after_ms=1000)
    assert bench.readings == [(0, -250, 1, GOOD), (0, 1000, 2, GOOD), (0, 2000, 3, GOOD)]
    assert bench.counts == {"absurd-time": 1, "no-time": 1}
    assert bench.sensor.figures().reason == "no time at 't': its arrival is taken"


def test_a_retained_value_is_not_new() -> None:
    """Without a time nobody knows how old it is; with one it must be newer than the last, of the last two periods."""
    bench = Bench(UNTIMED)
    bench.say({"v": 1}, retained=True)
    assert (bench.readings, bench.counts) == ([], {"retained": 1})
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS - 3_600_000}, retained=True)
    bench.say({"v": 2, "t": NOW_MS - 1500}, retained=True)
    bench.say({"v": 2, "t": NOW_MS - 1500}, retained=True)
    assert bench.readings == [(0, -1500, 2, GOOD)]
    assert bench.counts == {"retained": 2}


def test_a_message_that_comes_twice_counts_once() -> None:
    """With a time of its own whenever it comes again; late ones that are new are kept, in their own time."""
    bench = Bench(TIMED)
    for at in (0, 1, 0, 1, 0):
        bench.say({"v": 5, "t": NOW_MS + at}, after_ms=700)
    bench.say({"v": 6, "t": NOW_MS - 5000})
    assert bench.readings == [(0, 0, 5, GOOD), (0, 1, 5, GOOD), (0, -5000, 6, GOOD)]
    assert bench.counts == {"repeated": 3}


def test_a_message_without_a_time_that_comes_again_at_once_counts_once() -> None:
    """The same within half a period is a repetition; the same a period later is a reading; another is one always."""
    bench = Bench(UNTIMED)
    bench.say({"v": 5})
    bench.say({"v": 5}, after_ms=499)
    bench.say({"v": 6}, after_ms=1)
    bench.say({"v": 5}, after_ms=1)
    bench.say({"v": 5}, after_ms=1000)
    assert [(at, value) for _, at, value, _ in bench.readings] == [(0, 5), (500, 6), (501, 5), (1501, 5)]
    assert bench.counts == {"repeated": 1}


def test_what_cannot_be_read_is_bad_and_counted() -> None:
    """Each kind of trouble has its counter; an empty message, which takes a retained one away, says nothing."""
    bench = Bench(UNTIMED, ("v", "w"))
    for payload in (b"{", b"\xff", b"x" * 70_000):
        bench.sensor.take(Arrival("t", payload, retained=False))
    assert {quality for *_, quality in bench.readings} == {BAD_DEVICE_FAILURE}
    bench.sensor.take(Arrival("t", b"", retained=False))
    bench.say({"v": None, "w": "x"})
    bench.say({"v": [1]})
    assert len(bench.readings) == 10
    kinds = {"not-json": 1, "not-utf8": 1, "too-large": 1, "empty": 1, "null": 1, "not-a-number": 2, "missing": 1}
    assert bench.counts == kinds


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=6))
def test_no_message_stops_a_sensor(messages: list[tuple[bytes, bool]]) -> None:
    """After any bytes it reads on."""
    bench = Bench(TIMED)
    for payload, retained in messages:
        bench.sensor.take(Arrival("t", payload, retained=retained))
    bench.say({"v": 7, "t": NOW_MS + 5})
    assert bench.readings[-1] == (0, 5, 7.0, GOOD)


def test_a_will_turns_the_points_bad_at_once_even_where_the_sensors_clock_is_fast() -> None:
    """The bad reading is newer than the last, and what was said before it does not bring the points back."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS + 30_000})
    bench.sensor.gone("its will says that it is gone")
    assert bench.readings[-1][1] == 30_001
    assert bench.readings[-1][3] == BAD_NOT_CONNECTED
    bench.say({"v": 1, "t": NOW_MS + 29_000}, retained=True)
    assert len(bench.readings) == 2
    bench.say({"v": 2, "t": NOW_MS + 31_000})
    assert bench.readings[-1] == (0, 31_000, 2, GOOD)


def test_after_a_silence_a_sensor_whose_clock_is_slow_is_heard_at_once() -> None:
    """A bad reading by the gateway's clock would make all that it says for the next hour older than that, and late."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS - 3_600_000})
    bench.clock.ms += 2500
    bench.sensor.gone("its will says that it is gone")
    bench.say({"v": 99, "t": NOW_MS + 3000 - 3_600_000}, after_ms=500)
    bench.clock.ms += 2500
    bench.sensor.gone("its will says that it is gone")
    assert [(at + 3_600_000, quality) for _, at, _, quality in bench.readings] == [
        (0, GOOD),
        (2500, BAD_NOT_CONNECTED),
        (3000, GOOD),
        (5500, BAD_NOT_CONNECTED),
    ]


def test_a_message_that_comes_behind_a_newer_one_tells_nothing_of_the_clock() -> None:
    """The bad reading is newer than all that was said: else the last value would stay good."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS})
    bench.say({"v": 2, "t": NOW_MS - 3_600_000}, after_ms=500)
    bench.clock.ms += 2000
    bench.sensor.gone("its will says that it is gone")
    assert bench.readings[-1][1::2] == (2500, BAD_NOT_CONNECTED)


@pytest.mark.parametrize(
    ("first_ms", "then_ms", "heard"),
    [(0, -600_000, False), (-3_600_000, -3_700_000, False), (0, -4000, True), (30_000, 100, True), (0, 100, True)],
)
def test_a_sensor_whose_clock_was_set_back_is_as_good_as_silent(first_ms: int, then_ms: int, *, heard: bool) -> None:
    """What it says is late for everybody, for as long as the step: its last value must not stay good meanwhile."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS + first_ms})
    for _ in range(3):
        bench.sensor.gone("away")
    bench.say({"v": 2, "t": NOW_MS + then_ms}, after_ms=100)
    assert bench.sensor.figures().dead is not heard
    assert ("behind what it said before" in bench.sensor.figures().reason) is not heard
    bench.say({"v": 3, "t": bench.sensor.memory.newest_ms + 1}, after_ms=100)
    assert not bench.sensor.figures().dead
    assert bench.sensor.figures().reason == ""


def test_a_sensor_whose_clock_is_fast_is_gone_by_the_gateways_as_soon_as_that_is_newer() -> None:
    """What nobody has said is not told of a time to come."""
    bench = Bench(TIMED)
    bench.say({"v": 1, "t": NOW_MS + 30_000})
    bench.clock.ms += 40_000
    bench.sensor.gone("its will says that it is gone")
    assert bench.readings[-1][1::2] == (40_000, BAD_NOT_CONNECTED)


def test_a_gateways_clock_that_was_set_back_leaves_no_sensor_bad_until_it_has_caught_up() -> None:
    """What was said an hour ahead, by the clock of before, does not stand behind the word that the sensor is gone."""
    bench = Bench(UNTIMED)
    bench.say({"v": 1})
    bench.clock.ms -= 3_600_000
    bench.sensor.gone("its will says that it is gone")
    assert bench.readings[-1][1:2] + bench.readings[-1][3:] == (-3_600_000, BAD_NOT_CONNECTED)
    bench.say({"v": 2}, 1000)
    assert bench.readings[-1] == (0, -3_599_000, 2, GOOD)


def test_silence_is_not_connected_within_two_periods_then_dead() -> None:
    """Three bad readings a period apart, the third of a dead device."""

    async def story() -> None:
        how = SensorDevice(UNTIMED, ("v",))
        samples: list[Sample] = []
        device = DeviceSettings(EdgeDevice("D", (EdgeMetric("v"),)), Ranges.of([None]), 200_000_000, how)
        sensor = Sensor(device, how, SystemClock(), samples.append)
        sensor.take(Arrival("t", b'{"v": 1}', retained=False))
        watching = asyncio.create_task(sensor.watch())
        await eventually_async(lambda: samples[-1].dead)
        watching.cancel()
        assert [int(sample.columns.quality[0]) for sample in samples] == [GOOD, *[BAD_NOT_CONNECTED] * 3]
        assert sensor.figures().dead
        assert sensor.figures().reason == "no message for 2 periods"

    asyncio.run(story())


def columns(*rows: tuple[int, int, float, int]) -> Columns:
    """Make columns of (metric, ms after the start, value, quality)."""
    metric, at, value, quality = zip(*rows, strict=True)
    return Columns(
        np.array(metric, dtype=np.int64),
        np.array(at, dtype=np.int64) + NOW_MS,
        np.array(value, dtype=np.float64),
        np.array(quality, dtype=np.uint8),
    )


class Network(Bench):
    """A sensor of an edge node, `net/node/H2S-7`, its networks, and the node's own session."""

    def __init__(self) -> None:
        """Nothing is born."""
        super().__init__(Mqtt(topic="spBv1.0/net/+/node/H2S-7"), ("ppm", "battery", "ppm"))
        self.networks = Networks([self.sensor], self.clock)
        self.device = EdgeDevice("H2S-7", (EdgeMetric("ppm"), EdgeMetric("battery"), EdgeMetric("not wanted")))
        self.node = EdgeSession("net", "node", [self.device])

    def hear(self, message: Message, *, retained: bool = False) -> list[tuple[str, bytes]]:
        """Let a message arrive; gives the commands."""
        commands = self.networks.take(Arrival(str(message.topic), message.payload, retained=retained))
        assert commands is not None
        return commands


def test_networks_leave_other_topics_alone() -> None:
    """What is of none of the nodes is somebody else's; commands are no news."""
    networks = Network().networks
    assert networks.take(Arrival("plant/t", b"1", retained=False)) is None
    assert networks.take(Arrival("spBv1.0/net/DDATA/other/H2S-7", b"", retained=False)) is None
    assert networks.take(Arrival("spBv1.0/net/NCMD/node", b"\xff", retained=False)) == []
    assert networks.filters == ("spBv1.0/net/+/node/#",)


def test_births_are_asked_for_when_the_connection_stands() -> None:
    """Once a node; then with growing waits while it gives cause."""
    bench = Network()
    ((topic, payload),) = bench.networks.restart()
    assert topic == "spBv1.0/net/NCMD/node"
    assert parse_command(payload).rebirth


def born(bench: Network) -> None:
    """Let the node and its device be born, with values of a second ago."""
    bench.node.will(0, bench.clock.ms)
    bench.hear(bench.node.nbirth(0, 1, bench.clock.ms))
    last = columns((0, -1000, 5.0, GOOD), (1, -1000, 80.0, GOOD), (2, -1000, 1.0, GOOD))
    bench.hear(bench.node.dbirth("H2S-7", last, 1, bench.clock.ms))


def test_a_network_speaks_by_alias_and_dies() -> None:
    """Births, data by alias with their own times, null as bad, the node's death as not connected, and back."""
    bench = Network()
    born(bench)
    assert sorted(bench.readings) == [(0, -1000, 5, GOOD), (1, -1000, 80, GOOD), (2, -1000, 5, GOOD)]
    del bench.samples[:]
    two = columns((0, 10, 6.0, GOOD), (0, 20, 7.0, GOOD), (1, 20, np.nan, BAD))
    bench.hear(bench.node.ddata("H2S-7", two, 2, NOW_MS, historical=False))
    assert [each[:3] for each in bench.readings if each[3] == GOOD] == [(0, 10, 6), (2, 10, 6), (0, 20, 7), (2, 20, 7)]
    assert [each[:2] for each in bench.readings if each[3] == BAD] == [(1, 20)]
    del bench.samples[:]
    bench.hear(bench.node.ndeath(NOW_MS))
    assert {(point, quality) for point, _, _, quality in bench.readings} == {(n, BAD_NOT_CONNECTED) for n in range(3)}
    assert bench.sensor.figures().reason == "its edge node is gone"
    bench.clock.ms += 2000
    born(bench)
    last = columns((0, 1500, 8.0, GOOD))
    bench.hear(bench.node.ddata("H2S-7", last, 3, NOW_MS, historical=False))
    assert bench.readings[-1] == (2, 1500, 8.0, GOOD)
    assert bench.sensor.figures().reason == ""


@pytest.mark.parametrize("lacks", [EdgeDevice("H2S-7", (EdgeMetric("ppm"),)), "text"])
def test_what_a_birth_does_not_name_as_a_number_is_bad(lacks: EdgeDevice | str) -> None:
    """Nobody will ever read it: a wrong name in the plant file, or an instrument that has lost a measurement."""
    bench = Network()
    born(bench)
    del bench.samples[:]
    bench.clock.ms += 1000
    if isinstance(lacks, EdgeDevice):
        bench.node = EdgeSession("net", "node", [lacks])
    bench.node.will(1, bench.clock.ms)
    bench.hear(bench.node.nbirth(0, 1, bench.clock.ms))
    last = columns(*[(0, 500, 6.0, GOOD), (1, 500, 80.0, GOOD)][: 1 + (lacks == "text")])
    birth = bench.node.dbirth("H2S-7", last, 1, bench.clock.ms)
    if lacks == "text":
        payload = Payload.FromString(birth.payload)
        for metric in payload.metrics:
            if metric.name == "battery":
                metric.datatype, metric.string_value = DataType.STRING, "80 %"
        birth = Message(birth.topic, payload.SerializeToString())
    bench.hear(birth)
    assert sorted(bench.readings)[:1] == [(0, 500, 6.0, GOOD)]
    ((_, at, value, quality),) = [each for each in bench.readings if each[0] == 1]
    assert (at, np.isnan(value), quality) == (1000, True, BAD_CONFIGURATION)
    assert bench.counts["missing"] == 1
    with capture_logs() as logs:
        for ms in (1100, 1200, 1300):
            data = bench.node.ddata("H2S-7", columns((0, ms, 7.0, GOOD)), 2, NOW_MS, historical=False)
            bench.hear(data)
    # That it is a text is told of the birth alone.
    assert len(logs) == (lacks == "text")
    assert "no number 'battery' in its birth" in bench.sensor.figures().reason


def test_a_birth_with_old_values_is_of_no_slow_clock() -> None:
    """What has not changed for ten hours does not make the node's death one of ten hours ago; nor does what is late."""
    bench = Network()
    bench.node.will(0, NOW_MS)
    bench.hear(bench.node.nbirth(0, 1, NOW_MS))
    last = columns((0, -36_000_000, 5.0, GOOD), (1, -36_000_000, 80.0, GOOD))
    bench.hear(bench.node.dbirth("H2S-7", last, 1, NOW_MS))
    late = columns((0, -18_000_000, 6.0, GOOD))
    bench.hear(bench.node.ddata("H2S-7", late, 2, NOW_MS, historical=True))
    bench.clock.ms += 500
    bench.hear(bench.node.ndeath(bench.clock.ms))
    assert {each[1] for each in bench.readings if each[3] == BAD_NOT_CONNECTED} == {500}


def test_a_death_is_newer_than_the_values_of_a_birth() -> None:
    """A node whose clock is fast, and that dies before it has said more, is not good until the gateway's is as far."""
    bench = Network()
    bench.node.will(0, NOW_MS)
    bench.hear(bench.node.nbirth(0, 1, NOW_MS))
    last = columns((0, 30_000, 5.0, GOOD), (1, 30_000, 80.0, GOOD))
    bench.hear(bench.node.dbirth("H2S-7", last, 1, NOW_MS))
    bench.clock.ms += 500
    bench.hear(bench.node.ndeath(bench.clock.ms))
    assert {each[1] for each in bench.readings if each[3] == BAD_NOT_CONNECTED} == {30_001}


def test_what_a_birth_does_not_name_leaves_a_slow_clock_slow() -> None:
    """That a field is bad is told by the gateway's clock; were the node's death too, what comes next would be late."""
    bench, slow_ms = Network(), 3_600_000
    bench.node = EdgeSession("net", "node", [EdgeDevice("H2S-7", (EdgeMetric("ppm"),))])
    for death_ms in (2000, 5000):
        bench.node.will(0, bench.clock.ms - slow_ms)
        bench.hear(bench.node.nbirth(0, 1, bench.clock.ms - slow_ms))
        said = bench.clock.ms - NOW_MS - slow_ms
        bench.hear(bench.node.dbirth("H2S-7", columns((0, said, 5.0, GOOD)), 1, bench.clock.ms - slow_ms))
        bench.clock.ms += 1000
        data = columns((0, said + 1000, 6.0, GOOD))
        bench.hear(bench.node.ddata("H2S-7", data, 2, bench.clock.ms - slow_ms, historical=False))
        bench.clock.ms = NOW_MS + death_ms
        bench.hear(bench.node.ndeath(bench.clock.ms))
        bench.clock.ms += 1000
    times = [at_ms + slow_ms for point, at_ms, *_ in bench.readings if point == 0]
    assert times == [0, 1000, 2000, 3000, 4000, 5000]


def test_what_comes_though_no_birth_named_it_is_not_bad_at_each_birth() -> None:
    """A node that breaks the rules is asked for births again and again, and is read all the same."""
    bench = Network()
    bench.node = EdgeSession("net", "node", [EdgeDevice("H2S-7", (EdgeMetric("ppm"),))])
    bench.node.will(0, NOW_MS)
    for ms in (0, 100):
        bench.clock.ms = NOW_MS + ms
        bench.hear(bench.node.nbirth(0, 1, bench.clock.ms))
        bench.hear(bench.node.dbirth("H2S-7", columns((0, ms, 6.0, GOOD)), 1, bench.clock.ms))
        payload = Payload(timestamp=NOW_MS + ms + 1, seq=2)
        payload.metrics.add(name="battery", datatype=DataType.DOUBLE, double_value=80.0)
        bench.networks.take(Arrival("spBv1.0/net/DDATA/node/H2S-7", payload.SerializeToString(), retained=False))
    assert [each[1:] for each in bench.readings if each[0] == 1][1:] == [(1, 80.0, GOOD), (101, 80.0, GOOD)]


def test_a_devices_death_and_an_old_death_of_the_node() -> None:
    """A DDEATH turns the points bad; an NDEATH of a session before this one says nothing."""
    bench = Network()
    born(bench)
    del bench.samples[:]
    older = EdgeSession("net", "node", [bench.device])
    bench.hear(older.will(7, NOW_MS))
    assert bench.readings == []
    bench.hear(bench.node.ddeath("H2S-7", NOW_MS))
    assert {quality for *_, quality in bench.readings} == {BAD_NOT_CONNECTED}
    assert bench.counts["stale-death"] == 1


def test_what_a_birth_says_again_does_not_count_twice() -> None:
    """A rebirth brings the last values anew, with their old times: they are counted as repeated."""
    bench = Network()
    born(bench)
    before = bench.readings
    born(bench)
    assert bench.readings == before
    assert bench.counts["repeated"] == 2
    bench.hear(bench.node.ddata("H2S-7", columns((0, 10, 6.0, GOOD)), 2, NOW_MS, historical=False))
    newest = bench.readings
    born(bench)
    assert bench.readings == newest


def test_data_before_the_birth_asks_for_it_with_growing_waits() -> None:
    """One request for many messages, the next 2 s later, the next 4 s after that; nothing is made up meanwhile."""
    bench = Network()
    node = EdgeSession("net", "node", [bench.device])
    asked = []
    for second in range(12):
        bench.clock.ms = NOW_MS + 1000 * second
        data = node.ddata("H2S-7", columns((0, 1000 * second, 1.0, GOOD)), 2, NOW_MS, historical=False)
        asked += [second for _ in bench.hear(data)]
    assert asked == [0, 2, 6]
    assert bench.readings == []
    assert bench.counts["not-born"] == 12


def test_data_that_no_birth_explains_are_silence() -> None:
    """By aliases of which nobody knows what they mean: no sensor is back with them. By name they are readings."""
    bench = Network()
    for _ in range(3):
        bench.sensor.gone("away")
    node = EdgeSession("net", "node", [bench.device])
    unexplained = node.ddata("H2S-7", columns((0, 0, 1.0, GOOD)), 2, NOW_MS, historical=False)
    bench.hear(unexplained)
    assert bench.sensor.figures().dead
    assert "data before the birth" in bench.sensor.figures().reason
    born(bench)
    assert not bench.sensor.figures().dead
    for _ in range(3):
        bench.sensor.gone("away")
    told = Payload(timestamp=NOW_MS, seq=2)
    told.metrics.add(alias=77, timestamp=NOW_MS, datatype=DataType.DOUBLE, double_value=2.0)
    bench.hear(Message(unexplained.topic, told.SerializeToString()))
    assert bench.sensor.figures().dead
    told.metrics.add(name="ppm", timestamp=NOW_MS, datatype=DataType.DOUBLE, double_value=2.0)
    bench.hear(Message(unexplained.topic, told.SerializeToString()))
    assert not bench.sensor.figures().dead


@pytest.mark.parametrize(
    ("metric", "at_ms", "historical", "heard"),
    [
        (0, -600_000, False, False),
        (0, -4000, False, True),
        (0, 100, False, True),
        # Each metric by its own time: one that is slower is not behind the others.
        (1, -15_000, False, True),
        (1, -30_000, False, False),
        # What was kept says that the node is there.
        (0, -600_000, True, True),
    ],
)
def test_a_node_whose_clock_was_set_back_is_as_good_as_silent(
    metric: int, at_ms: int, *, historical: bool, heard: bool
) -> None:
    """What it says is late for everybody: its last value must not stay good meanwhile."""
    bench = Network()
    bench.node.will(0, NOW_MS)
    bench.hear(bench.node.nbirth(0, 1, NOW_MS))
    bench.hear(bench.node.dbirth("H2S-7", columns((0, 0, 5.0, GOOD), (1, -20_000, 80.0, GOOD)), 1, NOW_MS))
    for _ in range(3):
        bench.sensor.gone("away")
    bench.clock.ms += 100
    said = columns((metric, at_ms, 6.0, GOOD))
    bench.hear(bench.node.ddata("H2S-7", said, 2, bench.clock.ms, historical=historical))
    assert bench.sensor.figures().dead is not heard
    assert ("behind what it said before" in bench.sensor.figures().reason) is not heard
    assert bench.readings[-1][1:] == (at_ms, 6.0, GOOD)
    bench.hear(bench.node.ddata("H2S-7", columns((0, 200, 7.0, GOOD)), 3, bench.clock.ms, historical=False))
    assert not bench.sensor.figures().dead
    assert bench.sensor.figures().reason == ""


def test_an_absurd_time_of_a_network_is_its_arrival_and_an_old_birth_no_reading() -> None:
    """Data of 2001 came now; what a birth says of 2001 is not known to be so now."""
    bench = Network()
    bench.node.will(0, NOW_MS)
    bench.hear(bench.node.nbirth(0, 1, NOW_MS))
    old = 990_000_000_000 - NOW_MS
    bench.hear(bench.node.dbirth("H2S-7", columns(*((n, old, 1.0, GOOD) for n in range(3))), 1, NOW_MS))
    assert bench.readings == []
    bench.hear(bench.node.ddata("H2S-7", columns((1, old, 1.0, GOOD)), 2, NOW_MS, historical=False))
    assert bench.readings == [(1, 0, 1.0, GOOD)]
    assert bench.counts["absurd-time"] == 3


@pytest.mark.parametrize("time_ms", [0, 1000, NOW_MS - 86_400_001, NOW_MS + 86_400_001, NOW_MS + 10**11])
def test_whichever_clock_is_days_away_data_of_a_network_came_now(time_ms: int) -> None:
    """The node's or the gateway's own, without a battery: a detector that is heard and not read would be silent."""
    bench = Network()
    born(bench)
    del bench.samples[:]
    away = time_ms - NOW_MS
    bench.hear(bench.node.ddata("H2S-7", columns((1, away, 9.0, GOOD)), 2, time_ms, historical=False))
    assert bench.readings == [(1, 0, 9.0, GOOD)]


@pytest.mark.parametrize("days", [-400, -2, -1, 0.5, 2])
def test_what_a_network_sends_late_is_never_of_now(days: float) -> None:
    """After a cut of days its backlog stands in its own time, or, ahead of the gateway's clock, in none."""
    bench = Network()
    born(bench)
    del bench.samples[:]
    away = round(days * 86_400_000) - 1
    bench.hear(bench.node.ddata("H2S-7", columns((1, away, 9.0, GOOD)), 2, NOW_MS, historical=True))
    assert bench.readings == ([(1, away, 9.0, GOOD)] if days < 0 else [])


@pytest.mark.parametrize("payload", [b"\xff", b"x" * ((1 << 20) + 1)])
def test_a_message_that_is_no_sparkplug_is_counted(payload: bytes) -> None:
    """Garbage and what is too large say nothing of the points."""
    bench = Network()
    born(bench)
    del bench.samples[:]
    bench.networks.take(Arrival("spBv1.0/net/DDATA/node/H2S-7", payload, retained=False))
    assert bench.readings == []
    assert list(bench.counts) in (["undecodable"], ["too-large"])


def test_a_retained_birth_is_old() -> None:
    """Sparkplug forbids it: nobody knows whether the node still lives."""
    bench = Network()
    bench.hear(bench.node.nbirth(0, 1, NOW_MS), retained=True)
    bench.hear(bench.node.dbirth("H2S-7", columns(*((n, 0, 1.0, GOOD) for n in range(3))), 1, NOW_MS), retained=True)
    assert (bench.readings, bench.counts) == ([], {"retained": 1})
