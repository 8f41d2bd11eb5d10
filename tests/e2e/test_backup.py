"""A real gateway goes on while the cloud side is backed up, lost with all it had, and restored where nothing is."""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import pytest

from tests.cloud.rig import HOST, CloudProcess
from tests.cloud.test_backup import done, own_umask
from tests.contract.history_stores import Victoria
from tests.e2e.test_partition import HIGH, LOW, SENSORS, Ends, plant_file
from tests.edge.rig import Gateway, Slave
from tests.support.logs import json_lines
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.wait import eventually_async
from tocsin_cli.bench.faults_link import Link
from tocsin_cli.bench.faults_script import Cut
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_NOT_CONNECTED

__all__ = ["own_umask"]
# A start takes 3 s on a quiet machine, and most of a minute on one that does much else.
MOST_S = 180
ALWAYS = "start=1970-01-01T00:00:00Z&end=2100-01-01T00:00:00Z"


class OnServers(CloudProcess):
    """A cloud side whose tables are in a PostgreSQL."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The answer of the database; nothing while there are no tables yet."""
        # Whoever asks is in an event loop already.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, self._rows(query)).result()

    async def _rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.more[self.more.index("--sql") + 1])
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        except asyncpg.UndefinedTableError:
            return []
        finally:
            await connection.close()


@dataclass
class Machine:
    """Where a cloud side lives: in a folder alone, or with a PostgreSQL and a VictoriaMetrics of its own."""

    folder: Path
    postgres: Postgres | None = None
    sql: str = ""
    victoria: Victoria | None = None

    @classmethod
    def empty(cls, folder: Path, postgres: Postgres | None) -> Self:
        """One on which nothing is yet; with an empty database of `postgres` and an empty server for the history."""
        if postgres is None:
            return cls(folder)
        url = postgres.make(folder.name).set(drivername="postgresql").render_as_string()
        victoria = Victoria(folder.with_name(f"{folder.name}-victoria"))
        victoria.start()
        return cls(folder, postgres, url, victoria)

    def cloud(self, plant: Path, nats: Address, mqtt: Address) -> CloudProcess:
        """The cloud side on it."""
        if self.victoria is None:
            return CloudProcess(plant, self.folder, f"nats://{nats}", mqtt)
        options = ("--sql", self.sql)
        return OnServers(plant, self.folder, f"nats://{nats}", mqtt, history=self.victoria.address, more=options)

    @property
    def tables(self) -> list[str]:
        """Where verbs find the tables."""
        return ["--data", str(self.folder), *(["--sql", self.sql] if self.sql else [])]

    @property
    def into(self) -> list[str]:
        """Where `restore` has to put things."""
        return [*self.tables, *([] if self.victoria is None else ["--history", self.victoria.address])]

    def show(self) -> None:
        """Have the history show all that it was given."""
        if self.victoria is not None:
            self.victoria.show()

    def end(self) -> None:
        """End its servers."""
        if self.victoria is not None and self.postgres is not None:
            self.victoria.end()
            self.postgres.drop(self.folder.name)

    def lost(self) -> None:
        """Be no more, with all that was on it."""
        self.end()
        for folder in (self.folder, self.folder.with_name(f"{self.folder.name}-victoria")):
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def broker(settings: BrokerSettings) -> AsyncIterator[str]:
    """Run a broker on what is in its folder, or on nothing."""
    server = await NatsServer.start(settings, SystemClock())
    try:
        yield server.url
    finally:
        await server.stop()


async def stored(cloud: CloudProcess) -> Counter[tuple[str, str]]:
    """Count the stored readings by point and time, without what the cloud side itself marked at a gateway's death."""
    found: Counter[tuple[str, str]] = Counter()
    for point in SENSORS:
        rows = await cloud.get(f"points/{point}/readings?{ALWAYS}")
        read = zip(rows["time"], rows["quality"], strict=True)
        found.update((point, time) for time, quality in read if quality != BAD_NOT_CONNECTED)
    return found


async def stores(cloud: CloudProcess, readings: int) -> bool:
    """Whether so many readings of the gateway were stored, each counted once."""
    (own,) = await cloud.get("gateways")
    return bool(own["readings"] == readings)


async def committed(ends: Ends) -> None:
    """Wait until the cloud side has everything that the gateway has read by now."""
    newest = ends.gateway.counters()["batch_last"]
    await eventually_async(lambda: ends.gateway.counters()["batch_committed"] >= newest, MOST_S)


async def before_the_loss(ends: Ends, machine: Machine, folder: Path) -> dict[str, Any]:
    """A is raised; then the backup; then A returns, B is raised and returns, and C is raised: all told and stored."""
    ends.be("A", HIGH)
    await ends.phase_at_cloud("A/H", "unacknowledged")
    await ends.at_cloud("ack", "A/H")
    await asyncio.to_thread(done, "user", "add", "wang", "--role", "operator", *machine.tables)
    made = await asyncio.to_thread(done, "backup", str(machine.folder), "--to", str(folder))
    ends.be("A", LOW)
    ends.be("B", HIGH)
    await ends.phase_at_cloud("B/H", "unacknowledged")
    ends.be("B", LOW)
    ends.be("C", HIGH)
    await ends.phase_at_cloud("C/H", "unacknowledged")
    await eventually_async(ends.agree, MOST_S)
    await committed(ends)
    return made


