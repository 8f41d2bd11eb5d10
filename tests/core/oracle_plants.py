"""Random plants: points with alarms of all kinds, and points that are worked out of others."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final, Literal

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.core.plants import definition, plant_of
from tocsin_core.detectors.change import Calibration
from tocsin_core.normal import NormalModel, Settings, learn
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, Priority
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.definition import Suppressor
from tocsin_core.plant.point import ModeSource

LOW_SIDE: Final = (AlarmKind.L, AlarmKind.LL)
LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)
COLOURS: Final = (AlarmKind.RED, AlarmKind.ORANGE, AlarmKind.YELLOW, AlarmKind.BLUE)
TRENDS: Final = (AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT)
MEASURED: Final = tuple(kind for kind in AlarmKind if kind is not AlarmKind.ABNORMAL)
ON_ROUGH: Final = (*LIMITS, *COLOURS, *TRENDS, AlarmKind.BAD, AlarmKind.STALE)

eighths = st.integers(-80, 880).map(lambda n: n / 8)  # exact in binary, so that limits may be met exactly
delays = st.sampled_from([0.0, 0.0, 1.0, 2.5, 10.0])
deadbands = st.sampled_from([0.0, 0.125, 1.0, 5.0])


def _given(d: AlarmDefinition, draw: st.DrawFn) -> AlarmDefinition:
    """`d` with what its kind needs; what is compared with sums keeps off the grid of the values, where ties live."""
    kind = d.kind
    made: dict[str, object] = {}
    if kind in (*LIMITS, *COLOURS):
        side = -1 if kind in LOW_SIDE or (kind in COLOURS and draw(st.booleans())) else 1
        made = {"setpoint": draw(eighths), "deadband": draw(deadbands), "side": side}
    elif kind is AlarmKind.RATE:
        setpoint = draw(st.sampled_from([0.37, 3.1, 17.3, 61.7]))
        made = {"setpoint": setpoint, "deadband": draw(st.sampled_from([0.0, 0.21])) * setpoint}
    elif kind is AlarmKind.TIME_TO_LIMIT:
        limit = draw(st.sampled_from(LIMITS))
        made = {"limit": limit, "side": -1 if limit in LOW_SIDE else 1, "setpoint": draw(eighths) + 0.037}
        made |= {
            "deadband": draw(st.sampled_from([0.0, 0.41])),
            "horizon_s": draw(st.sampled_from([10.0, 60.0, 300.0])),
        }
        made |= {"confidence": draw(st.sampled_from([0.9, 0.999]))}
    elif kind in (AlarmKind.STEL, AlarmKind.TWA):
        made = {
            "setpoint": draw(st.sampled_from([0.537, 5.037, 40.037])),
            "deadband": draw(st.sampled_from([0.0, 0.41])),
        }
        made |= {"hold_s": draw(st.sampled_from([0.5, 30.0, 120.0, 1000.0]))}
    elif kind is AlarmKind.PEAKS:
        made = {"setpoint": draw(st.sampled_from([0.125, 10.0, 20.0]))}
    elif kind in (AlarmKind.STUCK, AlarmKind.SPIKE):
        made = {
            "floor": draw(st.sampled_from([0.0, 0.071, 0.83])),
            "window_s": draw(st.sampled_from([5.0, 20.0, 600.0])),
        }
        made |= {
            "zero": draw(st.sampled_from([float("nan"), 0.0, 20.0])),
            "zero_band": draw(st.sampled_from([0.0, 1.0])),
        }
    elif kind is AlarmKind.LOOP:
        made = {"low": draw(st.sampled_from([0.0, 10.0])), "high": draw(st.sampled_from([90.0, 100.0]))}
    elif kind is AlarmKind.STALE:
        made = {"after_s": draw(st.sampled_from([2.0, 10.0, 30.0]))}
    if kind in TRENDS:
        made["window_s"] = draw(st.sampled_from([10.0, 30.0, 60.0]))
    return replace(d, **made)  # type: ignore[arg-type]


charts = st.builds(
    Calibration,
    mean=st.just(50.037),
    sigma=st.sampled_from([1.3, 17.3]),
    rho=st.sampled_from([0.0, 0.37, -0.2, 0.69]),
    left=st.just(0.0),
    step_s=st.sampled_from([0.3, 1.0, 5.0]),
    k=st.sampled_from([0.5, 0.25]),
    h=st.sampled_from([1.71, 4.3]),
    cusum_per_week=st.just(0.1),
    weight=st.sampled_from([0.1, 0.3]),
    width=st.sampled_from([1.1, 2.7]),
    ewma_per_week=st.just(0.1),
)


@st.composite
def definitions(
    draw: st.DrawFn, point: str, kinds: Sequence[AlarmKind] = MEASURED, most: int = 7
) -> tuple[AlarmDefinition, ...]:
    """Some definitions of one point, of these kinds."""
    calibration = draw(charts)
    return tuple(
        replace(
            _given(definition(point, kind), draw),
            priority=draw(st.sampled_from(list(Priority))),
            on_delay_s=draw(delays),
            off_delay_s=draw(delays),
            latching=draw(st.booleans()),
            realarm_s=draw(st.sampled_from([0.0, 0.0, 1.0, 30.0])),
            charts=calibration if kind in (AlarmKind.CUSUM, AlarmKind.EWMA) else None,
        )
        for kind in sorted(draw(st.sets(st.sampled_from(kinds), max_size=most)), key=list(AlarmKind).index)
    )


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """One to three points with any of the definitions."""
    count = draw(st.integers(1, 3))
    points = [draw(definitions(f"P{index}")) for index in range(count)]
    assume(any(points))
    return plant_of(points, decimals=draw(st.sampled_from([0, 1])))


@cache
def unit_model(period_s: float) -> NormalModel:
    """A unit of which P0 and P1 go together, and P2 goes alone."""
    dice = np.random.default_rng(7)
    rows = 50.0 + 12.0 * dice.normal(size=(220, 3))
    rows[:, 1] = rows[:, 0] + 4.0 * dice.normal(size=220)
    return learn(rows, ("P0", "P1", "P2"), period_s, Settings(change_window=5, folds=3))


def _balance(draw: st.DrawFn, level: str, others: Sequence[str]) -> Balance:
    """A balance of the tank whose level is `level`, with some of the other points as meters."""
    roles = [draw(st.sampled_from(["in", "out", "temperature", "none"])) for _ in others]
    return Balance(
        rule="balance",
        level=level,
        temperature=next((other for other, role in zip(others, roles, strict=True) if role == "temperature"), None),
        inflow=tuple(other for other, role in zip(others, roles, strict=True) if role == "in"),
        outflow=tuple(other for other, role in zip(others, roles, strict=True) if role == "out"),
        window_h=draw(st.sampled_from([1, 24])),
        table=((0.0, 0.0), (0.0537, 17.3), (50.037, 15_710.8), (101.7, 31_900.0)),
        density=750.0,
    )


@st.composite
def computes(draw: st.DrawFn, points: Sequence[str]) -> Compute:
    """A rule over some of these points."""
    some = tuple(draw(st.permutations(points)))
    rule = draw(st.sampled_from(["vote", "median", "spread", "balance", "grade", "normal"]))
    if rule == "balance":
        return _balance(draw, points[0], points[1:])
    if rule == "normal":
        return Normal(rule="normal", model=draw(st.sampled_from(["m1", "m60"])), show=draw(shows))
    several = some[: draw(st.integers(2, len(some)))]
    if rule == "grade":
        cut = draw(st.integers(1, len(some)))
        return Grade(rule="grade", items=tuple(item for item in (some[:cut], some[cut:]) if item))
    if rule == "median":
        return Median(rule="median", of=several)
    if rule == "spread":
        return Spread(rule="spread", of=several)
    return Vote(
        rule="vote",
        of=several,
        need=draw(st.integers(1, len(several))),
        side=draw(st.sampled_from(["high", "low"])),
        lost=draw(st.sampled_from(["safe", "available"])),
    )


SHOWS: Final[tuple[Literal["score", "t2", "q"], ...]] = ("score", "t2", "q")
shows = st.sampled_from(SHOWS)
units = st.sampled_from(["kg/s", "kg/h", "t/h", "m3/h", "L/min"])


def _kinds_for(compute: Compute) -> tuple[AlarmKind, ...]:
    if isinstance(compute, Balance):
        return ON_ROUGH
    return tuple(AlarmKind) if isinstance(compute, Normal) else MEASURED


@st.composite
def suppressors(draw: st.DrawFn, points: Sequence[str]) -> Suppressor:
    """Suppression by one of these points."""
    low, span = draw(eighths), draw(st.sampled_from([0.0, 20.0, 60.0]))
    return Suppressor(
        point=draw(st.sampled_from(points)),
        low=low,
        high=low + span,
        on_delay_s=draw(st.sampled_from([0.0, 0.0, 1.0, 5.0])),
        off_delay_s=draw(st.sampled_from([0.0, 0.0, 1.0, 5.0])),
        longest_s=draw(st.sampled_from([2.0, 10.0, 400.0])),
    )


@st.composite
def whole_plants(draw: st.DrawFn) -> Plant:
    """Four measured points, a status word, and one to three computed points, all depending on each other."""
    count = 4
    names = [f"P{index}" for index in range(count + 1)]
    measured, word = names[:-1], names[-1]
    found: list[Compute] = [draw(computes(measured)) for _ in range(draw(st.integers(1, 3)))]
    names += [f"P{count + 1 + number}" for number in range(len(found))]
    made = [draw(definitions(name, most=4)) for name in names[: count + 1]]
    made += [draw(definitions(name, _kinds_for(c), most=4)) for name, c in zip(names[count + 1 :], found, strict=True)]
    laid = []
    for name, each in zip(names, made, strict=True):
        triggers = [other for other in names[: count + 1] if other != name]
        laid.append([replace(d, suppressed_by=draw(st.none() | suppressors(triggers))) for d in each])
    plant = plant_of(laid, decimals=draw(st.sampled_from([0, 1])))
    modes = st.builds(
        ModeSource,
        point=st.just(word),
        code_mask=st.sampled_from([0, 0, 7, 6]),
        warm_up=st.sampled_from([0, 1, 2, 6]),
        calibration=st.sampled_from([0, 4, 8]),
        settle_s=st.sampled_from([0.0, 3.0, 60.0]),
    )
    points = [
        replace(
            point,
            unit=draw(st.sampled_from(["m", "mm", "%"])) if name in _levels(found) else draw(units),
            longest_s=draw(st.sampled_from([2.0, 10.0, 400.0])),
            mode_source=draw(st.none() | modes) if name in measured else None,
            compute=found[index - count - 1] if index > count else None,
        )
        for index, (name, point) in enumerate(zip(names, plant.points, strict=True))
    ]
    alarms = [d.id for point in points for d in point.definitions]
    assume(alarms)
    groups = draw(st.lists(st.lists(st.sampled_from(alarms), min_size=1, max_size=4, unique=True), max_size=2))
    return replace(
        plant,
        points=tuple(points),
        models={"m1": unit_model(1.0), "m60": unit_model(60.0)},
        first_out={f"G{n}": tuple(sorted(group, key=alarms.index)) for n, group in enumerate(groups)},
    )


def _levels(found: Sequence[Compute]) -> set[str]:
    return {compute.level for compute in found if isinstance(compute, Balance)}


def words_of(plant: Plant) -> set[int]:
    """The numbers of the points that are status words."""
    named = {point.mode_source.point for point in plant.points if point.mode_source is not None}
    return {point.index for point in plant.points if point.id in named}


def bears_huge(plant: Plant) -> bool:
    """Whether the oracle can follow values near the end of the doubles: its sums for lines and tanks can not."""
    return not any(
        isinstance(point.compute, Balance) or any(d.kind in TRENDS for d in point.definitions) for point in plant.points
    )
