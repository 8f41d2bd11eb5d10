"""What every time-series store behind the History port must do; each adapter runs the same suite."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from tests.support.wait import eventually
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD, UNCERTAIN, Frame

END = 1_000_000
Story = Callable[[DuckdbHistory], Awaitable[None]]


def tell(path: Path, *stories: Story) -> None:
    """Run each story on the store in `path`, which is closed and opened again between them."""

    async def run() -> None:
        for story in stories:
            history = await DuckdbHistory.open(path)
            try:
                await story(history)
            finally:
                await history.close()

    asyncio.run(run())


def frame(history: DuckdbHistory, point: str, rows: list[tuple[int, float, int]]) -> Frame:
    """Readings (time, value, quality) of one point."""
    times, values, qualities = zip(*rows, strict=True)
    return Frame.of([history.key(point)] * len(rows), times, values, qualities)


def test_what_is_committed_is_read_after_a_restart(tmp_path: Path) -> None:
    """Readings, keys and the historian's state are there again; the state's parts keep until they are replaced."""

    async def write(history: DuckdbHistory) -> None:
        await history.commit(frame(history, "A", [(20, 2.0, GOOD), (10, 1.0, GOOD)]), {"one": b"1", "two": b"2"})
        await history.commit(frame(history, "B", [(10, 9.0, GOOD)]), {"two": b"22"})

    async def read(history: DuckdbHistory) -> None:
        assert dict(history.state) == {"one": b"1", "two": b"22"}
        assert history.key("B") != history.key("A")
        trend = await history.read("A", 0, END, None, 10)
        assert trend.time_ns.tolist() == [10, 20]
        assert trend.mean.tolist() == trend.low.tolist() == trend.high.tolist() == [1.0, 2.0]
        assert (await history.read("B", 0, END, None, 10)).mean.tolist() == [9.0]
        assert len((await history.read("nobody", 0, END, None, 10)).time_ns) == 0

    tell(tmp_path / "history", write, read)


def test_a_reading_that_comes_twice_is_read_once(tmp_path: Path) -> None:
    """The same point and time stored again changes neither samples nor means."""

    async def story(history: DuckdbHistory) -> None:
        for _ in range(2):
            await history.commit(frame(history, "A", [(10, 1.0, GOOD), (20, 4.0, GOOD)]), {})
        await history.commit(frame(history, "A", [(10, 1.0, GOOD)]), {})
        assert (await history.read("A", 0, END, None, 10)).time_ns.tolist() == [10, 20]
        assert (await history.read("A", 0, 100, 100, 10)).mean.tolist() == [2.5]

    tell(tmp_path / "history", story)


def test_a_step_keeps_least_greatest_mean_and_the_worst_quality(tmp_path: Path) -> None:
    """A bad value is in no mean and is never a number; a step of bad values alone has none; an empty step is absent."""

    async def story(history: DuckdbHistory) -> None:
        rows = [
            (0, 1.0, GOOD),
            (9, 3.0, UNCERTAIN),
            (10, np.nan, BAD_COMM_FAILURE),
            (11, 0.0, BAD_COMM_FAILURE),
            (30, 5.0, GOOD),
        ]
        await history.commit(frame(history, "A", rows), {})
        trend = await history.read("A", 0, 40, 10, 10)
        assert trend.time_ns.tolist() == [0, 10, 30]
        np.testing.assert_array_equal(trend.mean, [2.0, np.nan, 5.0])
        np.testing.assert_array_equal(trend.low, [1.0, np.nan, 5.0])
        np.testing.assert_array_equal(trend.high, [3.0, np.nan, 5.0])
        assert trend.quality.tolist() == [UNCERTAIN, BAD_COMM_FAILURE, GOOD]

    tell(tmp_path / "history", story)


def test_limit_and_span_hold(tmp_path: Path) -> None:
    """The start is in the span, the end is not, and no more rows come than were asked for, the oldest first."""

    async def story(history: DuckdbHistory) -> None:
        await history.commit(frame(history, "A", [(t, float(t), GOOD) for t in range(100)]), {})
        assert (await history.read("A", 10, 20, None, 100)).time_ns.tolist() == list(range(10, 20))
        assert (await history.read("A", 10, 100, None, 5)).time_ns.tolist() == [10, 11, 12, 13, 14]

    tell(tmp_path / "history", story)


def test_retention_forgets_what_is_older(tmp_path: Path) -> None:
    """Readings before the given time are gone, the rest stays."""

    async def story(history: DuckdbHistory) -> None:
        await history.commit(frame(history, "A", [(10, 1.0, GOOD), (20, 2.0, GOOD)]), {})
        assert await history.retain(20) == 1
        assert (await history.read("A", 0, END, None, 10)).time_ns.tolist() == [20]

    tell(tmp_path / "history", story)


def test_reading_goes_on_while_a_commit_runs(tmp_path: Path) -> None:
    """Trends and commits at the same time disturb each other in nothing."""

    async def story(history: DuckdbHistory) -> None:
        async def write() -> None:
            for start in range(0, 50_000, 5_000):
                rows = [(t, 1.0, GOOD) for t in range(start, start + 5_000)]
                await history.commit(frame(history, "A", rows), {"rows": str(start + 5_000).encode()})

        async def read() -> None:
            seen = 0
            while seen < 50_000:
                trend = await history.read("A", 0, END, None, 100_000)
                assert len(trend.time_ns) >= seen
                assert len(trend.time_ns) % 5_000 == 0
                seen = len(trend.time_ns)

        await asyncio.gather(write(), read())

    tell(tmp_path / "history", story)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """The embedded store has one process; another is told so instead of damaging it."""

    async def story(_: DuckdbHistory) -> None:
        other = "import duckdb, sys\ntry:\n    duckdb.connect(sys.argv[1])\nexcept duckdb.Error:\n    sys.exit(7)"
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", other, str(tmp_path / "history")], check=False
        )
        assert done.returncode == 7

    tell(tmp_path / "history", story)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """Opening something else says so."""
    (tmp_path / "history").write_bytes(b"this is no database at all, whatever its name may say" * 100)
    with pytest.raises(HistoryError):
        asyncio.run(DuckdbHistory.open(tmp_path / "history"))


WRITER = dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
    from tocsin_core.readings import Frame

    async def main():
        history = await DuckdbHistory.open(Path(sys.argv[1]))
        n = int(history.state.get("rows", b"0"))
        while True:
            rows = range(n, n + 500)
            key = history.key("A")
            frame = Frame.of([key] * 500, list(rows), [float(t) for t in rows], [192] * 500)
            n += 500
            await history.commit(frame, {"rows": str(n).encode()})
            print(n, flush=True)

    asyncio.run(main())
    """
)


def test_kill_9_leaves_readings_and_state_of_the_same_commit(tmp_path: Path) -> None:
    """Killed while it writes, the store holds every commit that was answered, and each one whole, state and all."""
    path, out = tmp_path / "history", tmp_path / "out"
    for _ in range(4):
        with out.open("w") as said:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=said)
        eventually(lambda: len(out.read_text().splitlines()) > 20, 30)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        answered = int(out.read_text().split("\n")[-2])

        async def check(history: DuckdbHistory, answered: int = answered) -> None:
            trend = await history.read("A", 0, END, None, END)
            assert len(trend.time_ns) == int(history.state["rows"]) >= answered
            assert trend.mean.tolist() == trend.time_ns.tolist() == list(range(len(trend.time_ns)))

        tell(path, check)