def assert_whole(ends: Ends) -> None:
    """Each alarm that the gateway raised stands once, in its own phase; who was to be called is called; B's return."""
    rows = ends.cloud.rows("SELECT id, alarm, phase FROM occurrence")
    assert {row[0] for row in rows} == ends.raised
    assert sorted((alarm, phase) for _, alarm, phase in rows) == [
        ("A/H", "normal"),
        ("A/H", "unacknowledged"),
        ("B/H", "returned-unacknowledged"),
        ("C/H", "unacknowledged"),
    ]
    steps = Counter(ends.cloud.rows("SELECT occurrence, event FROM transition WHERE occurrence <> ''"))
    assert set(steps.values()) == {1}
    assert ends.cloud.rows("SELECT lost FROM gateway_journal") == [(0,)]
    assert ends.cloud.rows("SELECT count(DISTINCT occurrence), count(*) FROM message WHERE repeat = 0") == [(4, 4)]
    tickets = ends.cloud.rows("SELECT count(DISTINCT occurrence) FROM ticket_occurrence")
    assert tickets == [(4,)]


@pytest.fixture(params=["DuckDB and SQLite", "VictoriaMetrics and PostgreSQL"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Makes empty machines by their names, for the one make of history and database or the other."""
    postgres = None if request.param.startswith("DuckDB") else request.getfixturevalue("postgres_server")
    made: list[Machine] = []

    def machine(name: str) -> Machine:
        made.append(Machine.empty(tmp_path / name, postgres))
        return made[-1]

    yield machine
    for each in made:
        each.end()


@pytest.mark.usefixtures("own_umask")
@pytest.mark.timeout(600)
def test_everything_is_lost_and_comes_back(tmp_path: Path, machines: Callable[[str], Machine]) -> None:
    """What the backup has is there again, the rest the gateway sends: each reading once, each alarm once."""
    mqtt, nats = Address(HOST, free_port()), Address(HOST, free_port())
    first, other = machines("cloud"), machines("again")

    def settings(name: str) -> BrokerSettings:
        return BrokerSettings(folder=tmp_path / name, nats=nats, mqtt=mqtt)

    async def story() -> None:
        async with (
            Link(mqtt.port).open() as link,
            Slave(dict.fromkeys(SENSORS.values(), LOW)).serve() as slave,
        ):
            plant = plant_file(tmp_path / "plant", link.port, slave.port, {})
            gateway = Gateway(plant, tmp_path / "edge")
            ends = Ends(gateway, first.cloud(plant, nats, mqtt), link, slave)
            try:
                async with broker(settings("nats")):
                    ends.cloud.start()
                    await eventually_async(ends.cloud.ready, MOST_S)
                    gateway.start()
                    await eventually_async(lambda: ends.page()["decided"] == len(SENSORS), MOST_S)
                    await eventually_async(lambda: ends.cloud.rows("SELECT * FROM gateway_journal") != [], MOST_S)
                    made = await before_the_loss(ends, first, tmp_path)
                    ends.cloud.end(signal.SIGKILL)
                for lost in ("nats", "plant"):
                    shutil.rmtree(tmp_path / lost)
                await asyncio.to_thread(first.lost)
                ends.be("A", HIGH)
                await ends.phase_at_gateway("A/H", "unacknowledged")
                restored = await asyncio.to_thread(done, "restore", made["backup"], *other.into)
                assert restored["alarms_at_once"]
                ends.cloud = other.cloud(Path(restored["plant"]), nats, mqtt)
                # Else readings come long before the word of what they raised, and the cloud side raises it by them.
                await ends.link.fail(Cut.REFUSED)
                async with broker(settings("nats-again")):
                    ends.cloud.start()
                    await eventually_async(ends.cloud.ready, MOST_S)
                    await ends.link.mend()
                    await eventually_async(ends.agree, MOST_S)
                    await committed(ends)
                    assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
                    polled = gateway.counters()["readings_polled"]
                    # A server acknowledges when it has all on its disk: that is too late for a gateway that ends.
                    await eventually_async(lambda: stores(ends.cloud, polled), MOST_S)
                    await asyncio.to_thread(other.show)
                    found = await stored(ends.cloud)
                    assert (len(found), set(found.values())) == (polled, {1})
                    users = await asyncio.to_thread(done, "user", "list", *other.tables)
                    assert [user["user"] for user in users["users"]] == ["admin", "wang"]
                    assert (await asyncio.to_thread(done, "audit", "verify", *other.tables))["sound"]
                    assert_whole(ends)
                    assert ends.cloud.end() == 0
                for log in (gateway.log, other.folder / "all.log"):
                    told = [line["event"] for line in json_lines(log.read_text(encoding="utf-8"))]
                    assert not [event for event in told if "state was lost" in event]
            finally:
                gateway.stop()
                ends.cloud.end(signal.SIGKILL)

    asyncio.run(story())
