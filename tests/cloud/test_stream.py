"""The feed on a real nats-server: every message once and in order, whatever happens to the server."""

import asyncio
import gc
import os
import signal
import sys
import warnings
from pathlib import Path

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.ears import Still
from tests.cloud.rig import broker, let_a_server_be_behind
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import stream
from tocsin_cloud.adapters.stream import (
    START,
    Feed,
    Message,
    Position,
    connect,
    ensure_stream,
    publish_tick,
    subjects_of,
    to_subject,
    to_topic,
)
from tocsin_cloud.loops.ticker import tick
from tocsin_cloud.settings import StreamSettings
from tocsin_core.clock import SystemClock
from tocsin_core.rules import NS

LEVEL = st.text(
    st.characters(codec="utf-8", exclude_characters="/+# \t\r\n\0*>", exclude_categories=("C", "Z")), min_size=1
)
MORTAL = """
import asyncio, sys, aiomqtt
async def main():
    will = aiomqtt.Will("spBv1.0/a.b/NDEATH/n", b"gone", qos=1)
    async with aiomqtt.Client("127.0.0.1", int(sys.argv[1]), will=will):
        print("connected", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
SMALL = StreamSettings(max_bytes=1 << 28)


@given(st.lists(LEVEL, min_size=1, max_size=5))
def test_an_mqtt_topic_comes_back_from_its_subject(levels: list[str]) -> None:
    """Dots inside a level, as Tocsin's own ids have them, survive the way through NATS."""
    topic = "/".join(["spBv1.0", *levels])
    assert to_topic(to_subject(topic)) == topic


async def take(feed: Feed, n: int) -> list[Message]:
    """Take until there are `n` messages, in portions of no certain size."""
    taken: list[Message] = []
    async with asyncio.timeout(30):
        while len(taken) < n:
            taken += await feed.take(100, 0.5)
    return taken


def test_a_second_that_comes_again_has_its_tick(tmp_path: Path) -> None:
    """The clock was set back a little: silences are told by ticks, and none may be missing for minutes."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            ticker = asyncio.create_task(tick(client, "a", 0.05, Still()))
            feed = Feed(client, START, SystemClock(), subjects_of("a"))
            assert {message.topic for message in await take(feed, 3)} == {"tocsin/tick/a"}
            ticker.cancel()
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_of_a_shared_stream_a_site_reads_what_is_its_own(tmp_path: Path) -> None:
    """Messages and ticks of sites with like names are not there, and no gap is seen where they were."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            async with aiomqtt.Client(*settings.mqtt) as gateway:
                for number, site in enumerate(("a.b", "a", "b", "a.b.c", "a.b")):
                    await gateway.publish(f"spBv1.0/{site}/DDATA/n/d", str(number).encode(), qos=1)
                    await publish_tick(client, site)
            feed = Feed(client, START, SystemClock(), subjects_of("a.b"))
            got = await take(feed, 4)
            assert await feed.take(100, 0.5) == []
            await feed.close()
            assert [(m.topic, m.payload) for m in got] == [
                ("spBv1.0/a.b/DDATA/n/d", b"0"),
                ("tocsin/tick/a/b", b""),
                ("spBv1.0/a.b/DDATA/n/d", b"4"),
                ("tocsin/tick/a/b", b""),
            ]
            assert feed.restarts == 1
            await client.close()

    asyncio.run(story())


def test_a_connection_that_is_given_up_while_it_is_made_is_left() -> None:
    """A process that is told to end just then ends with nothing open, and one that begins anew keeps nothing."""

    async def story() -> None:
        came, left = asyncio.Event(), asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.set()
            # Until the other side closes.
            await reader.read()
            left.set()
            writer.close()

        async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            making = asyncio.create_task(connect(f"nats://127.0.0.1:{port}", "given up"))
            await asyncio.wait_for(came.wait(), 30)
            # The client has its end of it some turns later.
            for _ in range(10):
                await asyncio.sleep(0)
            making.cancel()
            (ended,) = await asyncio.gather(making, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError)
            await asyncio.wait_for(left.wait(), 30)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(story())
        gc.collect()
    assert [str(each.message) for each in told if each.category is ResourceWarning] == []


