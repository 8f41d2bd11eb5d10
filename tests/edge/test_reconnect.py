"""How soon a broker is tried again, and how gently where it has been away for long."""

import pytest

from tocsin_edge.loops.reconnect import MOST_S, Reconnect


def waits(away_s: float, draw: float = 1.0) -> list[float]:
    """The waits of an outage that lasts so long, each attempt at once."""
    reconnect, now_s, found = Reconnect(0.0), 0.0, []
    while now_s < away_s:
        found.append(reconnect.wait_s(now_s, lambda: draw))
        now_s += max(found[-1], 0.01)
    return found


def test_within_a_minute_it_is_tried_each_second() -> None:
    """Soon at first, never more than a second apart, and half of that by chance."""
    longest = waits(60.0)
    assert longest[:4] == [0.25, 0.5, 1.0, 1.0]
    assert max(longest) == 1.0
    assert max(waits(60.0, 0.5)) == 0.5
    assert max(waits(60.0, 0.0)) == 0.0


@pytest.mark.parametrize(("away_s", "wait_s"), [(120.0, 2.0), (600.0, 10.0), (3600.0, MOST_S), (86400.0, MOST_S)])
def test_who_was_away_for_long_comes_back_over_a_longer_time(away_s: float, wait_s: float) -> None:
    """Up to a sixtieth of the outage, and half a minute."""
    assert waits(away_s)[-1] == pytest.approx(wait_s, rel=0.05)


def test_after_a_good_connection_it_is_soon_again() -> None:
    """However long the outage before it was."""
    reconnect = Reconnect(0.0)
    for now_s in range(3600):
        reconnect.wait_s(float(now_s), lambda: 1.0)
    reconnect.was_good(5000.0)
    assert reconnect.wait_s(5000.0, lambda: 1.0) == 0.25
