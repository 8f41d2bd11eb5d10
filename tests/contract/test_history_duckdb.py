"""What only the embedded history does: moving readings on to roll-ups, opening what is no store or an older one."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.contract import full_history_disk as full
from tests.support.small_disk import on_small_disk
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import history_duckdb
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_duckdb_tables import Span, read
from tocsin_core.readings import GOOD, Frame

S: Final = 1_000_000_000
HOUR: Final = 3600 * S
T0: Final = 472_222 * HOUR
ROWS: Final = 200


def rows(path: Path) -> dict[str, int]:
    """How many rows each table of a closed history has."""
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in tables}  # noqa: S608 -- its own tables


def portion(history: DuckdbHistory, number: int) -> Frame:
    """Portion `number` of one point's readings, a chunk full, one reading a second."""
    times = [T0 + (number * ROWS + n) * S for n in range(ROWS)]
    return Frame.of([history.key("A")] * ROWS, times, [float(number)] * ROWS, [GOOD] * ROWS)


def test_readings_move_on_to_minutes_and_hours(tmp_path: Path) -> None:
    """Each level hands on what has gathered, and a long trend is then read from the few rows of the last one."""
    path = tmp_path / "history"

    async def story() -> None:
        history = await DuckdbHistory.open(path, least_chunk_rows=1)
        for number in range(100):
            await history.commit(portion(history, number), {})
        values = np.repeat(np.arange(100.0), ROWS)
        for step_s in (3600, 60):
            trend = await history.read("A", T0, T0 + 24 * HOUR, step_s * S, 9999)
            by_step = [values[first : first + step_s] for first in range(0, len(values), step_s)]
            wanted = [[step.mean(), step.min(), step.max()] for step in by_step]
            np.testing.assert_allclose(np.stack([trend.mean, trend.low, trend.high]), np.transpose(wanted))
        await history.close()

    asyncio.run(story())
    found = rows(path)
    assert found["readings"] == found["sorted"] + found["recent_0"] + found["recent_1"] == 100 * ROWS
    assert found["recent_0"] + found["recent_1"] <= 3 * ROWS
    assert found["minutes"] + found["minutes_recent"] < 2 * found["sorted"] / 60 + 100
    assert 0 < found["hours"] + found["hours_recent"] < 30
    with duckdb.connect(str(path), read_only=True) as connection:
        counted = connection.execute("SELECT sum(number) FROM (FROM minutes UNION ALL FROM minutes_recent)").fetchall()
        # A reading that is counted in `minutes` has been counted in an hour, once.
        hours = connection.execute(
            "SELECT (SELECT sum(number) FROM (FROM hours UNION ALL FROM hours_recent)), sum(number) FROM minutes"
        ).fetchall()
    assert counted == [(found["sorted"],)]
    assert hours[0][0] == hours[0][1]


def test_a_long_trend_is_read_of_roll_ups_and_not_of_readings(tmp_path: Path) -> None:
    """Without the readings that they were made of, hours and minutes show what they showed; samples are gone."""
    path = tmp_path / "history"

    async def trends(history: DuckdbHistory) -> list[list[list[float]]]:
        read = [await history.read("A", T0, T0 + 24 * HOUR, step_s * S, 9999) for step_s in (6 * 3600, 3600, 60)]
        return [[each.mean.tolist(), each.low.tolist(), each.high.tolist()] for each in read]

    async def write() -> list[list[list[float]]]:
        history = await DuckdbHistory.open(path, least_chunk_rows=1)
        for number in range(100):
            await history.commit(portion(history, number), {})
        found = await trends(history)
        await history.close()
        return found

    async def look() -> tuple[list[list[list[float]]], int]:
        history = await DuckdbHistory.open(path)
        found, samples = await trends(history), await history.read("A", T0, T0 + 24 * HOUR, None, 99_999)
        await history.close()
        return found, len(samples.time_ns)

    before = asyncio.run(write())
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM sorted")
    assert asyncio.run(look()) == (before, rows(path)["recent_0"] + rows(path)["recent_1"])


