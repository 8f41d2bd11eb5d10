"""Commands and events over a real nats-server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.cloud.api.conftest import Bench
from tests.support.database import failing
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.sql.models import Command
from tocsin_cloud.adapters.stream import connect, ensure_stream
from tocsin_cloud.api.ports import Answer, CommandError, Event, OperatorCommand
from tocsin_cloud.api.stream_ports import StreamCommands, StreamEvents
from tocsin_cloud.settings import Address, BrokerSettings, StreamSettings
from tocsin_core.clock import SystemClock

pytestmark = pytest.mark.anyio


@dataclass
class Stream:
    """A running nats-server with the stream on it, and a client."""

    server: NatsServer
    client: Client


@pytest.fixture
async def stream(tmp_path: Path) -> AsyncIterator[Stream]:
    """Return a nats-server of this test's own."""
    settings = BrokerSettings(
        folder=tmp_path / "nats", nats=Address("127.0.0.1", free_port()), mqtt=Address("127.0.0.1", free_port())
    )
    server = await NatsServer.start(settings, SystemClock())
    client = await connect(server.url, "test")
    await ensure_stream(client, StreamSettings(max_bytes=1 << 20))
    yield Stream(server, client)
    # The client's own close fails where its server has gone before it.
    with suppress(ConnectionResetError):
        await client.close()
    await server.stop()


def command() -> OperatorCommand:
    """Return an acknowledgement by the operator."""
    return OperatorCommand("c-1", "ack", f"{1:016x}", "NH3-101/H", "operator", "seen")


async def test_a_command_is_answered_by_what_the_worker_commits(bench: Bench, stream: Stream) -> None:
    """It stands in the stream as the contract says, and the answer is the row that the worker writes."""
    commands = StreamCommands(stream.client, "north", bench.database)
    asking = asyncio.create_task(commands.send(command()))
    stored = await eventually_async(lambda: _stored(stream.client))
    assert json.loads(stored or b"") == {
        "id": "c-1",
        "verb": "ack",
        "occurrence": f"{1:016x}",
        "alarm": "NH3-101/H",
        "who": "operator",
        "reason": "seen",
        "duration_s": None,
        "once": False,
    }
    assert not asking.done()
    row = {"id": "c-1", "position": 1, "verb": "ack", "who": "operator", "accepted": False, "answer": "too late"}
    await bench.put(Command(**row, at_ns=1, occurrence=None, alarm=None, reason=None))
    assert await asking == Answer(accepted=False, reason="too late")


async def test_an_answer_is_waited_for_while_the_database_is_away(bench: Bench, stream: Stream) -> None:
    """The command was taken, and will be carried out: to be told to try again would have it given twice."""
    with failing(bench.database, times=3) as failed:
        asking = asyncio.create_task(StreamCommands(stream.client, "north", bench.database).send(command()))
        await eventually_async(lambda: asking.done() or len(failed) == 3)
    row = {"id": "c-1", "position": 1, "verb": "ack", "who": "operator", "accepted": True, "answer": ""}
    await bench.put(Command(**row, at_ns=1, occurrence=None, alarm=None, reason=None))
    assert await asking == Answer(accepted=True, reason="")


async def _stored(client: Client) -> bytes | None:
    state = (await client.jsm().stream_info("READINGS")).state
    if not state.messages:
        return None
    return (await client.jsm().get_msg("READINGS", seq=state.last_seq)).data


async def test_events_reach_whoever_listens(stream: Stream) -> None:
    """What is published under a kind comes out under that kind."""
    events = StreamEvents(stream.client)
    async with events.subscribe() as told, asyncio.timeout(PATIENCE_S):
        await stream.client.flush()
        await events.publish(Event("ticket", {"id": "HD-1"}))
        assert await anext(told) == Event("ticket", {"id": "HD-1"})


async def test_a_server_that_is_away_is_said(bench: Bench, stream: Stream) -> None:
    """A command is refused within its time, and an event that cannot be told breaks nothing."""
    await stream.server.stop()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((CommandError, TimeoutError)):
            await StreamCommands(stream.client, "north", bench.database).send(command())
    await StreamEvents(stream.client).publish(Event("ticket", {"id": "HD-1"}))
