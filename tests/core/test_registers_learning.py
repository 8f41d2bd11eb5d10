"""What a request costs, and how a plan learns which of them a device refuses."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import BAD_CONFIGURATION, GOOD
from tocsin_core.registers import (
    TCP,
    Decoded,
    Hole,
    Line,
    Profile,
    ReadPlan,
    ReadRequest,
    Reply,
    compile_plan,
    holes_of,
)

HEAD = {"vendor": "test", "model": "test", "trust": "documented", "source": "this test"}
ILLEGAL_ADDRESS, ILLEGAL_VALUE = 2, 3


def profile_at(*addresses: int, kind: str = "u16", **parts: object) -> Profile:
    """Return a profile of one value at each address, named after it."""
    values = {f"v{address}": {"address": address, "type": kind} for address in addresses}
    return Profile.model_validate({**HEAD, "values": values, **parts})


def spans(plan: ReadPlan) -> list[tuple[int, int]]:
    """Return first and last address of each request."""
    return [(request.address, request.address + request.count - 1) for request in plan.requests]


def test_a_serial_line_costs_its_bytes_silences_and_turn_round() -> None:
    """125 registers at 9600 baud 8N1 are 8 + 255 bytes in 274 ms, besides two silences of 3.5 characters."""
    line = Line.serial(9600, bits_per_character=10, turnaround_ms=0)
    silences = 2 * 3.5 * 10 / 9.6
    assert line.cost_ms(ReadRequest(3, 0, 125)) == pytest.approx(263 * 10 / 9.6 + silences)
    assert line.cost_ms(ReadRequest(1, 0, 1600)) == pytest.approx((13 + 200) * 10 / 9.6 + silences)


def test_the_silence_is_fixed_above_19200_baud() -> None:
    """1.75 ms, however fast the line."""
    fast = Line.serial(115_200, bits_per_character=11, turnaround_ms=5)
    assert fast.request_ms == pytest.approx(13 * 11 / 115.2 + 2 * 1.75 + 5)


@pytest.mark.parametrize(
    ("line", "gap", "requests"),
    [
        (Line.serial(9600, 11, turnaround_ms=50), 30, 1),
        (Line.serial(9600, 11, turnaround_ms=50), 35, 2),
        (Line.serial(115_200, 11, turnaround_ms=0), 40, 2),
        (TCP, 19, 1),
        (TCP, 21, 2),
    ],
)
def test_the_line_decides_what_is_read_along(line: Line, gap: int, requests: int) -> None:
    """A slow device on a slow line has more read along than a quick one on a quick line."""
    profile = profile_at(0, gap + 1)
    assert len(compile_plan(profile, list(profile.values), line).requests) == requests


def test_a_pause_makes_a_request_dear() -> None:
    """A device that wants 1 s between questions is asked once for what lies 100 registers apart."""
    near = profile_at(0, 100)
    slow = profile_at(0, 100, limits={"pause_ms": 1000})
    assert len(compile_plan(near, list(near.values)).requests) == 2
    plan = compile_plan(slow, list(slow.values))
    assert len(plan.requests) == 1
    assert plan.pause_ms == 1000


def test_the_plan_says_what_it_costs_and_wastes() -> None:
    """Twelve registers for four that are wanted; the price is that of the line."""
    profile = profile_at(0, 10, kind="f32")
    plan = compile_plan(profile, list(profile.values))
    assert plan.requests == (ReadRequest(3, 0, 12),)
    assert plan.wanted_of(plan.requests[0]) == 4
    assert plan.cost_ms == TCP.cost_ms(plan.requests[0]) == 10.0 + 12 * 0.5


def test_exception_2_splits_at_the_widest_gap() -> None:
    """What nobody wanted is most likely what is not there."""
    profile = profile_at(0, 2, 12, 14)
    plan = compile_plan(profile, list(profile.values))
    assert spans(plan) == [(0, 14)]
    assert spans(plan.refused(plan.requests[0], ILLEGAL_ADDRESS)) == [(0, 2), (12, 14)]


def test_exception_3_splits_in_the_middle() -> None:
    """A request that was too long is halved."""
    profile = profile_at(*range(40))
    plan = compile_plan(profile, list(profile.values))
    assert spans(plan.refused(plan.requests[0], ILLEGAL_VALUE)) == [(0, 19), (20, 39)]


@pytest.mark.parametrize("exception", [1, 4, 5, 6, 8, 10, 11])
def test_other_exceptions_teach_nothing(exception: int) -> None:
    """A device that is busy, or broken, still has its registers."""
    profile = profile_at(0, 5)
    plan = compile_plan(profile, list(profile.values))
    assert plan.refused(plan.requests[0], exception) is plan


@pytest.mark.parametrize("exception", [ILLEGAL_ADDRESS, ILLEGAL_VALUE])
def test_a_single_value_is_asked_for_again(exception: int) -> None:
    """A device that refuses while it starts is not left alone for ever."""
    profile = profile_at(7, kind="f32")
    plan = compile_plan(profile, list(profile.values))
    assert plan.refused(plan.requests[0], exception) is plan


def test_what_lies_in_one_word_is_one_value() -> None:
    """Two readings of the same registers cannot be parted, those beside them can."""
    values = {
        "whole": {"address": 4, "type": "u32"},
        "high": {"address": 4, "type": "u16"},
        "next": {"address": 6, "type": "u16"},
    }
    plan = compile_plan(Profile.model_validate({**HEAD, "values": values}), list(values))
    parted = plan.refused(plan.requests[0], ILLEGAL_ADDRESS)
    assert spans(parted) == [(4, 5), (6, 6)]
    assert parted.refused(parted.requests[0], ILLEGAL_ADDRESS) is parted


def test_what_was_learned_is_kept() -> None:
    """The holes go through JSON into the plan of the next start; a refusal told twice is learned once."""
    profile = profile_at(0, 2, 12, 14)
    wanted = list(profile.values)
    plan = compile_plan(profile, wanted)
    learned = plan.refused(plan.requests[0], ILLEGAL_ADDRESS)
    assert learned.refused(plan.requests[0], ILLEGAL_ADDRESS) is learned
    stored = json.dumps([hole.as_row() for hole in learned.holes])
    assert stored == "[[3, 2, 12]]"
    again = compile_plan(profile, wanted, holes=holes_of(json.loads(stored)))
    assert again.requests == learned.requests
    assert again.holes == learned.holes


def test_a_hole_is_of_one_function() -> None:
    """Input registers are none the worse for what holding registers refuse."""
    values = {
        f"v{function}_{address}": {"address": address, "type": "u16", "function": function}
        for function in (3, 4)
        for address in (0, 9)
    }
    plan = compile_plan(Profile.model_validate({**HEAD, "values": values}), list(values), holes=(Hole(3, 0, 9),))
    assert plan.requests == (ReadRequest(3, 0, 1), ReadRequest(3, 9, 1), ReadRequest(4, 0, 10))


@pytest.mark.parametrize("row", [[5, 0, 1], [3, 4, 4], [3, -1, 4], [3, 0, 70000], [3, 1], [3, "a", 4], ["3", 0, 1]])
def test_a_row_that_is_no_hole_is_refused(row: list[object]) -> None:
    """A damaged store is noticed where it is read."""
    with pytest.raises(ValueError, match="no hole"):
        holes_of([row])


def ask(plan: ReadPlan, missing: set[int], most: int) -> tuple[list[Reply], list[ReadRequest]]:
    """Answer as a device that lacks some addresses and gives at most so many registers; also what it refused."""
    replies: list[Reply] = []
    refused = []
    for request in plan.requests:
        addresses = range(request.address, request.address + request.count)
        if request.count > most or missing.intersection(addresses):
            refused.append(request)
            replies.append(BAD_CONFIGURATION)
        else:
            replies.append(np.array(addresses, dtype=np.uint16))
    return replies, refused


@st.composite
def devices(draw: st.DrawFn) -> tuple[Profile, set[int], int, int]:
    """Return a profile, the addresses that its device lacks, the most it gives at once, and its exception."""
    addresses = draw(st.sets(st.integers(0, 120), min_size=1, max_size=30))
    missing = draw(st.sets(st.integers(0, 120), max_size=12))
    return profile_at(*addresses), missing, draw(st.integers(1, 125)), draw(st.sampled_from([2, 3]))


@given(devices())
def test_a_plan_finds_all_that_a_device_has(device: tuple[Profile, set[int], int, int]) -> None:
    """After fewer refusals than values every value that is there is read, and what is not there spoils nothing else."""
    profile, missing, most, exception = device
    plan = compile_plan(profile, list(profile.values))
    learned = 0
    while True:
        replies, refused = ask(plan, missing, most)
        better = plan
        for request in refused:
            better = better.refused(request, exception)
        if better is plan:
            break
        learned += len(better.holes) - len(plan.holes)
        plan = better
    assert learned <= len(profile.values) - 1
    decoded: Decoded = plan.decode(replies)
    for name, value, quality in zip(plan.names, decoded.value, decoded.quality, strict=True):
        address = profile.values[name].address
        assert (quality == GOOD) == (address not in missing)
        assert math.isnan(value) if address in missing else value == address


def test_one_bad_register_among_many_is_alone_soon() -> None:
    """Of 64 registers in a row one that is missing is found in six rounds, and 63 are read in few requests."""
    profile = profile_at(*range(64))
    plan = compile_plan(profile, list(profile.values))
    rounds = 0
    while True:
        _, refused = ask(plan, {37}, 125)
        better = plan.refused(refused[0], ILLEGAL_ADDRESS)
        if better is plan:
            break
        plan, rounds = better, rounds + 1
    assert rounds == 6
    assert len(plan.requests) == 7
