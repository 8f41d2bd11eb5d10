"""What the side-by-side run counts is true, shown on a gateway that miscounts on purpose and on made-up runs."""

import asyncio
import os
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.side_by_side.bed import bed
from tests.bench.side_by_side.counter import PLACES, Arrival, Course, Span, figures
from tests.bench.side_by_side.devices import DEVICES, VALUES, Fault, HandedOut, address_of, place_of, read_log, value_of
from tests.bench.side_by_side.fake import Fake, Sin
from tests.bench.side_by_side.link import Wire
from tests.bench.side_by_side.neuron import Neuron
from tests.bench.side_by_side.nodered import NodeRed
from tests.bench.side_by_side.peer import Message, NotInstalledError, run_installer
from tests.bench.side_by_side.run import SCRIPT, Plan, Step, killings, run
from tests.bench.side_by_side.telegraf import Telegraf
from tests.bench.side_by_side.thingsboard import ThingsBoard
from tests.support.need import need_program

MOSQUITTO = need_program("mosquitto")
PERIOD_S = 0.2
SHORT = (
    Step("calm", 3),
    Step("faulty", 4, faults=True),
    Step("well", 1),
    Step("cut", 1.5, wire=Wire.CUT),
    Step("back", 3),
    Step("killed", 6, kill=True),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[HandedOut], list[Arrival]]:
    """The figures of a short run of the fake gateway, and what they were counted from."""
    folder = tmp_path_factory.mktemp("bed")

    async def whole() -> tuple[dict[str, Any], list[HandedOut], list[Arrival]]:
        async with bed(folder, MOSQUITTO, 3) as made:
            figures = await run(Fake(), made, Plan.drawn(3, SHORT, PERIOD_S, 1), lambda _: None)
            return figures, read_log(made.log), Fake().arrivals(made.messages)

    return asyncio.run(whole())


def test_what_the_fake_loses_and_doubles_is_counted(
    found: tuple[dict[str, Any], list[HandedOut], list[Arrival]],
) -> None:
    """In the calm span exactly every answer of a losing number is lost, and every one of a doubling number doubled."""
    figures, handed, _ = found
    healthy = set(range(1, DEVICES + 1)) - set(Plan.drawn(3).faults)
    calm = [each for each in handed if each.device in healthy and each.at_s <= figures["spans"]["calm"][1]]
    calm = [each for each in calm if each.at_s >= figures["spans"]["calm"][0]]
    by_sin = {sin: sum(each.value % 10 == sin for each in calm) for sin in Sin}
    assert all(by_sin.values())
    assert figures["lost_by_span"]["calm"] == by_sin[Sin.LOSES]
    assert figures["doubled_by_span"]["calm"] == by_sin[Sin.DOUBLES] + by_sin[Sin.DOUBLES_WITH_A_NEW_STAMP]
    assert 0 < figures["readings_doubled_in_store"] < figures["readings_doubled"]


def test_what_the_fake_mixes_up_is_counted(
    found: tuple[dict[str, Any], list[HandedOut], list[Arrival]],
) -> None:
    """Values said to be another point's are counted each, and late answers that served the next question too."""
    figures, _, arrivals = found
    late = next(device for device, fault in Plan.drawn(3).faults.items() if fault is Fault.LATE)
    on_purpose = [each for each in arrivals if each.value % 10 == Sin.SAYS_OF_ANOTHER and each.device != late]
    from_late = figures["values_of_another_point"] - len(on_purpose)
    assert on_purpose
    assert 0 < from_late <= sum(each.device == late for each in arrivals)
    assert figures["late_answers"] >= figures["late_answers_taken"] > 0
    assert figures["values_made_up"] == 0


def test_the_fake_is_seen_to_come_back(found: tuple[dict[str, Any], list[HandedOut], list[Arrival]]) -> None:
    """After the cut and after the kill all healthy devices are live again."""
    figures, _, _ = found
    assert set(figures["recovery"]) == {"back", "killed"}
    assert all(each["live_s"] is not None for each in figures["recovery"].values())
    assert figures["late_by_span"]["cut"] > 0
    assert figures["dead_device_back_s"] is not None
    assert figures["cpu_s"] > 0
    assert figures["rss_most_mb"] >= figures["rss_mb"] > 1


