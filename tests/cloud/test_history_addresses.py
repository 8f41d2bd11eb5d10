"""What `--history` takes, and what is asked of servers that the tests do not have: a cluster's, and InfluxDB's."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.cloud.rig import plant_folder
from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_cloud.adapters.history_open import open_history
from tocsin_cloud.adapters.history_state import FILE, StateFile
from tocsin_cloud.settings import Address, HistoryAddress, HistoryKind
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, Frame

S: Final = 1_000_000_000
T0: Final = 1_700_000_000 * S
TOKEN: Final = "a-token"
METRICS: Final = 'process_start_time_seconds 1\nflag{name="dedup.minScrapeInterval", value="1ms", is_set="true"} 1\n'


class Request(NamedTuple):
    """What a server was asked."""

    path: str
    token: str
    body: str


@contextmanager
def recorder(answers: Mapping[str, str | bytes]) -> Iterator[tuple[int, list[Request]]]:
    """A server that gives the answer of a path, or none (204), and keeps what it was asked; its port, and that.

    An answer of bytes is one that is packed by gzip.
    """
    asked: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append(Request(self.path, self.headers.get("Authorization", ""), body))
            answer = answers.get(urlsplit(self.path).path)
            self.send_response(204 if answer is None else 200)
            self.send_header("Content-Type", "text/csv")
            if isinstance(answer, bytes):
                self.send_header("Content-Encoding", "gzip")
            content = answer if isinstance(answer, bytes) else (answer or "").encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 -- the base class's name

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def test_addresses_are_read() -> None:
    """Each store has its form; a cluster has an address to write to and one to read from."""
    parse = HistoryAddress.parse
    assert parse("duckdb") == HistoryAddress()
    one, two = Address("a", 8480), Address("b", 8481)
    assert parse("victoriametrics://a:8480") == HistoryAddress(HistoryKind.VICTORIAMETRICS, (one,))
    assert parse("victoriametrics://a:8480,b:8481/") == HistoryAddress(HistoryKind.VICTORIAMETRICS, (one, two))
    influx = HistoryAddress(HistoryKind.INFLUXDB, (one,), ("my plant", "readings"), secure=True)
    assert parse("influxdb+https://a:8480/my%20plant/readings") == influx


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("mysql://a:1", "is not duckdb"),
        ("victoriametrics://", "is not duckdb"),
        ("victoriametrics+tls://a:1", "is not duckdb"),
        ("victoriametrics://a", "is not HOST:PORT"),
        ("victoriametrics://a:1,b:1,c:1", "INSERT:PORT,SELECT:PORT"),
        ("victoriametrics://a:1/path", "INSERT:PORT,SELECT:PORT"),
        ("influxdb://a:1", "influxdb://HOST:PORT/ORG/BUCKET"),
        ("influxdb://a:1/org", "influxdb://HOST:PORT/ORG/BUCKET"),
        ("influxdb://user:token@a:1/org/bucket", "does not belong into the address"),
    ],
)
def test_a_wrong_address_says_what_is_right(address: str, word: str) -> None:
    """Whoever mistypes is told the form."""
    with pytest.raises(ValueError, match=word):
        HistoryAddress.parse(address)


def test_a_wrong_address_is_one_clear_line(tmp_path: Path) -> None:
    """The command ends with what is wrong, and has made nothing."""
    plant = plant_folder(tmp_path / "plant")
    command = [sys.executable, "-m", "tocsin_cli", "cloud", str(plant), "--data", str(tmp_path / "data")]
    done = subprocess.run([*command, "--history", "mysql://a:1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "is not duckdb" in line
    assert not (tmp_path / "data").exists()


def test_a_cluster_is_written_and_read_at_its_own_addresses(tmp_path: Path) -> None:
    """Lines go to vminsert, queries to vmselect, each under the paths that a cluster has for its first tenant."""
    exported = (
        json.dumps({"metric": {"__name__": "tocsin_quality"}, "values": [GOOD], "timestamps": [T0 // 1_000_000]})
        + "\n"
        + json.dumps({"metric": {"__name__": "tocsin_value"}, "values": [1.5], "timestamps": [T0 // 1_000_000]})
    )
    answers = {"/metrics": METRICS, "/select/0/prometheus/api/v1/export": exported}

    async def story(insert: int, select: int) -> Trend:
        address = HistoryAddress.parse(f"victoriametrics://127.0.0.1:{insert},127.0.0.1:{select}")
        history = await open_history(address, tmp_path, SystemClock())
        await history.commit(Frame.of([history.key("A b")], [T0], [1.5], [GOOD]), {})
        trend = await history.read("A b", T0, T0 + S, None, 10)
        await history.close()
        return trend

    with recorder({}) as (insert, written), recorder(answers) as (select, read):
        trend = asyncio.run(story(insert, select))
    (write,) = written
    assert urlsplit(write.path).path == "/insert/0/influx/api/v2/write"
    assert write.body == f"tocsin,point=A\\ b value=1.5,quality=192i {T0 // 1_000_000}"
    assert [request.path for request in read] == ["/metrics", "/select/0/prometheus/api/v1/export"]
    assert trend.mean.tolist() == [1.5]


def annotated(results: dict[str, list[tuple[int, float]]]) -> str:
    """An answer of InfluxDB in annotated CSV, as its documentation has it: a table a result, CRLF, a blank line."""
    tables = []
    for number, (name, rows) in enumerate(results.items()):
        tables += [
            "#datatype,string,long,long,double",
            "#group,false,false,false,false",
            "#default,,,,",
            ",result,table,ms,number",
            *(f",{name},{number},{ms},{value}" for ms, value in rows),
            "",
        ]
    return "\r\n".join(tables) + "\r\n"


def influx(port: int) -> HistoryAddress:
    """The address of a server that plays InfluxDB."""
    return HistoryAddress.parse(f"influxdb://127.0.0.1:{port}/plant/readings")


def test_influxdb_is_asked_as_its_documentation_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, Flux and deletions go to the bucket with the token of a file, and the answer's tables make the trend."""
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="utf-8")
    monkeypatch.delenv("TOCSIN_HISTORY_TOKEN", raising=False)
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN_FILE", str(tmp_path / "token"))
    ms = T0 // 1_000_000
    samples = annotated(
        {
            "quality": [(ms, GOOD), (ms + 1000, BAD_COMM_FAILURE), (ms + 2000, BAD_SENSOR_FAILURE), (ms + 3000, GOOD)],
            "value": [(ms, 1.5)],
            "bad_value": [(ms + 2000, 0.0)],
        }
    )

    async def story(port: int) -> Trend:
        history = await open_history(influx(port), tmp_path, SystemClock())
        key = history.key('A "1"')
        await history.commit(Frame.of([key], [T0], [1.5], [GOOD]), {"position": b"1"})
        assert await history.durable() == 1
        trend = await history.read('A "1"', T0, T0 + 60 * S, None, 10)
        assert len((await history.read('A "1"', T0, T0, None, 10)).time_ns) == 0
        await history.retain(T0)
        await history.close()
        return trend

    with recorder({"/api/v2/query": samples}) as (port, asked):
        trend = asyncio.run(story(port))
    write, query, delete = asked
    assert {request.token for request in asked} == {f"Token {TOKEN}"}
    assert write.path == "/api/v2/write?org=plant&bucket=readings&precision=ms"
    assert write.body == f"tocsin,point=A\\ %221%22 value=1.5,quality=192i {ms}"
    assert query.path == "/api/v2/query?org=plant"
    flux = json.loads(query.body)["query"]
    assert f'from(bucket: "readings") |> range(start: time(v: {T0}), stop: time(v: {T0 + 60 * S}))' in flux
    assert 'r.point == "A %221%22"' in flux
    assert delete.path == "/api/v2/delete?org=plant&bucket=readings"
    body = json.loads(delete.body)
    assert (body["predicate"], body["stop"]) == ('_measurement="tocsin"', "2023-11-14T22:00:00+00:00")
    # The last value has not arrived where its quality has: such a row is no reading yet.
    assert trend.quality.tolist() == [GOOD, BAD_COMM_FAILURE, BAD_SENSOR_FAILURE]
    np.testing.assert_array_equal(trend.mean, [1.5, np.nan, 0.0])