def test_forgetting_takes_the_roll_ups_too(tmp_path: Path) -> None:
    """What is older than the retention is in no table any more, and what is not is still in all of them."""
    path = tmp_path / "history"

    async def story() -> None:
        history = await DuckdbHistory.open(path, least_chunk_rows=1)
        for number in range(100):
            await history.commit(portion(history, number), {})
        await history.retain(T0 + 3 * HOUR)
        trend = await history.read("A", T0, T0 + 24 * HOUR, HOUR, 100)
        assert (trend.time_ns - T0).tolist() == [3 * HOUR, 4 * HOUR, 5 * HOUR]
        await history.close()

    asyncio.run(story())
    with duckdb.connect(str(path), read_only=True) as connection:
        for table in ("sorted", "recent_0", "recent_1", "minutes", "minutes_recent", "hours", "hours_recent"):
            (oldest,) = connection.execute(f"SELECT min(time_ns) FROM {table}").fetchall()[0]  # noqa: S608 -- its own tables
            assert oldest is None or oldest >= T0 + 3 * HOUR, table


def test_a_chunk_that_cannot_move_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under a sort is told, costs no reading, and the chunk moves on when there is room again."""
    name = "tocsin_cloud.adapters.history_duckdb.move_on"

    def full(*_: object) -> None:
        raise duckdb.IOException("no space left on device")

    async def story() -> None:
        history = await DuckdbHistory.open(tmp_path / "history", least_chunk_rows=1)
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(name, full)
            for number in range(4):
                await history.commit(portion(history, number), {})
            await eventually_async(lambda: bool(logs))
        assert logs[0]["event"] == "history not compacted"
        assert "no space" in logs[0]["reason"]
        assert len((await history.read("A", T0, T0 + HOUR, None, 9999)).time_ns) == 4 * ROWS
        for number in range(4, 8):
            await history.commit(portion(history, number), {})
        trend = await history.read("A", T0, T0 + HOUR, HOUR, 10)
        np.testing.assert_allclose(trend.mean, [3.5])
        await history.close()

    asyncio.run(story())
    assert rows(tmp_path / "history")["sorted"] > 0


def test_a_file_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """Readings, names and state of a history without roll-ups are there as before, and move on like any."""
    path = tmp_path / "history"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE readings "
            "(point INTEGER NOT NULL, time_ns BIGINT NOT NULL, value DOUBLE, quality UTINYINT NOT NULL)"
        )
        connection.execute("CREATE TABLE points (key INTEGER PRIMARY KEY, id VARCHAR NOT NULL UNIQUE)")
        connection.execute("CREATE TABLE meta (format INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE state (name VARCHAR PRIMARY KEY, body BLOB NOT NULL)")
        connection.execute("INSERT INTO meta VALUES (1)")
        connection.execute("INSERT INTO points VALUES (0, 'A')")
        connection.execute("INSERT INTO state VALUES ('position', 'here'::BLOB)")
        connection.execute("INSERT INTO readings SELECT 0, ? + i * 1000000000, i, 192 FROM range(300) AS t(i)", [T0])

    async def story() -> None:
        for _ in range(2):
            history = await DuckdbHistory.open(path, least_chunk_rows=1)
            assert dict(history.state) == {"position": b"here"}
            await history.commit(Frame.empty(), {})
            trend = await history.read("A", T0, T0 + HOUR, HOUR, 10)
            assert (trend.mean.tolist(), trend.high.tolist()) == ([149.5], [299.0])
            await history.close()

    asyncio.run(story())
    assert rows(path)["sorted"] == 300


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """A file of something else, and one of a later version, are told as such and left alone."""
    other, later = tmp_path / "other", tmp_path / "later"
    other.write_bytes(b"this is no database at all, whatever its name may say" * 100)
    with duckdb.connect(str(later)) as connection:
        connection.execute("CREATE TABLE meta (format INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO meta VALUES (99)")
    with pytest.raises(HistoryError, match="other"):
        asyncio.run(DuckdbHistory.open(other))
    with pytest.raises(HistoryError, match="another format"):
        asyncio.run(DuckdbHistory.open(later))
    assert rows(later) == {"meta": 1}


class Busy:
    """Keeps a connection busy in another thread, for as long as the test wants."""

    def __init__(self) -> None:
        """Nothing is busy yet."""
        self._begun, self._go_on = threading.Event(), threading.Event()
        self.let_go = False

    def keep(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Return when the test lets it."""

        def busy(number: int) -> int:
            self._begun.set()
            self.let_go = self._go_on.wait(30)
            return number

        connection.create_function("busy", busy)
        connection.execute("SELECT busy(1)")

    async def cancelled(self, task: asyncio.Task[object]) -> None:
        """Cancel what keeps it busy; it is busy all the same."""
        await asyncio.to_thread(self._begun.wait)
        task.cancel()

    async def go_on(self) -> None:
        """Let others have a moment, and then it is busy no more."""
        for _ in range(3):
            await asyncio.sleep(0)
        self._go_on.set()