def course(*spans: Span) -> Course:
    """Device 1 is healthy, device 2 was dead up to the start."""
    return Course(spans, frozenset({1}), 2, spans[0].from_s, 1.0)


def read(times: Iterable[float], device: int = 1) -> list[HandedOut]:
    """All values of a device, handed out at these times."""
    return [
        HandedOut(device, place, value_of(device, place, serial), at, overtaken=False)
        for serial, at in enumerate(times)
        for place in range(PLACES)
    ]


def came(handed: Iterable[HandedOut], after_s: float) -> list[Arrival]:
    """Each of them, once, so long after it was handed out."""
    return [Arrival(each.device, each.place, each.value, 0, each.at_s + after_s) for each in handed]


def test_a_perfect_run_has_nothing_to_count() -> None:
    """One reading a period, each there at once: every count is 0."""
    handed = read(at + 0.5 for at in range(10))
    told = figures(course(Span("calm", 0.0, 10.0)), handed, came(handed, 0.1))
    counts = ("not_made", "lost", "late", "doubled", "doubled_in_store")
    assert {told[f"readings_{name}"] for name in counts} == {0}
    assert (told["values_of_another_point"], told["values_made_up"], told["late_answers_taken"]) == (0, 0, 0)
    assert told["readings_handed_out"] == len(handed)
    assert told["longest_gap_s"] == 1.0


@pytest.mark.parametrize(
    ("times", "missing"),
    [
        pytest.param([0.5, 1.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5], 2, id="a gap"),
        pytest.param([0.5 + 1.25 * at for at in range(8)], 2, id="every period a quarter too long"),
        pytest.param([3.5, 4.5, 5.5, 6.5, 7.5], 5, id="late begun, early ended"),
        pytest.param([], 10, id="never"),
    ],
)
def test_readings_that_were_not_made_are_counted(times: list[float], missing: int) -> None:
    """However they are missing, in one gap, at the ends, or a little each period."""
    handed = read(times)
    assert figures(course(Span("calm", 0.0, 10.0)), handed, came(handed, 0.1))["readings_not_made"] == missing * PLACES


def test_late_counts_only_where_the_broker_was_reachable() -> None:
    """What waits for the broker is late by span, but not in the sum; its way up is the recovery's backlog."""
    spans = (Span("calm", 0.0, 3.0), Span("cut", 3.0, 8.0, reachable=False), Span("back", 8.0, 12.0))
    handed = read(at + 0.5 for at in range(12))
    arrivals = came([each for each in handed if not 3 < each.at_s < 8], 0.1)
    arrivals += [Arrival(1, each.place, each.value, 0, 9.0) for each in handed if 3 < each.at_s < 8]
    told = figures(course(*spans), handed, arrivals)
    assert told["readings_late"] == 0
    assert told["late_by_span"] == {"cut": 4 * PLACES}
    assert told["recovery"] == {"back": {"live_s": 0.6, "backlog_s": 1.0}}


def test_what_a_kill_takes_is_told_with_its_age() -> None:
    """Of two kills one takes a reading, 0.3 s old; what was on its way before the last kill is not asked of it."""
    spans = (Span("calm", 0.0, 2.2), Span("killed 1", 2.2, 4.8, killed=True), Span("killed 2", 4.8, 9.0, killed=True))
    handed = read(at + 0.5 for at in range(9))
    told = figures(course(*spans), handed, came([each for each in handed if each.at_s not in (4.5, 6.5)], 0.1))
    assert (told["kills"], told["kills_that_took_some"], told["oldest_taken_ms"]) == (2, 1, 300.0)
    assert told["readings_lost"] == 2 * PLACES


def test_made_up_values_and_taken_late_answers_are_told_apart() -> None:
    """A 0 that nobody handed out is made up; an overtaken answer that arrives was taken for another question's."""
    handed = read([0.5])
    overtaken = HandedOut(2, 0, value_of(2, 0, 7), 0.6, overtaken=True)
    arrivals = [*came([*handed, overtaken], 0.1), Arrival(1, 0, 0, 0, 1.0)]
    told = figures(course(Span("calm", 0.0, 1.0)), [*handed, overtaken], arrivals)
    assert (told["values_made_up"], told["late_answers_taken"], told["values_of_another_point"]) == (1, 1, 1)
    assert told["dead_device_back_s"] == 0.7


