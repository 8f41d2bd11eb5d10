"""Backup and restore where the readings are on a server: out of it, and into another."""

import asyncio
import gzip
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.cloud.rig import HOST
from tests.cloud.test_backup import data, done, own_umask, refused
from tests.cloud.test_history_addresses import METRICS, annotated, recorder
from tests.contract.history_stores import FLAGS, AheadClock, Store, Victoria, influx_address, roll_up, victoria
from tocsin_cloud.adapters import history_victoria_copies as victoria_copies
from tocsin_cloud.adapters.backup_manifest import BackupError
from tocsin_cloud.adapters.history import History, Trend
from tocsin_cloud.adapters.history_influx_copies import keep_readings, put_readings
from tocsin_cloud.adapters.history_open import FILE, influx_token
from tocsin_cloud.adapters.history_state import RESTORED
from tocsin_cloud.adapters.restore import Into, restore_backup
from tocsin_cloud.adapters.settings_file import history_of, note_settings, noted_settings
from tocsin_cloud.settings import Address, CloudSettings, HistoryAddress
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, Frame

__all__ = ["data", "own_umask"]
MS: Final = 1_000_000
S: Final = 1000 * MS
HOUR: Final = 3600 * S
T0: Final = 472_222 * HOUR
POINTS: Final = ("P1", "氨 储罐 %", 'q"|.*')
NUMBER: Final = 20_000


class HastyClock(AheadClock):
    """A clock of which each look takes a while."""

    def __init__(self, look_s: float = 60.0) -> None:
        """Be `look_s` later each time."""
        super().__init__()
        self._look_s = look_s

    def monotonic(self) -> float:
        """Return the monotonic seconds, of which this took some."""
        self.ahead_s += self._look_s
        return super().monotonic()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Victoria]:
    """The server that is backed up."""
    with victoria(tmp_path / "victoria") as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Victoria]:
    """An empty one."""
    with victoria(tmp_path / "other") as running:
        yield running


def use(folder: Path, address: str) -> None:
    """Have the data folder say that its history is at `address`."""
    here = Address(HOST, 1)
    plant = Path(noted_settings(folder)["plant"])
    history = HistoryAddress.parse(address)
    note_settings(CloudSettings(plant=plant, data=folder, http=here, mqtt=here, history=history), "site")


def readings(history: History) -> Frame:
    """Readings of some points, one of them with bad ones, and an instrument that says nothing."""
    numbers = np.arange(NUMBER)
    values, quality = np.round(numbers / 7, 3), np.full(NUMBER, GOOD, np.uint8)
    values[5], quality[5] = math.nan, BAD_COMM_FAILURE
    quality[6] = BAD_SENSOR_FAILURE
    frames = [
        Frame(np.full(NUMBER, history.key(point), np.int32), T0 + numbers * S + 7 * MS, values + place, quality)
        for place, point in enumerate(POINTS)
    ]
    return Frame.concat(frames)


async def shown(history: History, step_ns: int | None = None) -> list[Trend]:
    """All that is shown of the points."""
    return [await history.read(point, T0, T0 + 100 * HOUR, step_ns, 10 * NUMBER) for point in POINTS]


def same(one: list[Trend], other: list[Trend], rtol: float = 0.0) -> None:
    """Each row of each trend is in both."""
    for left, right in zip(one, other, strict=True):
        for name in ("time_ns", "mean", "low", "high", "quality"):
            np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol)


@pytest.fixture
def on_server(data: Path, server: Victoria) -> tuple[Path, list[Trend], list[Trend]]:
    """A data folder whose readings are on the server and rolled up there; the samples and the hours of these."""
    (data / FILE).unlink()
    use(data, server.address)
    found: list[list[Trend]] = []
    store = Store(server.address, data, server.show)

    async def write(history: History) -> None:
        await history.commit(readings(history), {"position": b"7"})
        await roll_up(history, store)
        found.extend([await shown(history), await shown(history, HOUR)])

    store.tell(write)
    return data, found[0], found[1]


def test_readings_on_a_server_are_backed_up_and_go_into_an_empty_one(
    on_server: tuple[Path, list[Trend], list[Trend]], other: Victoria, tmp_path: Path
) -> None:
    """Every reading as it was, once, also when they are restored over what is there; the roll-ups are made anew."""
    data, samples, hours = on_server
    place = Path(done("backup", str(data), "--to", str(tmp_path))["backup"])
    kept = json.loads((place / "manifest.json").read_bytes())["files"]["readings/victoriametrics.jsonl.gz"]
    assert 0 < kept["size"] < 10 * 3 * NUMBER
    address = HistoryAddress.parse(other.address)
    said: list[tuple[str, int, int]] = []
    restores: set[bytes] = set()
    for name in ("first", "over what is there"):
        into = tmp_path / name
        restore_backup(place, Into(into, history=address), HastyClock(), lambda *told: said.append(told))
        assert ("readings", kept["size"], kept["size"]) in said
        assert not (into / "readings").exists()
        assert history_of(noted_settings(into)) == address
        store = Store(other.address, into, other.show)

        async def look(history: History, store: Store = store) -> None:
            assert history.state["position"] == b"7"
            restores.add(history.state[RESTORED])
            store.show()
            same(await shown(history), samples)
            same(await shown(history, HOUR), hours, 1e-11)
            await roll_up(history, store)
            same(await shown(history, HOUR), hours, 1e-11)
            other.get("/api/v1/admin/tsdb/delete_series?match[]={made!=%22%22}")
            for step_h in (1, 7, 12):
                found = await shown(history, step_h * HOUR)
                assert sum(len(trend.time_ns) for trend in found) == 0, "made of readings, and not of roll-ups"

        store.tell(look)
    assert len(restores) == 2


