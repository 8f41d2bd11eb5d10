"""A unit's health: failing, dead, probed with jitter, back at once."""

from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.polling import FAILURES_UNTIL_DEAD, Backoff, Health
from tocsin_core.polling.health import PROBE_MOST_S, PROBE_PATIENCE_LEAST_S


def failed(times: int, health: Health | None = None) -> Health:
    """Return a unit's health after so many failures in a row, one each second."""
    health = health or Health()
    for second in range(times):
        health = health.failed(float(second), 0.5)
    return health


def test_three_failures_and_it_is_dead_one_answer_and_it_lives() -> None:
    """Not before the third; any answer makes all good."""
    states = [(failed(times).failing, failed(times).dead) for times in range(4)]
    assert states == [(False, False), (True, False), (True, False), (True, True)]
    back = failed(9).answered(0.02)
    assert not back.failing
    assert back.probes == Backoff(back.probes.first_s, back.probes.most_s)


def test_a_unit_that_may_be_starting_does_not_fail() -> None:
    """Until its grace is over, or it was heard."""
    starting = Health(grace_until_s=10.0)
    assert not starting.failed(9.9, 0.5).failing
    assert starting.failed(10.0, 0.5).failing
    assert starting.answered(0.1).failed(5.0, 0.5).failing


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_waits_are_random_below_a_bound_that_doubles(draws: list[float]) -> None:
    """Full jitter: from nothing to the bound, which never passes the most."""
    state, bound = Backoff(0.25, 5.0), 0.25
    for at, draw in enumerate(draws):
        state = state.failed(float(at), draw)
        assert state.not_before_s == at + draw * bound
        bound = min(5.0, 2 * bound)


@given(st.integers(FAILURES_UNTIL_DEAD, 1000), st.floats(0, 1, exclude_max=True))
def test_a_dead_unit_is_probed_within_seconds(times: int, draw: float) -> None:
    """However long it has been dead."""
    health = failed(times - 1).failed(100.0, draw)
    assert 100.0 <= health.probes.not_before_s <= 100.0 + PROBE_MOST_S


def test_probes_are_short_by_what_was_usual_but_now_and_then_patient() -> None:
    """A live unit has the whole time-out; a dead one four times its usual answer, every fourth time the whole."""
    alive = Health().answered(0.05)
    assert alive.patience_s(1.0) == 1.0
    dead = failed(FAILURES_UNTIL_DEAD, alive)
    patience = []
    for _ in range(8):
        patience.append(dead.patience_s(1.0))
        dead = dead.failed(0.0, 0.5)
    assert patience == [0.2, 0.2, 0.2, 1.0, 0.2, 0.2, 0.2, 1.0]
    quick = failed(FAILURES_UNTIL_DEAD, Health().answered(0.001))
    assert quick.patience_s(1.0) == PROBE_PATIENCE_LEAST_S
    assert quick.patience_s(0.05) == 0.05
    assert failed(FAILURES_UNTIL_DEAD).patience_s(1.0) == 1.0