def test_every_place_has_its_own_registers() -> None:
    """Places do not overlap, and a value tells device and place."""
    assert len({address_of(place) for place in range(PLACES)}) == PLACES
    assert place_of(value_of(DEVICES, PLACES - 1, 99_999)) == (DEVICES, PLACES - 1)
    assert value_of(DEVICES, PLACES - 1, 99_999) < 2**32


def test_the_seed_draws_the_script() -> None:
    """The same seed gives the same plan, another one another; no step becomes shorter."""
    assert Plan.drawn(1) == Plan.drawn(1) != Plan.drawn(2)
    assert all(drawn.seconds >= step.seconds for drawn, step in zip(Plan.drawn(5).steps, SCRIPT, strict=True))
    assert sum(step.kill for step in Plan.drawn(5, killings(7)).steps) == 7


def test_the_peers_messages_are_understood() -> None:
    """A message of each peer as it was seen on the wire gives the points, values and stamps that are in it."""
    value = value_of(4, 6, 17)
    of_thingsboard = b'{"d4": [{"ts": 1700000000000, "values": {"b1r1002": %d}}]}' % value
    of_nodered = b'{"ts": 1700000000000, "v": [%d, %d]}' % (value - 100_000, value)
    expected = Arrival(4, 6, value, 1_700_000_000_000, 2.0)
    assert ThingsBoard().arrivals([Message("v1/gateway/telemetry", of_thingsboard, 2.0)]) == [expected]
    assert NodeRed().arrivals([Message("bench/4/1", of_nodered, 2.0)])[1] == expected
    of_telegraf = b'{"metrics":[{"fields":{"p6":%d},"name":"modbus","tags":{"name":"d4"},"timestamp":1700000000000}]}'
    assert Telegraf().arrivals([Message("telegraf", of_telegraf % value, 2.0)]) == [expected]
    of_neuron = b'{"node": "d4", "group": "all", "timestamp": 1700000000000, "values": {"p6": %d}, "errors": {}}'
    assert Neuron().arrivals([Message("neuron/data", of_neuron % value, 2.0)]) == [expected]


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path) -> None:
    """The package client's own words, without its warnings, are the reason."""
    code = "import sys; sys.exit('npm warn old\\nno such package')"
    with pytest.raises(NotInstalledError, match=r"\Ano such package\Z"):
        run_installer((sys.executable, "-c", code), tmp_path, os.environ)


def test_a_peer_of_no_registry_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its program it is left out with a line that tells how to give one; with one its version is told."""
    monkeypatch.delenv("TOCSIN_BENCH_TELEGRAF", raising=False)
    with pytest.raises(NotInstalledError, match="TOCSIN_BENCH_TELEGRAF is not set"):
        Telegraf().install(tmp_path)
    program = tmp_path / "telegraf"
    monkeypatch.setenv("TOCSIN_BENCH_TELEGRAF", str(program))
    with pytest.raises(NotInstalledError, match="names no program that can be run"):
        Telegraf().install(tmp_path)
    program.write_text("#!/bin/sh\necho Telegraf 1.2.3\n", encoding="ascii")
    program.chmod(0o755)
    assert Telegraf().install(tmp_path) == {"telegraf": "Telegraf 1.2.3"}


def test_what_telegraf_is_told_reads_each_device_with_two_questions(tmp_path: Path) -> None:
    """Its file is sound TOML: an input a device at its port, a request a block, every register of it once."""
    Telegraf().configure(tmp_path / "gateway", [1001, 1002], 1883, 0.5)
    told = tomllib.loads((tmp_path / "gateway" / "telegraf.conf").read_text(encoding="utf-8"))
    assert told["agent"]["interval"] == "500ms"
    assert told["outputs"]["mqtt"][0]["servers"] == ["mqtt://127.0.0.1:1883"]
    inputs = told["inputs"]["modbus"]
    assert [(each["name"], each["controller"]) for each in inputs] == [
        ("d1", "tcp://127.0.0.1:1001"),
        ("d2", "tcp://127.0.0.1:1002"),
    ]
    asked = [[field["address"] for field in request["fields"]] for request in inputs[1]["request"]]
    assert asked == [[address_of(place) for place in range(first, first + VALUES)] for first in (0, VALUES)]
