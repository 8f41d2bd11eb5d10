"""The event stream over a real socket: what it says, how it treats slow readers, and how it ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import START_NS, message, occurrence, ticket, transition
from tests.support.database import failing
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.sql.models import TicketLog
from tocsin_cloud.api import server as server_module
from tocsin_cloud.api.mailbox import MOST_BYTES, Mailbox
from tocsin_cloud.api.ports import Event, GatewayStatus
from tocsin_cloud.api.problem import UNTOLD, WAITS
from tocsin_cloud.api.routes import events
from tocsin_cloud.api.server import Listening, serving
from tocsin_cloud.api.watch import MOST_ROWS
from tocsin_cloud.loops.live import Outlook
from tocsin_core.kpi import Flood
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import I32

pytestmark = pytest.mark.anyio


@dataclass
class Reader:
    """What one reader of the stream has got so far."""

    got: list[tuple[str, Any]] = field(default_factory=list)
    over: bool = False

    def of(self, kind: str) -> list[Any]:
        """Return the data of the events of `kind`."""
        return [data for name, data in self.got if name == kind]


@asynccontextmanager
async def reading(bench: Bench, server: Listening, role: str = "regulator") -> AsyncIterator[Reader]:
    """Read the stream until the context ends; it has begun when the context does."""
    reader = Reader()
    headers = {"Authorization": f"Bearer {bench.tokens[role]}"}

    async def read(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", f"http://{server.host}:{server.port}/api/v1/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            async for line in answer.aiter_lines():
                name, _, rest = line.partition(": ")
                if name == "event":
                    kind = rest
                elif name == "data":
                    reader.got.append((kind, json.loads(rest)))
        reader.over = True

    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read(client))
        await eventually_async(lambda: reader.got)
        yield reader
        task.cancel()


@asynccontextmanager
async def served(bench: Bench) -> AsyncIterator[Listening]:
    """Serve the interface on a free port, with its subscription to the events in place."""
    async with serving(bench.app, "127.0.0.1", 0) as server:
        await eventually_async(lambda: bench.bus.listeners and bench.app.state.api.hub.begun)
        yield server


async def test_a_stream_tells_of_everything_that_changes(bench: Bench) -> None:
    """Hello first; then transitions, tickets, messages, readings, gateways and projections as they change."""
    raised = occurrence(1)
    async with served(bench) as server, reading(bench, server) as reader:
        assert reader.got[0][0] == "hello"
        assert reader.got[0][1].keys() == {"server_time", "version"}
        await bench.put(raised, transition(raised), ticket(1))
        await bench.put(TicketLog(ticket="HD-1", at_ns=START_NS, who="tocsin", what={"text": "opened"}))
        await bench.put(message(1, raised))
        await bench.bus.publish(Event("notification", {"id": f"{1:016x}"}))
        bench.live.read(0, START_NS, 12.5)
        bench.live.known = [GatewayStatus("gw-1", "online", START_NS)]
        bench.live.heading["NH3-101"] = Outlook(START_NS, 12.0, 0.1, 0.08, 0.12, 25.0, AlarmKind.H, 600.0, None)
        kinds = ("transitions", "tickets", "notifications", "values", "gateway", "projection")
        await eventually_async(lambda: all(map(reader.of, kinds)))
        ((alarm,),) = reader.of("transitions")
        assert (alarm["id"], alarm["phase"]) == (raised.id, "unacknowledged")
        ((opened,),) = reader.of("tickets")
        assert opened["id"] == "HD-1"
        assert "evidence" not in opened
        assert reader.of("notifications")[0][0]["to"] == "wang"
        (values,) = reader.of("values")
        assert (values["point"], values["value"], values["quality"]) == (["NH3-101"], [12.5], [192])
        assert reader.of("gateway")[0]["state"] == "online"
        assert reader.of("projection")[0]["NH3-101"]["reaches_in_s"] is None
        del bench.live.heading["NH3-101"]
        await eventually_async(lambda: {"NH3-101": None} in reader.of("projection"))


async def test_a_flood_is_told_as_it_begins_and_ends(bench: Bench) -> None:
    """With its count as it grows, and null when it is over."""
    async with served(bench) as server, reading(bench, server) as reader:

        def told() -> list[int | None]:
            return [flood and flood["alarms"] for flood in (told["flood"] for told in reader.of("flood"))]

        bench.live.flooded = Flood(START_NS, None, 11, "NH3-101/H")
        await eventually_async(lambda: told() == [11])
        bench.live.flooded = Flood(START_NS, None, 12, "NH3-101/H")
        await eventually_async(lambda: told() == [11, 12])
        bench.live.flooded = None
        await eventually_async(lambda: told() == [11, 12, None])


async def test_a_flood_is_told_in_few_events(bench: Bench) -> None:
    """Alarms and tickets that are committed at once: a reader who takes what comes gets each once, many in an event."""
    count = 2 * MOST_ROWS + 100
    async with served(bench) as server, reading(bench, server) as reader:
        rows = [occurrence(number) for number in range(count)]
        opened = [ticket(number) for number in range(count)]
        await bench.put(*rows, *map(transition, rows), *opened)
        log = [TicketLog(ticket=one.id, at_ns=START_NS, who="tocsin", what={"text": "opened"}) for one in opened]
        await bench.put(*log)
        for kind, shown in (("transitions", rows), ("tickets", opened)):
            wanted = sorted(one.id for one in shown)
            await eventually_async(lambda: len(told_ids(reader, kind)) >= count)  # noqa: B023 -- awaited at once
            assert sorted(told_ids(reader, kind)) == wanted
            assert len(reader.of(kind)) < count / 50
        assert not reader.over
        assert not reader.of("reset")


def told_ids(reader: Reader, kind: str) -> list[str]:
    """The ids in all events of `kind`."""
    return [one["id"] for told in reader.of(kind) for one in told]


async def test_a_transition_whose_event_got_lost_is_told_all_the_same(bench: Bench) -> None:
    """The tables are looked into once a second, so no transition depends on an event."""
    async with served(bench) as server, reading(bench, server) as reader:
        for number in range(1, 4):
            row = occurrence(number)
            await bench.put(row, transition(row))
        await eventually_async(lambda: len(told_ids(reader, "transitions")) == 3)


async def test_a_stream_is_alive_and_ends_with_the_sign_in(bench: Bench) -> None:
    """Every five seconds a ping; when the user has signed out, the stream ends at the next one."""
    async with served(bench) as server, reading(bench, server, "operator") as reader:
        # The stream looks at its clock when something comes: a reading does.
        bench.clock.move(5)
        bench.live.read(0, START_NS, 1.0)
        await eventually_async(lambda: reader.of("ping"))
        async with bench.client("operator") as client:
            assert (await client.delete("/session")).status_code == 204
        bench.clock.move(5)
        bench.live.read(0, START_NS + 1, 2.0)
        await eventually_async(lambda: reader.over)


async def test_a_server_with_open_streams_stops_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three open streams end by themselves, long before anybody would make them, and nobody is left in the hub."""
    monkeypatch.setattr(server_module, "GRACE_S", 600)
    hub = bench.app.state.api.hub
    async with asyncio.timeout(30):
        async with served(bench) as server:
            readers = [reading(bench, server) for _ in range(3)]
            entered = [await reader.__aenter__() for reader in readers]
            assert hub.readers == 3
            assert bench.ports.metrics.get_sample_value("tocsin_event_streams") == 3
        await eventually_async(lambda: all(reader.over for reader in entered))
        assert hub.readers == 0
        for reader in readers:
            await reader.__aexit__(None, None, None)