def test_mqtt_messages_arrive_under_their_topics_and_in_order(tmp_path: Path) -> None:
    """What gateways publish is in the stream under its topic, a will too; a feed goes on behind any message."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            feed = Feed(client, START, SystemClock())
            dying = await asyncio.create_subprocess_exec(
                sys.executable, "-c", MORTAL, str(settings.mqtt.port), stdout=asyncio.subprocess.PIPE
            )
            assert dying.stdout is not None
            assert await dying.stdout.readline() == b"connected\n"
            async with aiomqtt.Client(*settings.mqtt) as gateway:
                for i in range(5):
                    await gateway.publish("spBv1.0/a.b/DDATA/n/d.1", str(i).encode(), qos=i % 2)
                await gateway.publish("spBv1.0/odd", b"x", qos=1)
            dying.kill()
            await dying.communicate()
            got = await take(feed, 7)
            await feed.close()
            assert [(m.topic, m.payload) for m in got] == [
                *(("spBv1.0/a.b/DDATA/n/d.1", str(i).encode()) for i in range(5)),
                ("spBv1.0/odd", b"x"),
                ("spBv1.0/a.b/NDEATH/n", b"gone"),
            ]
            behind = Feed(client, Position(got[3].sequence, got[3].time_ns), SystemClock())
            assert [m.sequence for m in await take(behind, 3)] == [m.sequence for m in got[4:]]
            assert await behind.take(10, 1.5) == []
            assert behind.idle
            await behind.close()
            await client.close()

    asyncio.run(story())


def test_what_comes_soon_after_the_last_is_taken_together(tmp_path: Path) -> None:
    """The first message waits for nobody; what comes after it waits until so long after it was taken, and no longer."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client, clock = await connect(server.url, "test"), SystemClock()
            await ensure_stream(client, SMALL)
            feed = Feed(client, START, clock)
            await publish_tick(client, "a")
            assert await feed.take(100, 30.0, gather_s=60.0)
            taken_at = clock.monotonic()
            await publish_tick(client, "a")
            second = asyncio.create_task(feed.take(100, 30.0, gather_s=0.4))
            await publish_tick(client, "a")
            assert await second
            assert clock.monotonic() - taken_at >= 0.35
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_no_more_is_taken_at_once_than_is_soon_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large messages are a portion too; the rest comes with the next, in order."""
    monkeypatch.setattr(stream, "TAKE_BYTES", 10)

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            for number in range(5):
                await client.jetstream().publish("tocsin.computed.a", b"%08d" % number)
            feed = Feed(client, START, SystemClock())
            portions: list[list[Message]] = []
            while sum(map(len, portions)) < 5:
                portions.append(await feed.take(100, 5.0))
            assert max(map(len, portions)) <= 2
            assert [message.payload for portion in portions for message in portion] == [b"%08d" % n for n in range(5)]
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_no_gap_and_no_repeat_over_a_killed_server(tmp_path: Path) -> None:
    """While messages flow the server is killed twice; the feed goes on by itself with the very next message."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            stream = client.jetstream()
            feed = Feed(client, START, SystemClock())
            killed: list[int] = []
            for n in range(3):
                for i in range(200):
                    await stream.publish("tocsin.tick.s", f"{n}-{i}".encode())
                got = await take(feed, 150)
                if n < 2:
                    assert server.pid is not None
                    killed.append(server.pid)
                    os.kill(server.pid, signal.SIGKILL)
                    await eventually_async(lambda: server.pid != killed[-1])
                    await eventually_async(lambda: client.is_connected)
                got += await take(feed, 200 - len(got))
                assert [m.payload for m in got] == [f"{n}-{i}".encode() for i in range(200)]
            assert feed.restarts > 1
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_a_feed_does_not_wait_for_the_silence_of_a_server_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the connection is back it reads on, though nothing has been silent for long."""
    monkeypatch.setattr(stream, "SILENT_S", 3600.0)

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            feed = Feed(client, START, SystemClock())
            await publish_tick(client, "a")
            await take(feed, 1)
            killed = server.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            await eventually_async(lambda: client.stats["reconnects"] > 0 and client.is_connected)
            await publish_tick(client, "a")
            assert [message.sequence for message in await take(feed, 1)] == [2]
            assert feed.restarts == 2
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_a_slow_reader_holds_the_server_back(tmp_path: Path) -> None:
    """A backlog larger than any window is not poured into memory at once, and still comes whole."""
    size, n = 20_000, 3_000

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            stream = client.jetstream()
            for first in range(0, n, 500):
                await asyncio.gather(
                    *(stream.publish("tocsin.tick.s", i.to_bytes(4) + bytes(size)) for i in range(first, first + 500))
                )
            feed = Feed(client, START, SystemClock())
            got = await feed.take(1, 5)
            held = client.stats["in_bytes"]
            await asyncio.sleep(0.5)
            assert client.stats["in_bytes"] - held < n * size * 0.9
            got += await take(feed, n - 1)
            assert sorted(int.from_bytes(m.payload[:4]) for m in got) == list(range(n))
            assert [m.sequence for m in got] == list(range(1, n + 1))
            assert feed.restarts == 1
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_a_rebuilt_stream_is_read_on_by_time(tmp_path: Path) -> None:
    """A position of a stream that is gone skips nothing of the new one, whose numbers start again."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            for i in range(10):
                await client.jetstream().publish("tocsin.tick.s", str(i).encode())
            feed = Feed(client, START, SystemClock())
            last = (await take(feed, 10))[-1]
            await feed.close()
            await client.jsm().delete_stream("READINGS")
            await ensure_stream(client, SMALL)
            for i in range(12):
                await client.jetstream().publish("tocsin.tick.s", f"new {i}".encode())
            feed = Feed(client, Position(last.sequence, last.time_ns), SystemClock())
            assert [m.payload for m in await take(feed, 12)] == [f"new {i}".encode() for i in range(12)]
            await feed.close()
            await client.close()

    asyncio.run(story())