def test_an_opening_that_is_cancelled_lets_go_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses its lease meanwhile hears only that, and leaves nothing that is busy."""
    busy, load = Busy(), DuckdbHistory._load  # noqa: SLF001 -- what takes long

    def slow(history: DuckdbHistory) -> None:
        busy.keep(history._connection)  # noqa: SLF001 -- as above
        load(history)

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(DuckdbHistory, "_load", slow)
            opening = asyncio.create_task(DuckdbHistory.open(tmp_path / "history.duckdb"))
            await busy.cancelled(opening)
            await busy.go_on()
            with pytest.raises(asyncio.CancelledError):
                await opening
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        await history.close()

    asyncio.run(story())


def test_closing_waits_for_whoever_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody waits for that answer any more: the file is free afterwards."""
    busy = Busy()

    def slow(cursor: duckdb.DuckDBPyConnection, span: Span, step_ns: int | None, limit: int) -> Mapping[str, Any]:
        busy.keep(cursor)
        return read(cursor, span, step_ns, limit)

    async def story() -> None:
        monkeypatch.setattr(history_duckdb, "read", slow)
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        asked = asyncio.create_task(history.read("A", 0, 1, None, 1))
        await busy.cancelled(asked)
        closing = asyncio.create_task(history.close())
        await busy.go_on()
        await closing
        assert asked.cancelled()

    asyncio.run(story())


def test_closing_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others go on while it waits for what is being forgotten."""
    busy = Busy()

    async def story() -> None:
        monkeypatch.setattr(history_duckdb, "forget", lambda cursor, _before_ns: busy.keep(cursor))
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        await busy.cancelled(asyncio.create_task(history.retain(0)))
        closing = asyncio.create_task(history.close())
        await eventually_async(lambda: history._tidying._shutdown)  # noqa: SLF001 -- shown nowhere else
        await busy.go_on()
        await closing
        assert busy.let_go

    asyncio.run(story())


def test_a_commit_that_is_given_up_leaves_the_chunk_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever loses its lease while more comes than can be sorted closes all the same: the next finds the file free."""
    busy = Busy()

    async def story() -> None:
        monkeypatch.setattr(history_duckdb, "move_on", lambda cursor, _table, _chunk: busy.keep(cursor))
        history = await DuckdbHistory.open(tmp_path / "history.duckdb", least_chunk_rows=1)
        # The first moves on, and the next two are as much as may gather meanwhile.
        for number in range(3):
            await history.commit(portion(history, number), {})
        await busy.cancelled(asyncio.create_task(history.commit(portion(history, 3), {})))
        closing = asyncio.create_task(history.close())
        await busy.go_on()
        await closing
        assert busy.let_go
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        assert len((await history.read("A", 0, 2**62, None, 9999)).time_ns) == 3 * ROWS
        await history.close()

    asyncio.run(story())


def test_closing_waits_for_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs is interrupted, and what waits for its turn is told so: the file is free at once."""
    begun = threading.Event()

    def endless(cursor: duckdb.DuckDBPyConnection, _path: Path) -> None:
        begun.set()
        cursor.execute("SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE (a.range ^ b.range) % 7 = 3")

    async def story() -> None:
        monkeypatch.setattr(history_duckdb, "READERS", 1)
        monkeypatch.setattr(history_duckdb, "copy", endless)
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        asked = [asyncio.create_task(history.copy(tmp_path)) for _ in range(2)]
        asked.append(asyncio.create_task(_read_nothing(history)))
        await asyncio.to_thread(begun.wait)
        async with asyncio.timeout(20):
            await history.close()
            told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in told] == [HistoryError] * 3
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        await history.close()

    asyncio.run(story())


async def _read_nothing(history: DuckdbHistory) -> None:
    await history.read("A", 0, 1, None, 1)


@pytest.mark.parametrize("chunk", [50_000, 1_000_000_000])
def test_a_disk_that_was_full_is_written_on_once_it_has_room(tmp_path: Path, chunk: int) -> None:
    """DuckDB gives the file up when its log finds no room there, after a commit or a chunk: nothing is lost by it."""
    found = on_small_disk("64m", tmp_path, full.__name__, str(chunk))
    assert found == {"afterwards": [True] * full.AFTERWARDS, "kept": [full.ROWS], "many": True}