async def test_readers_read_anew_when_events_may_be_missing(bench: Bench) -> None:
    """When the subscription was broken, they are told so once it is there again, and their streams go on."""
    async with served(bench) as server, reading(bench, server) as reader:
        bench.bus.break_off()
        await eventually_async(lambda: reader.of("reset"))
        assert bench.ports.metrics.get_sample_value("tocsin_event_resets_total") == 1
        assert bench.bus.listeners == 1
        bench.live.read(0, START_NS, 12.5)
        await eventually_async(lambda: reader.of("values"))
        assert not reader.over


async def test_what_changed_while_nobody_read_is_no_news_to_the_next_reader(bench: Bench) -> None:
    """It reads the lists by itself: an old reading told as changed would look like one that has just come."""
    async with served(bench) as server:
        bench.live.read(0, START_NS, 12.5)
        bench.live.known = [GatewayStatus("gw-1", "online", START_NS)]
        bench.live.flooded = Flood(START_NS, None, 11, "NH3-101/H")
        async with reading(bench, server) as reader:
            bench.live.read(1, START_NS, 3.5)
            await eventually_async(lambda: reader.of("values"))
            assert [told["point"] for told in reader.of("values")] == [["PT-201"]]
            bench.live.flooded = None
            await eventually_async(lambda: reader.of("flood"))
            assert reader.of("flood") == [{"flood": None}]
            assert not reader.of("gateway")


