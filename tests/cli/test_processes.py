"""The supervisor, with real processes: kept alive, ended in time, and given up on with their last words."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.wait import eventually_async
from tocsin_cli.demo.processes import Spec, Supervisor
from tocsin_core.clock import SystemClock

PLANT = """\
tocsin: 1
site: {id: s1, name: 测试厂}
gateways:
  - id: gw
    devices:
      - id: xcd
        profile: honeywell-sensepoint-xcd
        modbus: {port: 15999}
        points:
          - {id: NH3-1, name: 氨, kind: toxic-gas, cas: 7664-41-7, register: gas, range: [0, 100]}
"""


@pytest.fixture
def edge(tmp_path: Path) -> Spec:
    """A process that lives until it is ended: a gateway with nothing to talk to."""
    (tmp_path / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return Spec("gw", ("edge", str(tmp_path), "--gateway", "gw", "--data", str(tmp_path / "data")), 3.0)


def test_a_killed_process_is_started_again(edge: Spec, tmp_path: Path) -> None:
    """After kill -9 the same process runs again under another pid, and the restart is counted."""

    async def story() -> None:
        async with Supervisor(tmp_path / "logs", SystemClock()) as supervisor:
            await supervisor.start(edge)
            process = supervisor.processes["gw"]
            first = process.handle.pid
            os.kill(first, signal.SIGKILL)
            await eventually_async(lambda: process.restarts == 1 and process.alive and process.handle.pid != first)

    asyncio.run(story())


def test_nothing_is_left_behind(edge: Spec, tmp_path: Path) -> None:
    """When the supervisor is done, its processes are gone."""

    async def story() -> int:
        async with Supervisor(tmp_path / "logs", SystemClock()) as supervisor:
            await supervisor.start(edge)
            return supervisor.processes["gw"].handle.pid

    pid = asyncio.run(story())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_arguments_are_not_tried_for_ever(tmp_path: Path) -> None:
    """A process that refuses its arguments makes the supervisor fail with that process's last words."""

    async def story() -> str:
        async with Supervisor(tmp_path / "logs", SystemClock()) as supervisor:
            await supervisor.start(Spec("gw", ("edge", str(tmp_path / "nowhere"), "--gateway", "gw"), 1.0))
            return await asyncio.wait_for(asyncio.shield(supervisor.failed), 30)

    assert "does not exist" in asyncio.run(story())