def test_a_server_with_limits_is_asked_for_one_piece_of_time_after_the_other(tmp_path: Path) -> None:
    """A reading each millisecond, so that they stand at every edge: each is kept once, and restored as it was."""
    seconds, limit, clock = 5, 1500, AheadClock()
    path, milliseconds = tmp_path / "kept", np.arange(seconds * 1000)
    # One is of a series of its own.
    values = np.where(milliseconds == 0, 1e38, milliseconds / 8)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    async def write(history: History) -> None:
        key = np.full(len(milliseconds), history.key(POINTS[1]), np.int32)
        good = np.full(len(milliseconds), GOOD, np.uint8)
        await history.commit(Frame(key, T0 + milliseconds * MS, values, good), {})

    async def look(history: History) -> None:
        trend = await history.read(POINTS[1], T0 - HOUR, T0 + HOUR, None, 10 * len(milliseconds))
        np.testing.assert_array_equal(trend.time_ns, T0 + milliseconds * MS)
        np.testing.assert_array_equal(trend.mean, values)

    with victoria(tmp_path / "v", *FLAGS, f"-search.maxSamplesPerSeries={limit}") as bounded:
        store = Store(bounded.address, tmp_path / "one", bounded.show)
        store.tell(write)
        store.show()
        address = HistoryAddress.parse(bounded.address)
        victoria_copies.keep_readings(address, path, clock, lambda *_: None)
    times: dict[str, list[int]] = {}
    for line in gzip.decompress(path.read_bytes()).splitlines():
        told = json.loads(line)
        assert len(told["timestamps"]) <= limit
        times.setdefault(told["metric"]["__name__"], []).extend(told["timestamps"])
    wanted = (T0 // MS + milliseconds).tolist()
    assert {name: sorted(found) for name, found in times.items()} == {
        "tocsin_quality": wanted,
        "tocsin_value": wanted[1:],
        "tocsin_value_e36": wanted[:1],
    }
    with victoria(tmp_path / "other") as empty:
        victoria_copies.put_readings(path, HistoryAddress.parse(empty.address), HastyClock(), lambda *_: None)
        store = Store(empty.address, tmp_path / "two", empty.show)
        store.show()
        store.tell(look)


def test_what_cannot_be_restored_reaches_no_server(
    on_server: tuple[Path, list[Trend], list[Trend]], other: Victoria, tmp_path: Path
) -> None:
    """Readings that are damaged, or for another kind of store; a server that is away takes all of it back."""
    data, _, _ = on_server
    place = Path(done("backup", str(data), "--to", str(tmp_path / "good"))["backup"])
    assert "cannot take" in refused("restore", str(place), "--data", str(tmp_path / "a"), "--history", "duckdb")
    bad = Path(shutil.copytree(place, tmp_path / "bad")) / "readings" / "victoriametrics.jsonl.gz"
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    into = ("--data", str(tmp_path / "b"), "--history", other.address)
    assert "victoriametrics.jsonl.gz is not what was backed up" in refused("restore", str(bad.parents[1]), *into)
    other.show()
    assert other.series() == []
    other.end()
    assert "readings are not restored" in refused("restore", str(place), *into)
    assert not list((tmp_path / "b").iterdir())
    use(data, other.address)
    assert "readings are not copied" in refused("backup", str(data), "--to", str(tmp_path / "again"))
    assert not list(tmp_path.glob("again*"))


def test_a_server_that_forgets_earlier_is_told(
    on_server: tuple[Path, list[Trend], list[Trend]], tmp_path: Path
) -> None:
    """Readings from beyond its retention, which it drops without a word, are no restored ones."""
    place = Path(done("backup", str(on_server[0]), "--to", str(tmp_path))["backup"])
    with victoria(tmp_path / "short", FLAGS[1], "-retentionPeriod=1") as short:
        into = Into(tmp_path / "b", history=HistoryAddress.parse(short.address))
        with pytest.raises(BackupError, match="-retentionPeriod is too short"):
            # It brings its own figures up to date once a second.
            restore_backup(place, into, HastyClock(6.0), lambda *_: None)


def test_an_export_that_breaks_off_is_no_backup(data: Path, tmp_path: Path) -> None:
    """What a server appends that fails in the midst of its answer is no reading; nothing at all is a whole export."""
    line = b'{"metric":{"__name__":"tocsin_value"},"values":[1],"timestamps":[2]}\n'
    answers: dict[str, str | bytes] = {"/metrics": METRICS, "/api/v1/export": gzip.compress(line * 2)}
    with recorder(answers) as (port, asked):
        use(data, f"victoriametrics://127.0.0.1:{port}")

        def tried(name: str, answer: bytes) -> str:
            answers["/api/v1/export"] = answer
            return refused("backup", str(data), "--to", str(tmp_path / name))

        place = done("backup", str(data), "--to", str(tmp_path / "whole"))["backup"]
        assert gzip.decompress((Path(place) / "readings" / "victoriametrics.jsonl.gz").read_bytes()) == line * 2
        assert "broke off" in tried("a", gzip.compress(line + b"error: too many samples"))
        assert "broke off" in tried("b", gzip.compress(line)[:-1])
        answers["/api/v1/export"] = gzip.compress(b"")
        done("backup", str(data), "--to", str(tmp_path / "empty"))
    exports = [request.body for request in asked if request.path.startswith("/api/v1/export")]
    # What breaks off is asked for by halves, but not for ever.
    assert 2 * 10 < len(exports) < 2 * 40
    assert not any("reduce_mem_usage" in body for body in exports), "the server mixes up what it exports by blocks"


class Turns(dict[str, str | bytes]):
    """Answers of which that to a query of InfluxDB is the next one each time."""

    def __init__(self, *turns: str) -> None:
        """Give these, one after the other."""
        super().__init__()
        self.turns = list(turns)

    def get(self, path: str, _: object = None) -> str | None:  # type: ignore[override]
        """The next answer; none to a write."""
        return self.turns.pop(0) if path == "/api/v2/query" else None


def test_readings_in_influxdb_are_backed_up_as_lines_and_written_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All points, page by page until nothing more comes; the lines go to the bucket as the historian writes them."""
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN", "a-token")
    ms = T0 // MS
    header = "#datatype,string,long,string\r\n#group,false,false,false\r\n#default,,,\r\n,result,table,_value\r\n"
    points = header + ",_result,0,A %221%22\r\n,_result,0,B\r\n\r\n"
    page = annotated({"quality": [(ms, GOOD), (ms + 1, BAD_COMM_FAILURE)], "value": [(ms, 1.5)]})
    more = annotated({"quality": [(ms + 2, BAD_SENSOR_FAILURE)], "bad_value": [(ms + 2, 0.0)]})
    other = annotated({"quality": [(ms, GOOD)], "value": [(ms, 2.0)]})
    end = "\r\n"
    with recorder(Turns(points, page, more, end, other, end)) as (port, asked):
        use(data, f"influxdb://127.0.0.1:{port}/plant/readings")
        place = Path(done("backup", str(data), "--to", str(tmp_path))["backup"])
        assert "schema.tagValues" in json.loads(asked[0].body)["query"]
        froms = [json.loads(request.body)["query"].split("time(v: ")[1].split(")")[0] for request in asked[1:]]
        assert froms == ["0", str((ms + 2) * MS), str((ms + 3) * MS), "0", str((ms + 1) * MS)]
        lines = [
            f"tocsin,point=A\\ %221%22 value=1.5,quality=192i {ms}",
            f"tocsin,point=A\\ %221%22 quality={BAD_COMM_FAILURE}i {ms + 1}",
            f"tocsin,point=A\\ %221%22 bad_value=0.0,quality={BAD_SENSOR_FAILURE}i {ms + 2}",
            f"tocsin,point=B value=2.0,quality=192i {ms}",
        ]
        assert (
            gzip.decompress((place / "readings" / "influxdb.lines.gz").read_bytes()).decode().split("\n")[:-1] == lines
        )
        del asked[:]
        done("restore", str(place), "--data", str(tmp_path / "again"))
    (write,) = asked
    assert write.path == "/api/v2/write?org=plant&bucket=readings&precision=ms"
    assert write.body.strip().split("\n") == lines


@pytest.mark.skipif(influx_address() is None, reason="no InfluxDB was given")
def test_readings_on_a_real_influxdb_come_back(tmp_path: Path) -> None:
    """What is kept of the bucket has each reading, and written over what is there changes nothing."""
    address = str(influx_address())
    store, path, clock = Store(address, tmp_path), tmp_path / "kept", AheadClock()

    async def story(history: History) -> None:
        frame = readings(history)
        await history.commit(frame, {})
        before = await shown(history)
        where = HistoryAddress.parse(address)
        await asyncio.to_thread(keep_readings, where, influx_token(), path, clock, lambda *_: None)
        with gzip.open(path) as file:
            assert sum(1 for _ in file) >= len(frame)
        await asyncio.to_thread(put_readings, path, where, influx_token(), lambda *_: None)
        same(await shown(history), before)

    store.tell(story)