@pytest.mark.parametrize("subjects", [(), ("tocsin.tick.a",)])
def test_what_the_stream_dropped_unread_is_told(tmp_path: Path, subjects: tuple[str, ...]) -> None:
    """Beyond its bound while nobody read, once; under the reader's hands, unless numbers are left out anyway."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client, told = await connect(server.url, "test"), list[int]()
            jetstream, manager = client.jetstream(), client.jsm()
            await ensure_stream(client, StreamSettings(max_bytes=1 << 20))
            for _ in range(8):
                await jetstream.publish("tocsin.tick.a", b"")
            await manager.delete_msg(stream.STREAM, 5)
            await manager.delete_msg(stream.STREAM, 6)
            feed = Feed(client, START, SystemClock(), subjects, told.append)
            last = (await take(feed, 6))[-1]
            await feed.close()
            assert told == ([] if subjects else [2])
            told.clear()
            for _ in range(40):
                await jetstream.publish("tocsin.tick.a", bytes(40_000))
            first = (await manager.stream_info(stream.STREAM)).state.first_seq
            assert first > last.sequence + 1
            feed = Feed(client, Position(last.sequence, last.time_ns), SystemClock(), subjects, told.append)
            for _ in range(2):
                # Until something is taken, a consumer that is made anew begins at the same place.
                await feed.take(0, 0.0)
                await feed.close()
            assert [message.sequence for message in await take(feed, 49 - first)] == list(range(first, 49))
            assert told == [first - 9]
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_what_the_stream_drops_before_a_slow_reader_of_a_part_is_told_as_it_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No less than what was its own, at most what is gone; others' messages that the stream holds are no loss."""
    monkeypatch.setattr(stream, "LOOK_S", 0.0)
    size, n = 40_000, 100

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client, told = await connect(server.url, "test"), list[int]()
            publish = client.jetstream().publish
            await ensure_stream(client, StreamSettings(max_bytes=4 << 20))
            feed = Feed(client, START, SystemClock(), ("tocsin.tick.a",), told.append)
            for _ in range(3):
                await publish("tocsin.tick.a", b"")
                await take(feed, 1)
                for _ in range(20):
                    await publish("tocsin.tick.b", b"")
            before, got = 3 * 21, list[Message]()
            for site in "aabab":
                await asyncio.gather(*(publish(f"tocsin.tick.{site}", bytes(size)) for _ in range(n)))
            end = await publish("tocsin.tick.a", b"")
            assert told == []
            while not got or got[-1].sequence < end.seq:
                got += await feed.take(n, 1.0)
            assert feed.restarts == 1
            own = 3 * n - (len(got) - 1)
            assert 0 < own <= sum(told) <= end.seq - 1 - before
            # What was told is told once.
            told.clear()
            await publish("tocsin.tick.a", b"")
            await take(feed, 1)
            assert told == []
            await feed.close()
            await client.close()

    asyncio.run(story())


def test_what_a_stream_holds_its_leader_says_and_not_whoever_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that is told that there is nothing more is idle, but not once the leader has what is looked for."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, SMALL)
            for _ in range(3):
                await publish_tick(client, "a")
            feed = Feed(client, START, SystemClock())
            last = (await take(feed, 3))[-1]
            await feed.close()
            let_a_server_be_behind(monkeypatch)
            feed = Feed(client, START, SystemClock())
            assert await feed.take(10, 10.0, until=Position(last.sequence, last.time_ns)) == []
            told = []
            for more, later_ns in ((0, NS), (1, 0), (0, 0)):
                found = await feed.holds(Position(last.sequence + more, last.time_ns + later_ns))
                told.append((found, feed.idle))
            assert told == [(False, True), (False, True), (True, False)]
            await client.jsm().purge_stream(stream.STREAM)
            assert not await feed.holds(Position(last.sequence, last.time_ns))
            await feed.close()
            await client.close()

    asyncio.run(story())
