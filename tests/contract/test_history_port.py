"""What every time-series store behind the History port must do; each adapter runs the same suite on its real server."""

import asyncio
import json
import math
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Final

import numpy as np
import pytest

from tests.contract.history_stores import Store, Victoria, influx_address, victoria
from tests.support.wait import eventually
from tocsin_cloud.adapters.history import History, Trend, Wanted
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, UNCERTAIN, Frame, is_bad

MS: Final = 1_000_000
S: Final = 1000 * MS
MINUTE: Final = 60 * S
HOUR: Final = 60 * MINUTE
T0: Final = 472_222 * HOUR  # 2023-11-14T22:00:00Z
LATER: Final = T0 + 1000 * HOUR
ALL: Final = 1_000_000

Row = tuple[int, float, int]
# Without a server there is nothing to run the suite on: tests/conftest.py says so in a line of its own.
STORES: Final = [
    "duckdb",
    "duckdb-moving-on",
    "victoriametrics",
    "victoriametrics-rolled",
    *(["influxdb"] if influx_address() else []),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    """Run the VictoriaMetrics that the tests of this module share; the points of each are its own."""
    with victoria(tmp_path_factory.mktemp("victoria")) as running:
        yield running


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give each store in turn."""
    if request.param.startswith("victoriametrics"):
        shared: Victoria = request.getfixturevalue("server")
        return Store(shared.address, tmp_path, shared.show, rolled=request.param == "victoriametrics-rolled")
    if request.param == "influxdb":
        return Store(str(influx_address()), tmp_path)
    # With chunks of 200 rows a point all levels of the roll-ups are at work.
    return Store("duckdb", tmp_path, least_chunk_rows=1 if request.param == "duckdb-moving-on" else None)


def frame(history: History, point: str, rows: list[Row]) -> Frame:
    """Readings (time, value, quality) of one point, the time from T0 on."""
    times, values, qualities = zip(*rows, strict=True)
    return Frame.of([history.key(point)] * len(rows), [T0 + time for time in times], values, qualities)


async def shown(history: History, store: Store, point: str, step_ns: int | None = None, limit: int = ALL) -> Trend:
    """All that is shown of a point, its times from T0 on."""
    store.show()
    trend = await history.read(point, T0, LATER, step_ns, limit)
    return replace(trend, time_ns=trend.time_ns - T0)


async def until_durable(history: History, store: Store, commits: int) -> None:
    """Have the store say that the commits are durable; its clock is put ahead for that, and no time passes."""
    store.clock.ahead_s += 60
    assert await history.durable() == commits


def test_what_is_committed_is_read_after_a_restart(store: Store) -> None:
    """Readings come oldest first, each point's own; nothing is there of a point that nobody heard of."""
    one, other = store.point("A"), store.point("B")

    async def write(history: History) -> None:
        assert history.key(one) == history.key(one) != history.key(other)
        await history.commit(frame(history, one, [(20 * S, 2.0, GOOD), (10 * S, 0.1, GOOD)]), {})
        await history.commit(frame(history, other, [(10 * S, 9.0, GOOD)]), {})

    async def read(history: History) -> None:
        trend = await shown(history, store, one)
        assert trend.time_ns.tolist() == [10 * S, 20 * S]
        assert trend.mean.tolist() == trend.low.tolist() == trend.high.tolist() == [0.1, 2.0]
        assert trend.quality.tolist() == [GOOD, GOOD]
        assert (await shown(history, store, other)).mean.tolist() == [9.0]
        assert len((await shown(history, store, store.point("nobody"))).time_ns) == 0
        assert len((await shown(history, store, store.point("nobody"), MINUTE)).time_ns) == 0

    store.tell(write, read)


def test_the_state_of_what_is_durable_is_found_again(store: Store) -> None:
    """The state's parts keep until they are replaced, and belong to readings that are durable."""

    async def write(history: History) -> None:
        assert dict(history.state) == {}
        assert await history.durable() == 0
        await history.commit(frame(history, store.point("A"), [(0, 1.0, GOOD)]), {"one": b"1", "two": b"2"})
        await history.commit(Frame.empty(), {"two": b"22"})
        assert dict(history.state) == {"one": b"1", "two": b"22"}
        await until_durable(history, store, 2)
        assert history.dropped == 0

    async def look(history: History) -> None:
        assert dict(history.state) == {"one": b"1", "two": b"22"}
        assert await history.durable() == 0

    store.tell(write, look, look)


def test_a_copy_is_of_one_moment_and_takes_the_stores_place(store: Store, tmp_path: Path) -> None:
    """Commits go on while it is made; the copy has what was committed before, its readings not behind its state."""
    point = store.point("A")
    copied = tmp_path / "copied"
    copied.mkdir()

    async def write(history: History) -> None:
        await history.commit(frame(history, point, [(0, 0.0, GOOD)]), {"last": b"0"})
        await until_durable(history, store, 1)
        copying = asyncio.create_task(history.copy(copied))
        number = 0
        while not copying.done():
            number += 1
            await history.commit(frame(history, point, [(number * S, 1.0, GOOD)]), {"last": str(number).encode()})
        await copying
        await until_durable(history, store, number + 1)

    async def read(history: History) -> None:
        last = int(history.state["last"])
        assert len((await shown(history, store, point)).time_ns) >= last + 1

    store.tell(write)
    there, store.folder = store.folder, copied
    store.tell(read)
    store.folder = there
    store.tell(read)


def test_a_reading_that_comes_twice_is_read_once(store: Store) -> None:
    """The same point and time stored again, at once or later, changes neither samples nor means."""
    point = store.point("A")

    async def first(history: History) -> None:
        twice = [(0, 1.0, GOOD), (10 * S, 4.0, GOOD)]
        await history.commit(frame(history, point, twice + twice), {})
        store.show()
        await history.commit(frame(history, point, twice[:1]), {})

    async def again(history: History) -> None:
        await history.commit(frame(history, point, [(0, 1.0, GOOD)]), {})
        assert (await shown(history, store, point)).time_ns.tolist() == [0, 10 * S]
        assert (await shown(history, store, point, HOUR)).mean.tolist() == [2.5]
        assert (await shown(history, store, point, 20 * S)).mean.tolist() == [2.5]

    store.tell(first, again)


def test_a_step_keeps_least_greatest_mean_and_the_worst_quality(store: Store) -> None:
    """A bad value is in no mean and is never a number; a step of bad values alone has none; an empty step is absent."""
    point, silent = store.point("A"), store.point("B")

    async def story(history: History) -> None:
        rows = [
            (0, 1.0, GOOD),
            (9 * S, 3.0, UNCERTAIN),
            (10 * S, np.nan, BAD_COMM_FAILURE),
            (11 * S, 0.0, BAD_SENSOR_FAILURE),
            (30 * S, 5.0, GOOD),
        ]
        await history.commit(frame(history, point, rows), {})
        trend = await shown(history, store, point, 10 * S)
        assert trend.time_ns.tolist() == [0, 10 * S, 30 * S]
        np.testing.assert_array_equal(trend.mean, [2.0, np.nan, 5.0])
        np.testing.assert_array_equal(trend.low, [1.0, np.nan, 5.0])
        np.testing.assert_array_equal(trend.high, [3.0, np.nan, 5.0])
        assert trend.quality.tolist() == [UNCERTAIN, BAD_SENSOR_FAILURE, GOOD]
        await history.commit(frame(history, silent, rows[2:4]), {})
        for step in (10 * S, HOUR):
            trend = await shown(history, store, silent, step)
            assert np.isnan(trend.mean).all()
            assert trend.quality.tolist() == [BAD_SENSOR_FAILURE]

    store.tell(story)


def test_several_trends_at_once_are_those_that_are_read_one_by_one(store: Store) -> None:
    """Each of its own point, span and step; what came twice counts once, and who has nothing in its span has no row."""
    one, other, nobody = (store.point(name) for name in ("A", "B", "nobody"))
    wanted = [
        Wanted(one, T0 + 5 * S, T0 + 65 * S, 10 * S),
        Wanted(nobody, T0, T0 + HOUR, S),
        Wanted(other, T0, T0 + 30 * S, 7 * S),
        Wanted(one, T0 + 40 * S, T0 + 200 * S, S),
        Wanted(other, T0 + HOUR, T0 + 2 * HOUR, S),
    ]

    async def write(history: History) -> None:
        for offset in range(0, 100, 20):
            # Half of them come again with the next.
            rows = [(time * S, time / 8, GOOD if time % 3 else UNCERTAIN) for time in range(offset, offset + 40)]
            await history.commit(frame(history, one, rows), {})
            await history.commit(
                frame(history, other, [(time, value + 1.0, quality) for time, value, quality in rows]), {}
            )

    async def read(history: History) -> None:
        store.show()
        together = await history.read_each(wanted)
        for each, trend in zip(wanted, together, strict=True):
            alone = await history.read(*each, each.most)
            for column in Trend.__slots__:
                assert getattr(trend, column).tolist() == getattr(alone, column).tolist(), (each, column)
        assert [len(trend.time_ns) for trend in together] == [6, 0, 5, 80, 0]

    store.tell(write, read)


def test_samples_keep_their_quality_and_what_has_no_value_stays_without(store: Store) -> None:
    """Absent and infinite values come back as absent, a bad value as that value, and each with its quality byte."""
    point = store.point("A")
    rows = [
        (0, -0.25, GOOD | 1),
        (1 * S, math.nan, BAD_COMM_FAILURE),
        (2 * S, 17.5, BAD_SENSOR_FAILURE),
        (3 * S, math.inf, BAD_SENSOR_FAILURE),
        (4 * S, 1e-9, UNCERTAIN),
        (5 * S, 0.0, GOOD),
    ]

    async def story(history: History) -> None:
        await history.commit(frame(history, point, rows), {})
        trend = await shown(history, store, point)
        assert trend.quality.tolist() == [quality for _, _, quality in rows]
        np.testing.assert_allclose(trend.mean, [-0.25, np.nan, 17.5, np.nan, 1e-9, 0.0], rtol=1e-12)

    store.tell(story)


def test_a_value_beyond_all_measure_leaves_those_beside_it_as_they_are(store: Store) -> None:
    """A transmitter that is broken may tell the greatest number that there is: what it told before is no 0 by that."""
    point = store.point("A")
    odd = {5: 3.4028234663852886e38, 15: 1e15, 25: -1e300, 26: 1.5e308}
    rows = [(n * S, odd.get(n, 20.5 + n / 8), GOOD) for n in range(40)]
    rows += [(n * S, 1e38 if n == 45 else 0.25, BAD_SENSOR_FAILURE) for n in range(40, 50)]
    later = [(HOUR + n * S, 3.0, GOOD) for n in range(20)]

    async def write(history: History) -> None:
        await history.commit(frame(history, point, rows), {})
        # Where roll-ups are made at once, the first hour's is made anew.
        await history.commit(frame(history, point, [*later, *rows[:10]]), {})

    async def read(history: History) -> None:
        trend = await shown(history, store, point)
        assert trend.time_ns.tolist() == [time for time, _, _ in rows + later]
        np.testing.assert_allclose(trend.mean, [value for _, value, _ in rows + later], rtol=1e-12)
        for step in (7 * S, 10 * S, MINUTE, HOUR, 2 * HOUR):
            wanted = expected(rows + later, 0, 2 * HOUR, step)
            trend = await shown(history, store, point, step)
            assert trend.time_ns.tolist() == sorted(wanted)
            found = np.stack([trend.mean, trend.low, trend.high, trend.quality])
            np.testing.assert_allclose(found, np.transpose([wanted[begin] for begin in sorted(wanted)]), rtol=1e-12)

    store.tell(write, read)


def test_values_whose_sum_is_no_number_have_their_least_and_greatest(store: Store) -> None:
    """And no mean that is none of theirs, as 0 would be; what is read beside them is there."""
    point = store.point("A")
    most = 1.7e308

    async def write(history: History) -> None:
        await history.commit(frame(history, point, [(0, 5.0, GOOD), *((n * S, most, GOOD) for n in range(1, 30))]), {})
        await history.commit(frame(history, point, [(HOUR, 3.0, GOOD)]), {})

    async def read(history: History) -> None:
        trend = await shown(history, store, point, HOUR)
        assert trend.time_ns.tolist() == [0, HOUR]
        # A server may hold the sum at the greatest number that there is.
        assert not trend.mean[0] < most / 3
        assert trend.mean[1] == 3.0
        assert trend.low.tolist() == [5.0, 3.0]
        np.testing.assert_allclose(trend.high, [most, 3.0], rtol=1e-12)

    store.tell(write, read)


def test_times_are_kept_to_the_millisecond(store: Store) -> None:
    """Readings of different milliseconds are apart; of two in one at least one is read, and what is read was sent."""
    point = store.point("A")
    sent = [(5 * MS + 1, 1.0, GOOD), (5 * MS + 999_999, math.nan, BAD_COMM_FAILURE), (6 * MS, 2.0, GOOD)]

    async def story(history: History) -> None:
        await history.commit(frame(history, point, sent), {})
        trend = await shown(history, store, point)
        assert set((trend.time_ns // MS).tolist()) == {5, 6}
        read = {(repr(value), quality) for value, quality in zip(trend.mean.tolist(), trend.quality, strict=True)}
        assert read <= {(repr(value), quality) for _, value, quality in sent}

    store.tell(story)


def test_limit_and_span_hold(store: Store) -> None:
    """The start is in the span, the end is not, no more rows come than were asked for, and those are the oldest."""
    point = store.point("A")

    async def story(history: History) -> None:
        await history.commit(frame(history, point, [(t * HOUR, float(t), GOOD) for t in range(100)]), {})
        store.show()

        async def hours(first: int, end: int, step_ns: int | None, limit: int) -> list[int]:
            trend = await history.read(point, T0 + first * HOUR, T0 + end * HOUR, step_ns, limit)
            return [int(time - T0) // HOUR for time in trend.time_ns]

        assert await hours(10, 20, None, ALL) == list(range(10, 20))
        assert await hours(10, 100, None, 5) == [10, 11, 12, 13, 14]
        assert await hours(10, 100, MINUTE, 5) == [10, 11, 12, 13, 14]
        assert await hours(10, 100, 7 * HOUR, 2) == [10, 17]
        assert await hours(10, 10, None, 5) == []

    store.tell(story)


def test_names_of_points_are_free(store: Store) -> None:
    """Whatever a stranger calls a point, its readings are its own."""
    names = ["a b,c=d", 'q"uote', "back\\slash\\", "line\nbreak", "氨 储罐", "100%", "${x}", "#", "a/b/c", "{}"]
    # What ends a line for Python, and for nobody else.
    names += ["\N{LINE SEPARATOR}", "next\x85line"]

    async def story(history: History) -> None:
        for number, name in enumerate(names):
            await history.commit(frame(history, store.point(name), [(0, float(number), GOOD)]), {})
        for number, name in enumerate(names):
            assert (await shown(history, store, store.point(name))).mean.tolist() == [number], name
            assert (await shown(history, store, store.point(name), HOUR)).mean.tolist() == [number], name

    store.tell(story)


def test_retention_forgets_what_is_older(store: Store) -> None:
    """Readings before the whole hour are shown neither as such nor in steps, also after a restart; the rest stays."""
    point = store.point("A")
    rows = [(10 * MINUTE, 1.0, GOOD), (70 * MINUTE, 2.0, GOOD), (130 * MINUTE, 4.0, GOOD)]

    async def forget(history: History) -> None:
        await history.commit(frame(history, point, rows), {})
        store.show()
        await history.retain(T0 + 100 * MINUTE)

    async def look(history: History) -> None:
        assert (await shown(history, store, point)).time_ns.tolist() == [70 * MINUTE, 130 * MINUTE]
        by_day = await shown(history, store, point, 24 * HOUR)
        assert (by_day.time_ns.tolist(), by_day.mean.tolist(), by_day.low.tolist()) == ([0], [3.0], [2.0])
        broken = await shown(history, store, point, 45 * MINUTE)
        assert (broken.time_ns.tolist(), broken.mean.tolist()) == ([45 * MINUTE, 90 * MINUTE], [2.0, 4.0])

    store.tell(forget, look)


def test_late_readings_take_their_place(store: Store) -> None:
    """What comes days late, and what comes again among it, is in the samples and the long trends as if never late."""
    point = store.point("A")
    live = [(200 * HOUR + n * S, 10.0, GOOD) for n in range(60)]
    backlog = [(n * HOUR, float(n), GOOD) for n in range(24)]

    async def story(history: History) -> None:
        await history.commit(frame(history, point, live), {})
        before = await shown(history, store, point, HOUR)
        assert before.time_ns.tolist() == [200 * HOUR]
        await history.commit(frame(history, point, backlog[::-1] + live[:30]), {})
        await history.commit(frame(history, point, backlog[:12]), {})
        assert (await shown(history, store, point)).mean.tolist() == [float(n) for n in range(24)] + [10.0] * 60
        days = await shown(history, store, point, 24 * HOUR)
        assert days.mean.tolist() == [11.5, 10.0]
        assert (days.low.tolist(), days.high.tolist()) == ([0.0, 10.0], [23.0, 10.0])

    store.tell(story)


def expected(rows: list[Row], start: int, end: int, step: int) -> dict[int, tuple[float, float, float, int]]:
    """Mean, least, greatest and worst quality of each step of [start, end), worked out plainly."""
    steps: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if start <= row[0] < end:
            steps[start + (row[0] - start) // step * step].append(row)
    answer = {}
    for begin, inside in steps.items():
        usable = [value for _, value, quality in inside if not is_bad(np.asarray([quality], np.uint8))[0]]
        figures = (math.fsum(usable) / len(usable), min(usable), max(usable)) if usable else (math.nan,) * 3
        answer[begin] = (*figures, min(quality for _, _, quality in inside))
    return answer


def test_long_trends_are_what_the_readings_say(store: Store) -> None:
    """Steps of any length and start agree with the readings, whatever came late, twice or bad, also after restarts."""
    point = store.point("A")
    random = np.random.default_rng(7)
    times = np.unique(random.integers(0, 50 * HOUR // MS, 4000)) * MS
    bad = random.random(len(times)) < 0.1
    rows: list[Row] = [
        (int(time), math.nan if is_out else round(float(value), 3), BAD_COMM_FAILURE if is_out else GOOD)
        for time, value, is_out in zip(times, random.normal(50, 20, len(times)), bad, strict=True)
    ]
    portions = np.array_split(random.permutation(len(rows)), 12)

    async def write(part: int, history: History) -> None:
        for portion in portions[part::3]:
            await history.commit(frame(history, point, [rows[place] for place in portion]), {})
            store.show()
        again = random.choice(len(rows), 300)
        await history.commit(frame(history, point, [rows[place] for place in again]), {})

    async def look(history: History) -> None:
        store.show()
        for start, end, step in [
            (0, 50 * HOUR, HOUR),
            (0, 49 * HOUR + 7 * MINUTE + 3 * MS, 6 * HOUR),
            (2 * HOUR, 31 * HOUR, 24 * HOUR),
            (7 * MINUTE, 40 * HOUR, 5 * MINUTE),
            (3 * HOUR, 5 * HOUR, MINUTE),
            (1234 * MS, 47 * HOUR, 2345 * S),
            (10 * HOUR, 10 * HOUR + 30 * S, HOUR),
        ]:
            trend = await history.read(point, T0 + start, T0 + end, step, ALL)
            wanted = expected(rows, start, end, step)
            assert (trend.time_ns - T0).tolist() == sorted(wanted), (start, end, step)
            given = np.stack([trend.mean, trend.low, trend.high, trend.quality])
            rows_wanted = np.reshape([wanted[begin] for begin in sorted(wanted)], (-1, 4))
            np.testing.assert_allclose(given, rows_wanted.T, rtol=1e-9)

    store.tell(*(partial(write, part) for part in range(3)), look)


def test_reading_goes_on_while_commits_run(store: Store) -> None:
    """Trends and commits at the same time disturb each other in nothing: what was shown once stays shown."""
    point = store.point("A")
    number, portion = 50_000, 5_000

    async def story(history: History) -> None:
        async def write() -> None:
            for start in range(0, number, portion):
                rows = [(t * S, 1.0, GOOD) for t in range(start, start + portion)]
                await history.commit(frame(history, point, rows), {"rows": str(start + portion).encode()})

        async def read() -> None:
            seen = 0
            while seen < number:
                trend = await shown(history, store, point)
                assert len(trend.time_ns) >= seen
                seen = len(trend.time_ns)
                steps = await shown(history, store, point, HOUR)
                assert np.all(steps.mean == 1.0)

        await asyncio.gather(write(), read())

    store.tell(story)


def test_a_second_process_is_refused(store: Store) -> None:
    """A data folder has one historian; another is told so instead of damaging it."""
    program = dedent(
        """
        import asyncio, sys
        from tests.contract.history_stores import Store
        from tocsin_cloud.adapters.history import HistoryError
        try:
            asyncio.run(Store(sys.argv[1], __import__("pathlib").Path(sys.argv[2])).open())
        except HistoryError as error:
            print(error)
        """
    )

    async def story(_: History) -> None:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program, store.address, str(store.folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("another process works on")

    store.tell(story)


WRITER = dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    from tests.contract.history_stores import Store, show
    from tests.contract.test_history_port import S, T0
    from tocsin_core.readings import Frame

    async def main():
        options = json.loads(sys.argv[4])
        store = Store(sys.argv[1], Path(sys.argv[2]), **options)
        if options["rolled"]:
            store.show = lambda: show(store.address)
        history = await store.open()
        n = int(history.state.get("rows", b"0"))
        commits = []
        while True:
            rows = range(n, n + 500)
            frame = Frame.of([history.key(sys.argv[3])] * 500, [T0 + t * S for t in rows], list(rows), [192] * 500)
            n += 500
            await history.commit(frame, {"rows": str(n).encode()})
            commits.append(n)
            durable = await history.durable()
            print(len(commits), commits[durable - 1] if durable else 0, flush=True)

    asyncio.run(main())
    """
)


def test_kill_9_of_the_writer_leaves_no_hole(store: Store) -> None:
    """Killed while it writes, the next goes on where the state says: every durable reading is there, and each once."""
    point, out = store.point("A"), store.folder / "out"
    for _ in range(3):
        with out.open("w") as said:
            options = json.dumps({"least_chunk_rows": store.least_chunk_rows, "rolled": store.rolled})
            given = [store.address, str(store.folder), point, options]
            writer = subprocess.Popen([sys.executable, "-c", WRITER, *given], stdout=said)
        eventually(lambda: len(out.read_text().splitlines()) > 8, 60)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        durable = int(out.read_text().split("\n")[-2].split()[1])

        async def look(history: History, durable: int = durable) -> None:
            trend = await shown(history, store, point)
            rows = len(trend.time_ns)
            state = int(history.state.get("rows", b"0"))
            assert rows >= state >= durable
            assert trend.mean.tolist() == (trend.time_ns // S).tolist() == list(range(rows))
            hours = await shown(history, store, point, HOUR)
            wanted = [np.arange(first, min(first + 3600, rows)).mean() for first in range(0, rows, 3600)]
            np.testing.assert_allclose(hours.mean, wanted)

        store.tell(look)
