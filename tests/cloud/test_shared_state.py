"""A historian on another machine: it goes on where the last one shared that it was, if that is later than its own."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cloud.rig import SITE, broker, candidate, now_ms
from tests.cloud.test_computed import surroundings
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_state import RESTORED
from tocsin_cloud.adapters.lease import Lease, hold
from tocsin_cloud.adapters.snapshot_store import SnapshotStore
from tocsin_cloud.adapters.stream import Position, connect, ensure_stream
from tocsin_cloud.loops import historian
from tocsin_cloud.loops.historian import Historian, HistorianParts
from tocsin_cloud.loops.shared_state import SharedState
from tocsin_cloud.settings import StreamSettings


class ToldHistory(DuckdbHistory):
    """A history that counts how often it is told that another historian has stored readings since."""

    told = 0

    def overtaken(self) -> None:
        """Count it."""
        self.told += 1


def test_a_server_that_is_killed_while_it_is_asked_is_asked_again(tmp_path: Path) -> None:
    """Who begins just then has the snapshot once the server is back, and does not wait for answers of the dead one."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            await ensure_stream(client, StreamSettings(max_bytes=1 << 28))
            store = SnapshotStore(client, "x")
            assert await store.put(b"snapshot", 2)
            assert await store.later_than(2) is None
            killed, asked = server.pid, client.stats["out_msgs"]
            assert killed is not None
            os.kill(killed, signal.SIGSTOP)
            reading = asyncio.create_task(store.later_than(1))
            await eventually_async(lambda: client.stats["out_msgs"] > asked)
            os.kill(killed, signal.SIGKILL)
            assert await reading == b"snapshot"
            await client.close()

    asyncio.run(story())


def test_the_next_historian_goes_on_where_the_last_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stores what came since, acknowledges the gateway's next batch, and asks for none of the earlier ones."""
    monkeypatch.setattr(historian, "SNAPSHOT_S", 0.0)

    async def story() -> None:
        async with surroundings(tmp_path) as (plant, gateway):
            store = SnapshotStore(plant.client, f"{SITE}/historian")
            shared = SharedState(store, 0.0, plant.clock)
            first, second = candidate(plant.database, "historian"), candidate(plant.database, "historian")
            parts = replace(plant.historian_parts(), lease=first, shared=shared)
            keeper = Historian(parts)
            working = asyncio.create_task(hold(first, keeper.run))
            for value in range(20):
                await gateway.send({0: float(value)})
            await eventually_async(lambda: gateway.committed == 20, 60)

            async def all_shared() -> bool:
                return await store.later_than(keeper.position.time_ns - 1) is not None

            await eventually_async(all_shared, 60)
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            elsewhere = await ToldHistory.open(tmp_path / "elsewhere.duckdb")
            state = await shared.of(elsewhere)
            assert elsewhere.told == 1
            other = Historian(replace(plant.historian_parts(), lease=second, history=elsewhere), state)
            assert other.position == keeper.position
            working = asyncio.create_task(hold(second, other.run))
            await gateway.send({0: 99.0})
            await eventually_async(lambda: gateway.committed == 21, 60)
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            found = await elsewhere.read("P1", 0, 1 << 62, None, 100)
            assert found.mean.tolist() == [99.0]
            assert await shared.of(elsewhere) is elsewhere.state
            assert elsewhere.told == 1
            await elsewhere.close()

    asyncio.run(story())


def test_what_was_shared_before_a_restore_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker was not lost: its stream has what the restored history lacks, and the historian reads it from there.

    What it shares itself from then on is its own again, also for a machine that has nothing.
    """
    monkeypatch.setattr(historian, "SNAPSHOT_S", 0.0)

    async def story() -> None:
        async with surroundings(tmp_path) as (plant, gateway):
            store = SnapshotStore(plant.client, f"{SITE}/historian")
            shared = SharedState(store, 0.0, plant.clock)
            parts = replace(plant.historian_parts(), shared=shared)

            async def stored(lease: Lease, parts: HistorianParts, state: Mapping[str, bytes], batches: int) -> Position:
                keeper = Historian(replace(parts, lease=lease), state)
                working = asyncio.create_task(hold(lease, keeper.run))
                for value in range(batches):
                    # Of several in one millisecond one would be kept.
                    await gateway.send({0: float(value)}, time_ms=begin_ms + gateway.newest)

                async def all_shared() -> bool:
                    done = gateway.committed == gateway.newest
                    return done and await store.later_than(keeper.position.time_ns - 1) is not None

                await eventually_async(all_shared, 60)
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
                return keeper.position

            begin_ms = now_ms()
            leases = [candidate(plant.database, "historian") for _ in range(2)]
            backed_up = {**plant.history.state, RESTORED: b"once"}
            before = await stored(leases[0], parts, plant.history.state, 20)
            restored = await DuckdbHistory.open(tmp_path / "restored.duckdb")
            assert await shared.later_than(backed_up) is backed_up
            later = await stored(leases[1], replace(parts, history=restored), backed_up, 5)
            assert later.sequence > before.sequence
            found = await restored.read("P1", 0, 1 << 62, None, 100)
            assert found.mean.tolist() == [*map(float, range(20)), *map(float, range(5))]
            assert restored.state[RESTORED] == b"once"
            for own in ({}, backed_up):
                assert await shared.later_than(own) is not own
            await restored.close()

    asyncio.run(story())
