"""Two processes for the alarms, one of which works: killed, stood still and ended in order, nothing lost or doubled."""

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.support.wait import eventually_async

RISES = "SELECT occurrence, count(*) FROM transition WHERE event = 'raise' AND alarm = 'P1/H' GROUP BY occurrence"
RETURNS = "SELECT count(*) FROM transition WHERE event = 'return' AND alarm = 'P1/H'"
LEASE = "SELECT holder, epoch FROM lease WHERE name = 'alarms'"
# A takeover takes 2.4 s; the start of a process takes much longer on a machine that does much else.
MOST_S = 120


class Incident:
    """A value that swings over its limit, and the two who may tell."""

    def __init__(self, gateway: SpoolingGateway, workers: list[CloudProcess]) -> None:
        """Nothing has risen yet."""
        self.gateway, self.workers = gateway, workers
        self.rises = 0
        self.time_ms = now_ms()

    async def swing(self, times: int) -> None:
        """Rise and return so many times, in the time that it takes."""
        for _ in range(times):
            for value in (90.0, 10.0):
                self.time_ms = max(self.time_ms + 1, now_ms())
                await self.gateway.send({0: value}, time_ms=self.time_ms)
                await asyncio.sleep(0.01)
            self.rises += 1

    async def all_committed_by(self, worker: CloudProcess, epoch: int) -> None:
        """Wait until every rise and return is committed; `worker` holds the lease then."""
        await eventually_async(self._all_committed, MOST_S)
        assert self.holds(worker, epoch)
        assert all(count == 1 for _, count in worker.rows(RISES))

    def _all_committed(self) -> bool:
        worker = self.workers[0]
        return len(worker.rows(RISES)) == self.rises and worker.rows(RETURNS) == [(self.rises,)]

    def holds(self, worker: CloudProcess, epoch: int) -> bool:
        """Whether `worker` has the lease, in this epoch."""
        assert worker.process is not None
        return [(int(holder.split(":")[1]), at) for holder, at in worker.rows(LEASE) if holder] == [
            (worker.process.pid, epoch)
        ]

    def log(self) -> str:
        """What both have said."""
        return (self.workers[0].data / "alarms.log").read_text(encoding="utf-8")

    async def stands_by(self, start: Callable[[], object]) -> None:
        """Do what makes a worker a candidate, and wait until it is one that follows."""
        before = self.log().count("standing by")
        start()
        await eventually_async(lambda: self.log().count("standing by") > before, MOST_S)


@pytest.mark.timeout(600)
def test_the_alarms_go_from_one_worker_to_the_next(tmp_path: Path) -> None:
    """Each rise is raised once and returns once, the place is called once; who lost the lease is a candidate again."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant, data = plant_folder(tmp_path / "plant"), tmp_path / "data"
            first, second = (CloudProcess(plant, data, server.url, settings.mqtt, role="alarms") for _ in range(2))
            try:
                first.start()
                await eventually_async(lambda: bool(first.rows(LEASE)), MOST_S)
                async with SpoolingGateway(settings.mqtt).connected() as gateway:
                    incident = Incident(gateway, [first, second])
                    await incident.stands_by(second.start)
                    await from_one_to_the_next(incident, first, second)
                # One place is called once as long as nobody has answered.
                assert first.rows("SELECT count(*) FROM message WHERE repeat = 0") == [(1,)]
                assert first.rows("SELECT count(*) FROM ticket") == [(1,)]
                assert first.rows("SELECT count(*) FROM ticket_occurrence") == [(incident.rises,)]
            finally:
                first.end(signal.SIGKILL)
                second.end(signal.SIGKILL)

    asyncio.run(story())


async def from_one_to_the_next(incident: Incident, first: CloudProcess, second: CloudProcess) -> None:
    """Three takeovers in the middle of things."""
    await incident.swing(5)
    first.end(signal.SIGKILL)
    await incident.swing(20)
    await incident.all_committed_by(second, 2)

    await incident.stands_by(first.start)
    await incident.swing(5)
    await second.stand_still()
    await incident.swing(20)
    await incident.all_committed_by(first, 3)
    assert second.process is not None
    await incident.stands_by(partial(second.process.send_signal, signal.SIGCONT))
    (anew,) = [line for line in incident.log().splitlines() if "begins anew as a candidate" in line]
    assert "another process has taken over: alarms (epoch 2 is over)" in anew
    await incident.all_committed_by(first, 3)

    assert first.end() == 0
    await incident.swing(5)
    await incident.all_committed_by(second, 4)
    assert second.end() == 0
    assert first.rows(LEASE) == [("", 4)]
