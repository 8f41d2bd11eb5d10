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
    """What nobody wanted is most likely what is not there; of equal gaps that nearest to the middle."""
    profile = profile_at(0, 9, 11, 13, 15, 17)
    plan = compile_plan(profile, list(profile.values))
    assert spans(plan) == [(0, 17)]
    once = plan.refused(plan.requests[0], ILLEGAL_ADDRESS)
    assert spans(once) == [(0, 0), (9, 17)]
    assert spans(once.refused(once.requests[1], ILLEGAL_ADDRESS)) == [(0, 0), (9, 11), (13, 17)]


def test_exception_3_splits_in_the_middle() -> None:
    """A request that was too long is halved, whatever the gaps."""
    profile = profile_at(0, *range(9, 40))
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
    """The holes go through JSON into the plan of the next start."""
    profile = profile_at(0, 2, 12, 14)
    wanted = list(profile.values)
    plan = compile_plan(profile, wanted)
    learned = plan.refused(plan.requests[0], ILLEGAL_ADDRESS)
    stored = json.dumps([hole.as_row() for hole in learned.holes])
    assert stored == "[[3, 2, 12, false]]"
    again = compile_plan(profile, wanted, holes=holes_of(json.loads(stored)))
    assert again.requests == learned.requests
    assert again.holes == learned.holes


def test_two_accounts_of_a_hole_are_one() -> None:
    """A store that merges what several plans learned may name a place twice: proven is proven."""
    profile = profile_at(0, 9)
    plan = compile_plan(profile, list(profile.values), holes=(Hole(3, 0, 9, proven=True), Hole(3, 0, 9)))
    assert plan.holes == (Hole(3, 0, 9, proven=True),)


def test_a_hole_is_of_one_function() -> None:
    """Input registers are none the worse for what holding registers refuse."""
    values = {
        f"v{function}_{address}": {"address": address, "type": "u16", "function": function}
        for function in (3, 4)
        for address in (0, 9)
    }
    plan = compile_plan(Profile.model_validate({**HEAD, "values": values}), list(values), holes=(Hole(3, 0, 9),))
    assert plan.requests == (ReadRequest(3, 0, 1), ReadRequest(3, 9, 1), ReadRequest(4, 0, 10))


@pytest.mark.parametrize(
    "row",
    [
        [5, 0, 1, False],
        [3, 4, 4, False],
        [3, -1, 4, False],
        [3, 0, 70000, False],
        [3, 0, 1],
        [3, "a", 4, True],
        ["3", 0, 1, True],
        [3, 0, 1, 2],
    ],
)
def test_a_row_that_is_no_hole_is_refused(row: list[object]) -> None:
    """A damaged store is noticed where it is read."""
    with pytest.raises(ValueError, match="no hole"):
        holes_of([row])


def device(request: ReadRequest, missing: set[int], most: int) -> Reply:
    """Answer as a device that lacks some addresses and gives at most so many registers; each holds its address."""
    addresses = range(request.address, request.address + request.count)
    if request.count > most or missing.intersection(addresses):
        return BAD_CONFIGURATION
    return np.array(addresses, dtype=np.uint16)


def learn(plan: ReadPlan, missing: set[int], most: int, exception: int) -> tuple[ReadPlan, int, int]:
    """Poll until nothing more is to be learned; also how many passes had a refusal to learn from, and the doubts."""
    passes = doubts = 0
    while True:
        replies = [device(request, missing, most) for request in plan.requests]
        better = plan
        for request, reply in zip(plan.requests, replies, strict=True):
            if isinstance(reply, int):
                better = better.refused(request, exception)
        if better is not plan:
            passes += 1
        else:
            doubt = plan.doubt(replies)
            if doubt is None:
                return plan, passes, doubts
            doubts += 1
            refused = isinstance(device(doubt, missing, most), int)
            better = plan.refused(doubt, exception) if refused else plan.answered(doubt)
            assert better is not plan
        plan = better


@st.composite
def devices(draw: st.DrawFn) -> tuple[Profile, set[int], int, int]:
    """Return a profile, the addresses that its device lacks, the most it gives at once, and its exception."""
    addresses = draw(st.sets(st.integers(0, 120), min_size=1, max_size=30))
    missing = draw(st.sets(st.integers(0, 120), max_size=12))
    limits = {"registers": draw(st.integers(1, 125)), "gap": draw(st.sampled_from([None, 0, 3]))}
    profile = profile_at(*addresses, limits=limits)
    return profile, missing, draw(st.integers(1, 125)), draw(st.sampled_from([2, 3]))