def test_influxdb_rolls_up_by_windows_from_the_start_of_the_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each figure is a result of its own, over windows that begin where the span does."""
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN", TOKEN)
    ms = T0 // 1_000_000
    steps = annotated(
        {
            "mean": [(ms, 2.0)],
            "low": [(ms, 1.0)],
            "high": [(ms, 3.0)],
            "quality": [(ms, GOOD), (ms + 7000, BAD_COMM_FAILURE)],
        }
    )

    async def story(port: int) -> Trend:
        history = await open_history(influx(port), tmp_path, SystemClock())
        trend = await history.read("A", T0, T0 + 60 * S, 7 * S, 10)
        await history.close()
        return trend

    with recorder({"/api/v2/query": steps}) as (port, asked):
        trend = asyncio.run(story(port))
    flux = json.loads(asked[0].body)["query"]
    offset = ms % 7000
    windows = f'aggregateWindow(every: 7000ms, offset: {offset}ms, fn: mean, createEmpty: false, timeSrc: "_start")'
    assert windows in flux
    assert (trend.time_ns - T0).tolist() == [0, 7 * S]
    columns = np.stack([trend.mean, trend.low, trend.high])
    np.testing.assert_array_equal(columns, [[2.0, np.nan], [1.0, np.nan], [3.0, np.nan]])


def test_influxdb_without_a_token_or_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named; a server that refuses or is not there is the port's error, with what it said."""
    monkeypatch.delenv("TOCSIN_HISTORY_TOKEN", raising=False)
    monkeypatch.delenv("TOCSIN_HISTORY_TOKEN_FILE", raising=False)
    with pytest.raises(HistoryError, match="TOCSIN_HISTORY_TOKEN_FILE"):
        asyncio.run(open_history(influx(1), tmp_path, SystemClock()))
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(HistoryError, match="nowhere"):
        asyncio.run(open_history(influx(1), tmp_path, SystemClock()))
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN", TOKEN)

    async def story(port: int) -> None:
        history = await open_history(influx(port), tmp_path, SystemClock())
        with pytest.raises(HistoryError):
            await history.commit(Frame.of([history.key("A")], [T0], [1.5], [GOOD]), {"position": b"1"})
        with pytest.raises(HistoryError):
            await history.read("A", T0, T0 + S, None, 10)
        assert dict(history.state) == {}
        await history.close()

    with recorder({}) as (port, _):
        pass
    asyncio.run(story(port))


@pytest.mark.parametrize("address", ["victoriametrics://127.0.0.1:1", "influxdb://127.0.0.1:1/plant/readings"])
def test_a_state_that_is_damaged_is_told_and_let_go_of(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind its first page, which is all that opening it needs; a folder that is not there is no other error."""
    monkeypatch.setenv("TOCSIN_HISTORY_TOKEN", TOKEN)
    with closing(StateFile.open(tmp_path)) as state:
        state.save({str(part): bytes(5000) for part in range(40)})
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[: 3 * 4096].ljust(file.stat().st_size, b"\xab"))
    with pytest.raises(HistoryError, match="malformed"):
        asyncio.run(open_history(HistoryAddress.parse(address), tmp_path, SystemClock()))
    with pytest.raises(HistoryError, match="nowhere"):
        asyncio.run(open_history(HistoryAddress.parse(address), tmp_path / "nowhere", SystemClock()))
    file.unlink()

    async def story() -> None:
        history = await open_history(HistoryAddress.parse(address), tmp_path, SystemClock())
        await history.close()

    asyncio.run(story())
