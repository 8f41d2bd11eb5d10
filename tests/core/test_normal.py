"""The normal-operation model: what it raises, what it leaves alone, and that its state is complete."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tocsin_core.normal import (
    Judgement,
    NormalModel,
    NormalModelError,
    Settings,
    falsely_raised_per_week,
    judge,
    learn,
    limits_of,
    model_from_bytes,
    model_to_bytes,
    start,
    state_from_bytes,
    state_to_bytes,
)
from tocsin_core.readings import F64

NAMES = tuple("ABCDEF")
ROWS = 600


def running(seed: int, rows: int) -> F64:
    """Six points that two slow causes move together, each with its own unit and noise."""
    random = np.random.default_rng(seed)
    causes = np.zeros((rows, 2))
    for i in range(1, rows):
        causes[i] = 0.8 * causes[i - 1] + random.normal(size=2)
    mixing = np.array([[1.0, 0.8, 0.0, 0.3, 0.0, 0.0], [0.0, 0.5, 1.0, -0.7, 0.0, 0.4]])
    noise = random.normal(size=(rows, 6)) * np.array([0.3, 0.3, 0.4, 0.3, 1.0, 0.6])
    units = np.array([1.0, 10.0, 0.01, 5.0, 100.0, 2.0])
    values: F64 = (causes @ mixing + noise) * units + np.array([20.0, 300.0, 0.5, 80.0, 1e4, 7.0])
    return values


@pytest.fixture(scope="module")
def model() -> NormalModel:
    """The unit learned from 600 rows."""
    return learn(running(1, ROWS), NAMES, 60.0)


def judged(model: NormalModel, rows: F64) -> Judgement:
    """What a fresh state makes of the rows."""
    return judge(model, start(model), rows)[1]


def same(one: Judgement, other: Judgement) -> bool:
    """Whether two judgements agree bit for bit."""
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one, other, strict=True))


def shifted(rows: F64, point: int, begin: int, size: float) -> F64:
    """The rows with one point moved from `begin` on by so many of its standard deviations in normal running."""
    moved = rows.copy()
    moved[begin:, point] += size * running(1, ROWS)[:, point].std()
    return moved


def test_fresh_normal_running_stays_quiet(model: NormalModel) -> None:
    """Normal running that was not learned raises on less than one row in a hundred."""
    share = np.mean([judged(model, running(seed, ROWS)).alarm.mean() for seed in range(100, 120)])
    assert share < 0.01


@pytest.mark.parametrize("point", range(6))
def test_a_small_shift_is_found_and_its_point_is_named(model: NormalModel, point: int) -> None:
    """A shift of 2.5 standard deviations, inside any ±4σ limit, raises within 30 rows and names the point."""
    found = judged(model, shifted(running(7, 300), point, 200, 2.5))
    assert not found.alarm[:200].any()
    onset = int(np.argmax(found.alarm))
    assert 200 <= onset < 230
    assert int(np.argmax(found.contributions[onset : onset + 10].mean(axis=0))) == point


def test_an_end_of_the_shift_clears_the_alarm(model: NormalModel) -> None:
    """When the point is back the alarm is gone within five dozen rows, and both moments are marked as changes."""
    rows = running(8, 500)
    rows[200:300] = shifted(rows, 1, 200, 4.0)[200:300]
    found = judged(model, rows)
    assert found.alarm[205:300].all()
    assert not found.alarm[360:].any()
    assert found.change[200:210].any()
    assert found.change[300:360].any()


def test_a_long_alarm_clears_as_soon_as_its_cause_turns(model: NormalModel) -> None:
    """After an alarm that stood for long its memory is dropped: it is over sooner than after a short one."""
    rows = running(9, 700)
    rows[200:400] = shifted(rows, 4, 200, 8.0)[200:400]
    found = judged(model, rows)
    assert found.alarm[205:400].all()
    assert not found.alarm[430:].any()


def test_a_unit_that_rests_elsewhere_is_not_taken_for_normal(model: NormalModel) -> None:
    """A swing to one side that ends on the other side raises again: no new level is ever accepted in silence."""
    rows = shifted(shifted(running(9, 700), 4, 200, 8.0), 4, 400, -13.0)
    found = judged(model, rows)
    assert not found.alarm[400:430].all()
    assert found.alarm[440:].all()


def test_a_broken_relation_is_found_with_every_point_in_its_range(model: NormalModel) -> None:
    """Two points that always move together and now do not are found though neither leaves its own range."""
    rows = running(11, 400)
    other = running(12, 400)
    rows[200:, 2] = other[200:, 2]
    spread = running(1, ROWS)
    assert (np.abs(rows[:, 2] - spread[:, 2].mean()) < 4.0 * spread[:, 2].std()).all()
    found = judged(model, rows)
    assert found.alarm[200:].mean() > 0.5
    assert not found.alarm[:200].any()


@pytest.mark.parametrize("cut", [1, 57, 200, 399])
def test_rows_at_once_and_one_by_one_are_the_same(model: NormalModel, cut: int) -> None:
    """A batch, two halves and single rows give the same bits, through an alarm and through gaps."""
    rows = shifted(running(13, 400), 3, 150, 4.0)
    rows[220:240, 3] = np.nan
    rows[250] = np.nan
    whole_state, whole = judge(model, start(model), rows)
    state, first = judge(model, start(model), rows[:cut])
    state, second = judge(model, state, rows[cut:])
    assert same(whole, Judgement(*(np.concatenate(pair) for pair in zip(first, second, strict=True))))
    assert state_to_bytes(state) == state_to_bytes(whole_state)
    single = start(model)
    parts = []
    for row in rows:
        single, part = judge(model, single, row[None])
        parts.append(part)
    assert same(whole, Judgement(*(np.concatenate(column) for column in zip(*parts, strict=True))))


def test_judging_leaves_the_state_alone(model: NormalModel) -> None:
    """A state can be judged from twice."""
    state = judge(model, start(model), running(14, 50))[0]
    before = state_to_bytes(state)
    judge(model, state, shifted(running(15, 50), 0, 0, 9.0))
    assert state_to_bytes(state) == before


def test_a_snapshot_has_the_same_future(model: NormalModel) -> None:
    """Model and state stored in the middle of an alarm and restored judge the rest bit for bit alike."""
    rows = shifted(running(16, 300), 2, 100, 4.0)
    state, found = judge(model, start(model), rows[:150])
    assert found.alarm[-1]
    restored = state_from_bytes(state_to_bytes(state))
    copy = model_from_bytes(model_to_bytes(model))
    assert same(judge(model, state, rows[150:])[1], judge(copy, restored, rows[150:])[1])


def test_a_bad_point_neither_raises_nor_clears(model: NormalModel) -> None:
    """Without its value a point in alarm keeps the alarm, and one that is normal raises none."""
    rows = shifted(running(17, 400), 5, 200, 5.0)
    rows[230:, 5] = np.nan
    assert judged(model, rows).alarm[230:].all()
    changes = 0
    for seed in (18, 19, 21, 22, 23, 24):
        quiet = running(seed, 400)
        quiet[100:, 5] = np.nan
        found = judged(model, quiet)
        assert not found.alarm.any()
        assert found.judged.all()
        changes += int(found.change.sum())
    # Change points are told at 3 standard deviations: a false one now and then in 2,400 rows is normal running's own.
    assert changes <= 1


def test_too_few_good_points_decide_nothing(model: NormalModel) -> None:
    """With less than half of the points good a row is not judged: no score, and the alarm stays as it was."""
    rows = shifted(running(19, 300), 0, 100, 5.0)
    rows[150:200, :4] = np.inf
    rows[200:] = running(19, 300)[200:]
    found = judged(model, rows)
    assert not found.judged[150:200].any()
    assert np.isnan(found.score[150:200]).all()
    assert found.alarm[149:200].all()
    assert not found.alarm[275:].any()


def test_scores_are_what_a_plain_calculation_makes_them(model: NormalModel) -> None:
    """T², Q and the points' scores by the page's formulas, one number after another, without any matrix."""
    rows = running(20, 40)
    found = judged(model, rows)
    basis, limits, options = model.basis, model.limits, model.settings
    m = len(NAMES)
    reference, unit = [0.0] * m, [float(value) for value in limits.unit_mean]
    smooth = [[0.0] * m for _ in options.point_smoothing]
    for i, row in enumerate(rows):
        y = [(row[j] - basis.centre[j]) / basis.scale[j] - reference[j] for j in range(m)]
        z = [sum(y[j] * basis.whiten[j, c] for j in range(m)) for c in range(m)]
        now = [sum(v * v for v in z[: basis.components]), sum(v * v for v in z[basis.components :])]
        unit = [old + options.unit_smoothing * (new - old) for old, new in zip(unit, now, strict=True)]
        residual = [sum(y[j] * basis.precision[j, c] for j in range(m)) * basis.point_scale[c] for c in range(m)]
        largest = []
        for level, weight in enumerate(options.point_smoothing):
            smooth[level] = [o + weight * (n - o) for o, n in zip(smooth[level], residual, strict=True)]
            largest.append(max(v * v / limits.point_mean[level, j] for j, v in enumerate(smooth[level])))
        logs = [math.log(value + 1e-12) for value in [*unit, *largest]]
        scores = [(logs[k] - limits.log_mean[k]) / limits.log_sd[k] for k in range(len(logs))]
        scores = [
            (score - (options.unit_margin if k < 2 else 0.0)) / options.raise_at for k, score in enumerate(scores)
        ]
        assert found.t2[i] == pytest.approx(scores[0])
        assert found.q[i] == pytest.approx(scores[1])
        assert found.point[i] == pytest.approx(max(scores[2:]))
        assert found.score[i] == pytest.approx(max(scores))
        reference = [r + basis.follow[j] * y[j] for j, r in enumerate(reference)]
    assert not found.alarm.any()


def test_a_missing_value_is_taken_at_what_the_others_say(model: NormalModel) -> None:
    """A missing value has the same effect on T² and Q as the value at which its own residual is 0."""
    row = running(21, 1)
    gap = row.copy()
    gap[0, 1] = np.nan
    y = (row[0] - model.basis.centre) / model.basis.scale
    others = [j for j in range(6) if j != 1]
    y[1] = -(model.basis.precision[1, others] @ y[others]) / model.basis.precision[1, 1]
    filled = row.copy()
    filled[0, 1] = y[1] * model.basis.scale[1] + model.basis.centre[1]
    assert judged(model, gap).t2 == pytest.approx(judged(model, filled).t2)
    assert judged(model, gap).q == pytest.approx(judged(model, filled).q)


def test_a_wandering_point_is_judged_by_its_movement() -> None:
    """A point that drifts all through learning is recognised and its further drift raises nothing."""
    rows = running(22, 1000)
    rows[:, 5] += np.linspace(0.0, 30.0, 1000)
    drifting = learn(rows[:600], NAMES, 60.0)
    assert drifting.wandering == ("F",)
    assert judged(drifting, rows[600:]).alarm.mean() < 0.02


def test_a_point_that_never_moves_is_left_out() -> None:
    """A constant has no scale to judge it by: it is named, and nothing it does later counts."""
    rows = running(23, ROWS)
    rows[:, 3] = 0.1 + 0.2
    learned = learn(rows, NAMES, 60.0)
    assert learned.left_out == ("D",)
    later = running(24, 100)
    found = judged(learned, later)
    assert not found.alarm.any()
    assert (found.contributions[:, 3] == 0.0).all()


@pytest.mark.parametrize("block", range(5))
def test_a_point_that_moves_in_one_fifth_alone_is_left_out(block: int) -> None:
    """A valve that was opened once: without that fifth it has no scale, and no learning came to an end."""
    rows = running(11, ROWS)
    rows[:, 3] = 20.0
    rows[120 * block + 40 : 120 * block + 60, 3] = 21.0
    assert learn(rows, NAMES, 1.0).left_out == (NAMES[3],)


def test_a_number_that_is_no_measurement_is_left_out_of_learning() -> None:
    """What a register misread may hold: its square is beyond all numbers."""
    rows = running(11, ROWS)
    rows[17, 2] = 1e200
    assert learn(rows, NAMES, 1.0).rows == 599


def test_a_point_that_was_never_good_is_left_out() -> None:
    """One dead instrument keeps no unit from being learned; the others are judged as if it were not there."""
    rows, others = running(23, ROWS), [0, 1, 2, 4, 5]
    rows[:, 3] = np.nan
    learned = learn(rows, NAMES, 60.0)
    assert (learned.left_out, learned.rows) == (("D",), ROWS)
    later = running(24, 100)
    alone = learn(rows[:, others], [NAMES[i] for i in others], 60.0)
    assert np.array_equal(judged(learned, later).score, judged(alone, later[:, others]).score)


def test_who_keeps_the_rows_from_being_whole_is_named() -> None:
    """The point with the fewest good values."""
    rows = running(1, 1000)
    rows[50:, 3] = np.nan
    with pytest.raises(NormalModelError, match="50 of 1000 rows are whole: at least 100; D has 50 good values"):
        learn(rows, NAMES, 60.0)


def test_rows_with_a_bad_value_are_left_out_of_learning() -> None:
    """Learning from rows with gaps is learning from the whole ones."""
    rows = running(25, ROWS)
    gaps = np.insert(rows, [10, 300], np.nan, axis=0)
    gaps[10, 1:] = 1.0
    assert model_to_bytes(learn(gaps, NAMES, 60.0)) == model_to_bytes(learn(rows, NAMES, 60.0))


@pytest.mark.parametrize(
    ("data", "names", "says"),
    [
        (running(1, 90), NAMES, "90 of 90 rows are whole"),
        (running(1, ROWS), NAMES[:5], "there are 5 names"),
        (running(1, ROWS), ("A", "A", *NAMES[2:]), "named twice"),
        (np.full((ROWS, 2), 3.0), ("A", "B"), "0 of 2 points move"),
        (running(1, 150), NAMES, "150 rows"),
    ],
)
def test_what_cannot_be_learned_is_refused(data: F64, names: tuple[str, ...], says: str) -> None:
    """A recording that is too short, misnamed or still is refused with its reason."""
    with pytest.raises(NormalModelError, match=says):
        learn(data, names, 60.0)


def test_rows_of_another_unit_are_refused(model: NormalModel) -> None:
    """Rows with another number of points are no rows of this unit."""
    with pytest.raises(NormalModelError, match="6 points"):
        judge(model, start(model), np.zeros((3, 5)))


def test_stored_bytes_are_checked(model: NormalModel) -> None:
    """Damaged, cut, foreign and newer bytes are refused, each with its reason; a state is no model."""
    stored = model_to_bytes(model)
    damaged = bytearray(stored)
    damaged[len(damaged) // 2] ^= 1
    newer = bytearray(stored)
    newer[8] = 9
    for data, says in (
        (bytes(damaged), "damaged"),
        (stored[:-1], "damaged"),
        (b"", "no normal-operation model"),
        (b"PK\x03\x04 something else entirely", "no normal-operation model"),
        (bytes(newer), "version 9"),
        (state_to_bytes(start(model)), "a state is stored here"),
    ):
        with pytest.raises(NormalModelError, match=says):
            model_from_bytes(data)


def test_progress_reaches_the_end() -> None:
    """Learning tells how far it is, in rising shares that end at 1."""
    shares: list[float] = []
    learn(running(26, ROWS), NAMES, 60.0, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_expected_false_alarms_come_with_their_bound(model: NormalModel) -> None:
    """None in the held-out rows is no promise of none: the bound is 3 in the time learned (rule of three)."""
    quiet = replace(model, held_raises=0)
    rate, bound = falsely_raised_per_week(quiet)
    weeks = ROWS * 60.0 / 604_800.0
    assert rate == 0.0
    assert bound * weeks == pytest.approx(-math.log(0.05))
    twice = replace(model, held_raises=2)
    assert falsely_raised_per_week(twice)[1] * weeks == pytest.approx(6.2958, abs=1e-3)


def test_limits_are_where_the_alarm_is_raised(model: NormalModel) -> None:
    """A smoothed T² that is at its reported limit has a score of 1."""
    limit = limits_of(model)["T2"]
    state = start(model)
    state.unit[0] = limit
    still = replace(model, settings=replace(model.settings, unit_smoothing=1e-12))
    row = model.basis.centre[None] + 0.0
    assert judge(still, state, row)[1].t2[0] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(
        np.float64,
        st.tuples(st.integers(0, 12), st.just(6)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
    ),
    cut=st.integers(0, 12),
)
def test_no_row_whatever_upsets_the_state(model: NormalModel, rows: F64, cut: int) -> None:
    """Any numbers at all are judged without a warning, leave a finite state, and may be cut anywhere."""
    state, found = judge(model, start(model), rows)
    half, first = judge(model, start(model), rows[:cut])
    rest, second = judge(model, half, rows[cut:])
    assert same(found, Judgement(*(np.concatenate(pair) for pair in zip(first, second, strict=True))))
    assert state_to_bytes(rest) == state_to_bytes(state)
    assert np.isfinite(state.reference).all()
    assert np.isfinite(state.smooth).all()
    assert np.isfinite(state.unit).all()


def test_settings_travel_with_the_model() -> None:
    """A model learned with its own settings is restored with them."""
    own = learn(running(27, ROWS), NAMES, 1.0, Settings(point_smoothing=(0.2,), folds=4))
    assert model_from_bytes(model_to_bytes(own)).settings == own.settings
