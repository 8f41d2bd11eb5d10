"""What is told of a spool's file: by lane, beside the gateway and without one."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.edge.rig import NEW_MS as NOW_MS
from tests.edge.rig import nth, one_reading
from tocsin_edge.adapters.metrics_spool import Lane, spool_counters, spool_figures, spool_newest
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.spool_codec import pack, seal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Say where the spool is."""
    return tmp_path / "spool.sqlite"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """Give an open spool."""
    with closing(Spool.open(path, 64, 600, NOW_MS)) as opened:
        yield opened


def size(number: int, time_ms: int) -> int:
    """Count the bytes of a batch of one reading."""
    return len(pack(one_reading(time_ms, 1.5), seal(number, "A", ("A",))))


@pytest.mark.parametrize("beside_gateway", [True, False])
def test_each_lane_is_counted_by_itself(spool: Spool, path: Path, *, beside_gateway: bool) -> None:
    """The journal, what is younger than a minute, what is older, what the database has; and the oldest that waits."""
    assert spool_figures(path, NOW_MS, beside_gateway=beside_gateway).oldest_unsent_ms is None
    ages_ms = (300_000, 200_000, 100_000, 60_001, 60_000, 10)
    spool.append([("A", ("A",), one_reading(NOW_MS - age, 1.5)) for age in ages_ms])
    spool.commit([nth(1)], NOW_MS)
    found = spool_figures(path, NOW_MS, beside_gateway=beside_gateway)
    one = size(nth(1), NOW_MS)
    assert found.lanes == {
        "journal": Lane(0, 0),
        "live": Lane(2, 2 * one),
        "history": Lane(3, 3 * one),
        "committed": Lane(1, one),
    }
    assert found.oldest_unsent_ms == NOW_MS - 200_000
    assert found.bytes >= 6 * one
    spool.journal.append([(NOW_MS - 250_000, b"rings"), (NOW_MS, b"acked")])
    found = spool_figures(path, NOW_MS, beside_gateway=beside_gateway)
    assert found.lanes["journal"] == Lane(2, 10)
    assert found.oldest_unsent_ms == NOW_MS - 250_000
    # The gateway's own connection writes on as before.
    assert spool.append([("A", ("A",), one_reading(NOW_MS, 1.5))]) == [nth(7)]


def test_what_is_left_tells_when_each_device_was_heard(spool: Spool, path: Path) -> None:
    """The newest of each, however they are mixed, and the counters."""
    spool.append([(name, (name,), one_reading(NOW_MS - age, 1.5)) for name, age in (("A", 9), ("B", 5), ("A", 7))])
    spool.close()
    assert spool_newest(path) == {"A": NOW_MS - 7, "B": NOW_MS - 5}
    assert spool_counters(path)["readings_polled"] == 3


def test_counting_can_be_given_up(spool: Spool, path: Path) -> None:
    """A gateway that ends does not wait for the count of a large file."""
    spool.append([("A", ("A",), one_reading(NOW_MS, 1.5)) for _ in range(20_000)])
    given_up = threading.Event()
    assert spool_figures(path, NOW_MS, beside_gateway=True, given_up=given_up).lanes["live"].rows == 20_000
    given_up.set()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        spool_figures(path, NOW_MS, beside_gateway=True, given_up=given_up)


def test_a_file_that_is_none_is_an_error(path: Path) -> None:
    """Asking makes no file."""
    for ask in (spool_newest, spool_counters):
        with pytest.raises(sqlite3.OperationalError):
            ask(path)
    assert not path.exists()
