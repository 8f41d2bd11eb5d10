"""Voting: groups seen after every reading, medians, deviations and votes against plain loops, and the degradations."""

from math import isnan
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import SECOND, START_NS, assert_same, f64, flags, i64
from tocsin_core.detectors import voting
from tocsin_core.detectors.voting import Groups, Members
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_WAITING, GOOD

GROUPS = Groups.of([[0, 1, 2], [5], [2, 4], [9, 0, 7, 3]])
Reading = tuple[int, float, int]  # point, value, quality

readings = st.lists(
    st.tuples(
        st.integers(0, 10),
        st.sampled_from([0.0, 1.0, 2.5, 7.0, 40.0]),
        st.sampled_from([GOOD, GOOD, GOOD, BAD_COMM_FAILURE]),
    ),
    max_size=30,
)


def advanced(state: Members, life: list[Reading], start: int) -> tuple[Members, voting.Seen]:
    """These readings, one a second from second number `start`."""
    point = i64(*(point for point, _, _ in life))
    time = START_NS + (start + np.arange(len(life))) * SECOND
    seat, source = GROUPS.seats_of(point)
    value = f64(*(value for _, value, _ in life))
    quality = np.asarray([quality for _, _, quality in life], np.uint8)
    return voting.advance(state, GROUPS, seat, time[source], value[source], quality[source])


@given(readings, st.integers(0, 30))
def test_every_group_is_seen_as_it_stood(life: list[Reading], cut: int) -> None:
    """In one call or in two, each reading shows its groups with the last reading of every member."""
    points = [[0, 1, 2], [5], [2, 4], [9, 0, 7, 3]]
    latest: dict[int, tuple[int, float, int]] = {}
    expected = []
    for number, (point, value, quality) in enumerate(life):
        latest[point] = (START_NS + number * SECOND, value, quality)
        for group, members in enumerate(points):
            if point in members:
                stood = [latest.get(member, (-1, None, BAD_WAITING)) for member in members]
                expected.append((group, START_NS + number * SECOND, stood))
    whole, seen = advanced(Members.empty(10), life, 0)
    parts, _ = advanced(Members.empty(10), life[:cut], 0)
    parts, _ = advanced(parts, life[cut:], min(cut, len(life)))
    assert_same(whole, parts)
    told = []
    for row in range(len(seen.group)):
        span = slice(int(seen.first[row]), int(seen.first[row + 1]))
        columns = zip(seen.time_ns[span].tolist(), seen.value[span].tolist(), seen.quality[span].tolist(), strict=True)
        members_seen = [(time, None if isnan(value) else value, quality) for time, value, quality in columns]
        told.append((int(seen.group[row]), int(seen.at_ns[row]), members_seen))
    assert told == expected


cells = st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.5, 9.0]), st.booleans())


@given(
    st.lists(
        st.tuples(st.lists(cells, min_size=1, max_size=5), st.integers(1, 3), st.booleans()), min_size=1, max_size=6
    )
)
def test_medians_deviations_and_votes_of_many_groups(
    groups: list[tuple[list[tuple[float, bool]], int, bool]],
) -> None:
    """Many groups in one call get what each gets by itself, from a plain reading of the rules."""
    flat = [cell for cells, _, _ in groups for cell in cells]
    value, usable = f64(*(v for v, _ in flat)), flags(*(u for _, u in flat))
    first = np.cumsum([0, *(len(cells) for cells, _, _ in groups)])
    middle = voting.median(value, usable, first)
    apart = voting.deviation(value, usable, first)
    wants = [min(need, len(cells)) for cells, need, _ in groups]
    safe = flags(*(safe for _, _, safe in groups))
    high = voting.vote(value, usable, first, i64(*wants), safe, flags(*(True for _ in groups)))
    low = voting.vote(value, usable, first, i64(*wants), safe, flags(*(False for _ in groups)))
    for row, ((group, _, tripping), wanted) in enumerate(zip(groups, wants, strict=True)):
        alive = [v for v, u in group if u]
        assert middle[row] == (median(alive) if alive else pytest.approx(float("nan"), nan_ok=True))
        if len(alive) < 2:
            assert np.isnan(apart.spread[row])
        else:
            assert apart.spread[row] == max(alive) - min(alive)
        if len(alive) > 2:
            far = [abs(v - median(alive)) if u else -1 for v, u in group]
            assert apart.worst[row] - first[row] == far.index(max(far))
        else:
            assert apart.worst[row] == -1
        lost = len(group) - len(alive)
        least = max(1, wanted - lost if tripping else min(wanted, len(alive)))
        for voted, sign in ((high, 1), (low, -1)):
            assert (voted.need[row], voted.of[row]) == (least, len(alive))
            for limit in (0.0, 1.0, 2.0, 5.0):
                # A limit on the voted value is a vote on the members' own limits, beyond it and inside it alike.
                beyond = sum(sign * v >= sign * limit for v in alive) >= least
                assert beyond == bool(sign * voted.value[row] >= sign * limit)
                inside = bool(alive) and sum(sign * v >= sign * limit - 0.5 for v in alive) < least
                assert inside == bool(sign * voted.value[row] < sign * limit - 0.5)


@pytest.mark.parametrize(
    ("usable", "declared", "need", "of"),
    [
        ((True, True, True), "safe", 2, 3),
        ((True, True, False), "safe", 1, 2),
        ((True, False, False), "safe", 1, 1),
        ((True, True, True), "available", 2, 3),
        ((True, True, False), "available", 2, 2),
        ((True, False, False), "available", 1, 1),
        ((False, False, False), "safe", 1, 0),
    ],
)
def test_two_out_of_three_degrades_as_declared(
    usable: tuple[bool, bool, bool],
    declared: str,
    need: int,
    of: int,
) -> None:
    """2oo3 becomes 1oo2 for safety or 2oo2 for availability, then 1oo1; with nobody left nothing is said."""
    told = voting.vote(
        f64(9.0, 1.0, 2.0), flags(*usable), i64(0, 3), i64(2), flags(declared == "safe"), np.asarray([True])
    )
    assert (told.need[0], told.of[0]) == (need, of)
    alive = sorted([v for v, u in zip((9.0, 1.0, 2.0), usable, strict=True) if u], reverse=True)
    assert told.value[0] == (alive[need - 1] if alive else pytest.approx(float("nan"), nan_ok=True))


def test_a_member_not_heard_of_for_too_long_is_not_usable() -> None:
    """Bad and silent members have no say."""
    state, _ = advanced(Members.empty(10), [(0, 1.0, GOOD), (1, 2.0, BAD_COMM_FAILURE)], 0)
    _, seen = advanced(state, [(2, 3.0, GOOD)], 30)
    assert seen.group.tolist() == [0, 2]
    assert seen.usable(i64(30 * SECOND, 30 * SECOND)).tolist() == [True, False, True, True, False]
    assert seen.usable(i64(29 * SECOND, 30 * SECOND)).tolist() == [False, False, True, True, False]


def test_nothing_read_is_nothing_seen() -> None:
    """An empty frame is no special case."""
    _, seen = advanced(Members.empty(10), [(8, 1.0, GOOD)], 0)
    assert len(seen.group) == 0
    assert len(voting.deviation(seen.value, seen.usable(i64()), seen.first).spread) == 0
    assert Members.empty(2).bytes_per_row() == 17


@pytest.mark.parametrize("groups", [[[]], [[1, 1]]])
def test_a_group_must_have_members_each_once(groups: list[list[int]]) -> None:
    """A group that cannot vote is refused when it is made."""
    with pytest.raises(ValueError, match="group 0"):
        Groups.of(groups)