@given(devices())
def test_a_plan_finds_all_that_a_device_has(case: tuple[Profile, set[int], int, int]) -> None:
    """Learning ends, and then every value that is there is read, and what is not there spoils nothing else."""
    profile, missing, most, exception = case
    values = len(profile.values)
    plan, passes, doubts = learn(compile_plan(profile, list(profile.values)), missing, most, exception)
    assert passes <= 2 * values
    assert doubts <= 2 * values
    decoded: Decoded = plan.decode([device(request, missing, most) for request in plan.requests])
    for name, value, quality in zip(plan.names, decoded.value, decoded.quality, strict=True):
        address = profile.values[name].address
        assert (quality == GOOD) == (address not in missing)
        assert math.isnan(value) if address in missing else value == address


def test_one_bad_register_among_many_is_alone_soon() -> None:
    """Of 64 registers in a row one that is missing is found in six passes, and then 63 are read in two requests."""
    profile = profile_at(*range(64))
    plan, passes, _ = learn(compile_plan(profile, list(profile.values)), {37}, 125, ILLEGAL_ADDRESS)
    assert passes == 6
    assert spans(plan) == [(0, 36), (37, 37), (38, 63)]
    assert all(hole.proven for hole in plan.holes)


def test_a_gap_that_is_missing_parts_the_plan_there_and_nowhere_else() -> None:
    """Of three gaps, equally wide, the one that the device lacks remains as the only hole."""
    profile = profile_at(0, 4, 8, 12)
    plan, _, _ = learn(compile_plan(profile, list(profile.values)), {9, 10, 11}, 125, ILLEGAL_ADDRESS)
    assert spans(plan) == [(0, 8), (12, 12)]
    assert plan.holes == (Hole(3, 8, 12, proven=True),)


def test_what_a_device_refuses_while_it_starts_is_unlearned() -> None:
    """A device that refuses everything for a while is read in one request again once it answers."""
    profile = profile_at(*range(32))
    plan = compile_plan(profile, list(profile.values))
    for _ in range(3):
        for request in plan.requests:
            plan = plan.refused(request, ILLEGAL_ADDRESS)
    assert len(plan.requests) == 8
    assert plan.doubt([BAD_CONFIGURATION] * 8) is None
    again = compile_plan(profile, list(profile.values), holes=plan.holes)
    plan, passes, _ = learn(again, set(), 125, ILLEGAL_ADDRESS)
    assert passes == 0
    assert spans(plan) == [(0, 31)]
    assert plan.holes == ()


def test_a_hole_of_other_days_is_in_no_doubt() -> None:
    """Holes between values that are wanted no more are kept and cost nothing."""
    profile = profile_at(0, 5, 10, 15)
    plan = compile_plan(profile, ["v0", "v5"], holes=(Hole(3, 10, 15),))
    assert plan.doubt([np.zeros(6, dtype=np.uint16)]) is None
    assert plan.holes == (Hole(3, 10, 15),)


def test_a_hole_inside_a_value_does_not_part_it() -> None:
    """A value that is wanted whole today is asked for whole, alone, whatever was learned when its halves were."""
    profile = profile_at(10, 12, kind="u32")
    plan = compile_plan(profile, list(profile.values), holes=(Hole(3, 10, 11, proven=True),))
    assert spans(plan) == [(10, 11), (12, 13)]


def test_a_place_opens_again_only_once() -> None:
    """A split that turned out needless, and then needed after all, is not doubted a second time."""
    profile = profile_at(0, 5)
    plan = compile_plan(profile, list(profile.values))
    parted = plan.refused(plan.requests[0], ILLEGAL_ADDRESS)
    assert parted.holes == (Hole(3, 0, 5),)
    doubt = parted.doubt([np.zeros(1, dtype=np.uint16), BAD_CONFIGURATION])
    assert doubt == plan.requests[0]
    joined = parted.answered(doubt)
    assert joined.requests == plan.requests
    assert joined.refused(doubt, ILLEGAL_ADDRESS).holes == (Hole(3, 0, 5, proven=True),)


@pytest.mark.parametrize(
    ("rule", "content"), [("illegal", ({"function": 3, "first": 2, "last": 3},)), ("limits", {"registers": 5})]
)
def test_a_doubt_keeps_to_the_rules_of_the_profile(rule: str, content: object) -> None:
    """What is now known to be illegal, or too long, is not asked even once."""
    values = {f"v{address}": {"address": address, "type": "u16"} for address in (0, 5)}
    profile = Profile.model_validate({**HEAD, "values": values, rule: content})
    plan = compile_plan(profile, list(values), holes=(Hole(3, 0, 5),))
    assert plan.doubt([np.zeros(1, dtype=np.uint16)] * 2) is None


def test_an_answer_without_a_hole_changes_nothing() -> None:
    """What a request of the plan brings teaches nothing."""
    profile = profile_at(0, 5)
    plan = compile_plan(profile, list(profile.values))
    assert plan.answered(plan.requests[0]) is plan