async def test_readings_that_are_not_known_are_a_503_for_a_while(bench: Bench) -> None:
    """Lists of them are refused, the health report calls every point dark, and a stream tells of them once they are."""
    async with served(bench) as server, reading(bench, server) as reader, bench.client() as client:
        bench.live.unknown = True
        bench.live.read(0, START_NS, 12.5)
        bench.live.flooded = Flood(START_NS, None, 11, "NH3-101/H")
        for path in ("/points", "/points/NH3-101", "/gateways", "/plant/metrics"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
            assert answer.json()["detail"] == UNTOLD
        report = (await client.get("/health")).json()
        assert report["points_dark"] == report["points"] == 2
        await eventually_async(lambda: reader.of("flood"))
        bench.live.unknown = False
        await eventually_async(lambda: reader.of("values"))
        assert reader.of("values")[0]["point"] == ["NH3-101"]
        assert not reader.over


async def test_an_interface_that_starts_while_the_database_is_away_says_so(bench: Bench) -> None:
    """It answers, and ends when it is told to; no stream is granted before the tables were looked at."""
    async with asyncio.timeout(30):
        with failing(bench.database) as failed:
            async with serving(bench.app, "127.0.0.1", 0) as server, httpx.AsyncClient() as client:
                await eventually_async(lambda: failed)
                answer = await client.get(f"http://{server.host}:{server.port}/readyz")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        async with bench.client("regulator") as client:
            answer = await client.get("/events")
            assert (answer.status_code, answer.json()["detail"]) == (503, WAITS)


async def test_a_stream_ends_while_the_database_is_away(bench: Bench) -> None:
    """One that only pings would look alive: it ends whole, the next is refused with the reason, and then it goes."""
    headers = {"Authorization": f"Bearer {bench.tokens['regulator']}"}
    async with served(bench) as server, httpx.AsyncClient(headers=headers) as client:
        async with reading(bench, server) as reader:
            with failing(bench.database):
                # A ping is due, before which the stream asks whether its reader is signed in still.
                bench.clock.move(5)
                bench.live.read(0, START_NS, 1.0)
                await eventually_async(lambda: reader.over)
                answer = await client.get(f"http://{server.host}:{server.port}/api/v1/events")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        async with reading(bench, server) as again:
            assert again.of("hello")


async def test_strangers_get_no_stream(bench: Bench) -> None:
    """The stream asks for a user like every other resource."""
    async with served(bench) as server, httpx.AsyncClient() as client:
        answer = await client.get(f"http://{server.host}:{server.port}/api/v1/events")
    assert answer.status_code == 401


async def test_a_reader_who_takes_nothing_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, not at once: a browser may be busy. Nobody else notices."""
    # Three is more than a reader who takes what comes needs on a busy machine.
    monkeypatch.setattr(events, "STUCK_S", 3.0)
    hub = bench.app.state.api.hub
    async with served(bench) as server, reading(bench, server) as reader:
        stuck = socket.socket()
        # A small window, so that the kernel cannot swallow what nobody takes.
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with stuck:
            stuck.connect((server.host, server.port))
            bearer = f"Authorization: Bearer {bench.tokens['operator']}"
            stuck.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: tocsin\r\n{bearer}\r\n\r\n".encode())
            await eventually_async(lambda: hub.readers == 2)
            big = b'event: transitions\ndata: "' + b"x" * (MOST_BYTES // 2) + b'"\n\n'
            for posted in range(1, 4):
                hub.post([big])
                await eventually_async(lambda: len(reader.of("transitions")) == posted)  # noqa: B023 -- awaited at once
            await eventually_async(lambda: hub.readers == 1)
        assert not reader.over
        assert not reader.of("reset")


async def test_a_slow_reader_is_told_to_read_anew_and_keeps_its_stream(bench: Bench) -> None:
    """It takes nothing while more happens than its mailbox holds; then it takes, and its stream goes on behind that."""
    hub = bench.app.state.api.hub
    big = b'event: transitions\ndata: "' + b"x" * (MOST_BYTES // 2) + b'"\n\n'
    async with served(bench) as server, asyncio.timeout(30):
        receiving, sending = await asyncio.open_connection(server.host, server.port, limit=2 * len(big))
        bearer = f"Authorization: Bearer {bench.tokens['operator']}"
        sending.write(f"GET /api/v1/events HTTP/1.1\r\nHost: tocsin\r\n{bearer}\r\n\r\n".encode())
        await receiving.readuntil(b"event: hello")
        for _ in range(20):
            hub.post([big])
        await receiving.readuntil(b'event: reset\ndata: {"reason":"too slow"}\n\n')
        assert bench.ports.metrics.get_sample_value("tocsin_event_resets_total") == 1
        hub.post([b"event: transitions\ndata: []\n\n"])
        await receiving.readuntil(b"event: transitions\ndata: []\n\n")
        sending.close()


def rendered(points: I32) -> bytes:
    """Render point indices as themselves."""
    return b"now:" + ",".join(map(str, points.tolist())).encode()


async def test_a_slow_reader_gets_the_latest_values_once() -> None:
    """Values that pile up are merged to one event of the present; a reader who keeps up gets the shared one."""
    mailbox = Mailbox(rendered)
    mailbox.post_values(b"shared", np.asarray([1], dtype=np.int32))
    assert await mailbox.take(1) == b"shared"
    mailbox.post_values(b"first", np.asarray([1, 3], dtype=np.int32))
    mailbox.post_values(b"second", np.asarray([2, 3], dtype=np.int32))
    assert await mailbox.take(1) == b"now:1,2,3"
    assert await mailbox.take(0.01) == b""


async def test_a_mailbox_loses_no_transition_silently() -> None:
    """All that fits comes in order; in the place of what does not fit comes a word, and what is later follows."""
    mailbox = Mailbox(rendered)
    mailbox.post([b"0;", b"1;"])
    mailbox.post([b"2;"])
    assert await mailbox.take(1) == b"0;1;2;"
    mailbox.post([b"x" * MOST_BYTES])
    mailbox.post_values(b"values", np.asarray([1], dtype=np.int32))
    mailbox.post([b"y"])
    mailbox.post([b"z"])
    assert await mailbox.take(1) == b'event: reset\ndata: {"reason":"too slow"}\n\n'
    mailbox.post([b"next"])
    assert await mailbox.take(1) == b"next"
    assert mailbox.ended is None
