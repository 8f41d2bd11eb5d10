"""Holds the figures of the alarm system to the standards' words, and to a count of every window by hand."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.kpi import (
    BANDS,
    DAY,
    MINUTE,
    SECOND,
    Annunciated,
    FloodWatch,
    Load,
    chattering,
    figures,
    fleeting,
    floods,
    load,
)
from tocsin_core.plant import Priority

START: Final = 1_800_000_000 * SECOND


def raised(*seconds: float, alarm: str = "A/H", lasting: float | None = 60.0) -> list[Annunciated]:
    """Occurrences of one alarm."""
    return [
        Annunciated(
            alarm,
            Priority.LOW,
            START + round(second * SECOND),
            None if lasting is None else START + round((second + lasting) * SECOND),
        )
        for second in seconds
    ]


def test_three_raises_within_a_minute_are_chattering() -> None:
    """Two are not, nor three in just a minute; each alarm is counted by itself."""
    assert chattering(raised(0, 20, 59.9)) == {"A/H": 3}
    assert chattering(raised(0, 20, 60)) == {}
    assert chattering([*raised(0, 20), *raised(30, alarm="B/H")]) == {}
    assert chattering(raised(100, 0, 10, 15, 55, 61)) == {"A/H": 4}


def test_an_alarm_gone_at_once_is_fleeting_unless_it_chatters() -> None:
    """What came and went within ten seconds, and does not do so all the time."""
    assert fleeting(raised(0, 3600, lasting=9.9)) == {"A/H": 2}
    assert fleeting(raised(0, 3600, lasting=10.0)) == {}
    assert fleeting(raised(0, lasting=None)) == {}
    assert fleeting(raised(0, 20, 40, lasting=5.0)) == {}


def test_a_flood_begins_with_the_eleventh_alarm_and_ends_below_five() -> None:
    """Ten in ten minutes are none; the end is when the window has emptied, not when the last alarm came."""
    ten = raised(*range(0, 500, 50))
    end = START + 3600 * SECOND
    assert floods(ten, end) == []
    eleven = [*raised(5, alarm="FIRST/HH"), *raised(*range(10, 510, 50))]
    (flood,) = floods(eleven, end)
    assert (flood.begin_ns, flood.alarms, flood.first) == (START + 460 * SECOND, 11, "FIRST/HH")
    # The window holds four once the seventh alarm (second 260) is ten minutes old.
    assert flood.end_ns == START + 860 * SECOND
    assert floods(eleven, START + 800 * SECOND)[0].end_ns is None
    assert floods(eleven, end, operators=2) == []


def by_hand(seconds: Sequence[int], end: int) -> list[tuple[int, int | None]]:
    """Floods of whole seconds by counting the ten minutes behind every second."""
    found: list[tuple[int, int | None]] = []
    wet = False
    for second in range(end + 1):
        count = sum(second - 600 < one <= second for one in seconds)
        if not wet and count > 10:
            found.append((second, None))
            wet = True
        elif wet and count < 5:
            found[-1] = found[-1][0], second
            wet = False
    return found


@given(st.lists(st.integers(0, 2400), max_size=60))
def test_floods_are_those_counted_by_hand(seconds: list[int]) -> None:
    """Second by second over forty minutes and the half hour after."""
    told = floods(raised(*seconds), START + 3600 * SECOND)
    shown = [
        ((one.begin_ns - START) // SECOND, None if one.end_ns is None else (one.end_ns - START) // SECOND)
        for one in told
    ]
    assert shown == by_hand(seconds, 3600)


@given(st.lists(st.tuples(st.integers(0, 9000), st.booleans()), max_size=80), st.integers(1, 900))
def test_a_flood_that_is_watched_is_the_one_of_the_whole_journal(told: list[tuple[int, bool]], every_s: int) -> None:
    """Asked now and then, with alarms that come in order or ten minutes late, and with all that is old forgotten."""
    coming = sorted((second + 600 * late, second) for second, late in told)
    watch, known = FloodWatch(), list[Annunciated]()
    for now in range(0, 10_800, every_s):
        while coming and coming[0][0] <= now:
            known += raised(coming.pop(0)[1], alarm=f"A{len(known)}/H")
            watch.take(known[-1:])
        now_ns = START + now * SECOND
        going_on = [one for one in floods(known, now_ns) if one.end_ns is None]
        recent = sum(now_ns - 10 * MINUTE < one.raised_ns <= now_ns for one in known)
        assert watch.at(now_ns) == (going_on[-1] if going_on else None, recent)


def test_an_alarm_of_the_future_counts_when_its_time_has_come() -> None:
    """A gateway whose clock runs ahead begins no flood before it is time."""
    watch = FloodWatch()
    watch.take(raised(*range(100, 111)))
    assert watch.at(START) == (None, 0)
    flood, recent = watch.at(START + 111 * SECOND)
    assert flood is not None
    assert (flood.alarms, recent) == (11, 11)


@pytest.mark.parametrize(
    ("rate", "called"),
    [
        (0.99, Load.ACCEPTABLE),
        (1.0, Load.MANAGEABLE),
        (2.0, Load.MANAGEABLE),
        (5.0, Load.OVER_DEMANDING),
        (10.0, Load.OVER_DEMANDING),
        (10.1, Load.UNACCEPTABLE),
    ],
)
def test_a_load_has_its_name(rate: float, called: Load) -> None:
    """As EEMUA 191 bands it."""
    assert load(rate) is called


def test_the_bands_are_those_of_an_hour_and_a_day() -> None:
    """EEMUA 191 in its other words: 144 and 288 a day, 60 an hour."""
    bounds = dict(BANDS)
    assert (bounds[Load.ACCEPTABLE] * 144, bounds[Load.MANAGEABLE] * 144) == (144, 288)
    assert bounds[Load.OVER_DEMANDING] * 6 == 60


def test_a_day_has_its_figures() -> None:
    """One alarm in ten minutes, one standing from the day before, for one operator and for two."""
    old = Annunciated("OLD/L", Priority.HIGH, START - 2 * DAY, None)
    day = [old, *raised(*range(0, 86400, 600)), *raised(3, 5, alarm="B/H")]
    shown = figures(day, START, START + DAY)
    assert (shown.alarms, shown.most_in_ten_minutes, shown.load) == (146, 3.0, Load.MANAGEABLE)
    assert [shown.per_day, shown.per_hour, shown.per_ten_minutes] == pytest.approx([146.0, 146 / 24, 146 / 144])
    assert (shown.ten_minutes_over, shown.hours_over, shown.in_flood) == (0.0, 0.0, 0.0)
    assert (shown.top, shown.top_share) == ((("A/H", 144), ("B/H", 2)), 1.0)
    assert (shown.priorities[Priority.LOW], shown.standing) == (1.0, ("OLD/L",))
    assert figures(day, START, START + DAY, operators=2).per_day == pytest.approx(73.0)


def test_what_had_returned_before_the_span_does_not_stand_in_it() -> None:
    """However long it had stood: the journal of a span begins a day before it, for the sake of its floods."""
    gone = raised(-3 * 86_400, lasting=3 * 86_400 - 3600)
    still = raised(-3 * 86_400, alarm="B/H", lasting=3 * 86_400 + 1)
    assert figures([*gone, *still], START, START + DAY).standing == ("B/H",)


def test_a_flood_is_a_share_of_its_time() -> None:
    """Forty alarms in forty seconds: one window and one hour too many, wet until ten minutes later."""
    shown = figures(raised(*range(40)), START, START + 10 * 60 * MINUTE)
    (flood,) = shown.floods
    assert (flood.begin_ns, flood.end_ns) == (START + 10 * SECOND, START + 635 * SECOND)
    assert shown.in_flood == pytest.approx(625 / 36000)
    assert [shown.ten_minutes_over, shown.hours_over] == pytest.approx([1 / 60, 1 / 10])
    assert shown.by_hour == (40.0, *[0.0] * 9)


def test_the_most_in_ten_minutes_is_of_any_ten_minutes() -> None:
    """Eleven alarms about a full ten minutes of the clock are a flood, and no window of the clock has more than ten."""
    shown = figures(raised(*range(595, 606)), START, START + 60 * MINUTE)
    assert (shown.most_in_ten_minutes, len(shown.floods), shown.ten_minutes_over) == (11.0, 1, 0.0)
    apart = figures(raised(0, 600, 1200), START, START + 60 * MINUTE, operators=2)
    assert (apart.most_in_ten_minutes, figures([], START, START + DAY).most_in_ten_minutes) == (0.5, 0.0)


def test_a_quiet_span_has_figures_and_an_empty_one_has_none() -> None:
    """No alarm is no error."""
    assert figures([], START, START + DAY).per_day == 0.0
    with pytest.raises(ValueError, match="ends before it begins"):
        figures([], START, START)


def test_a_flood_that_began_before_the_span_counts_from_its_start() -> None:
    """Its alarms are not the span's, its time is."""
    shown = figures(raised(*range(40)), START + 100 * SECOND, START + 1100 * SECOND)
    assert (shown.alarms, len(shown.floods), shown.in_flood) == (0, 1, 0.535)
