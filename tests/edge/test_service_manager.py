"""What systemd is told, with a real datagram socket in its place."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.wait import eventually_async
from tocsin_edge.adapters.service_manager import ServiceManager


@dataclass
class Manager:
    """The other end of NOTIFY_SOCKET."""

    inbox: socket.socket
    address: str

    def words(self) -> list[str]:
        """Take all that has arrived."""
        found = []
        while True:
            try:
                found.append(self.inbox.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Listen as systemd does, on a file and in the abstract namespace in turn."""
    address = str(tmp_path / "notify") if request.param == "file" else f"@tocsin-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as inbox:
        inbox.bind(address.replace("@", "\0"))
        inbox.setblocking(False)  # noqa: FBT003 - the standard library's own
        yield Manager(inbox, address)


def test_each_word_is_one_datagram(manager: Manager) -> None:
    """As sd_notify(3) has them; a status of several lines becomes one."""
    told = ServiceManager(manager.address)
    told.ready()
    told.feed()
    told.status("all\nis  well")
    told.stopping()
    assert manager.words() == ["READY=1", "WATCHDOG=1", "STATUS=all is well", "STOPPING=1"]


def test_a_manager_that_is_gone_or_full_holds_nothing_up(manager: Manager, tmp_path: Path) -> None:
    """Neither a missing socket nor one that nobody reads stops or blocks the gateway."""
    ServiceManager().ready()
    ServiceManager(str(tmp_path / "nobody")).ready()
    told = ServiceManager(manager.address)
    for _ in range(5000):
        told.feed()
    assert set(manager.words()) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, 30.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/run/x"}, None),
        ({"WATCHDOG_USEC": "500000"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_found_in_the_environment(environment: dict[str, str], watchdog_s: float | None) -> None:
    """It counts only where it is meant for this process and somebody listens."""
    assert ServiceManager.of(environment, 7).watchdog_s == watchdog_s


# The same gateway, in which a poll or a write never ends while a file is there; either may stand still for 1 s or so.
HUNG = """
import asyncio, os, time
from pathlib import Path
from tocsin_edge.adapters.modbus import ModbusLine
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops import spool_thread, watchdog
watchdog.LINE_PATIENCE_S = watchdog.KEEPING_PATIENCE_S = 1.5
spool_thread.DISK_PATIENCE_S = 0.5
folder = Path(os.environ["TOCSIN_TEST_HANG"])
ask, keep = ModbusLine.ask, Spool.keep
async def hang(self, *question):
    while (folder / "line").exists():
        await asyncio.sleep(3600)
    return await ask(self, *question)
def block(self, *parts, **how):
    while (folder / "spool").exists():
        time.sleep(0.1)
    return keep(self, *parts, **how)
ModbusLine.ask, Spool.keep = hang, block
from tocsin_cli.main import main
main()
"""


class ManagedGateway(Gateway):
    """A real gateway process under a service manager; while the file `line` or `spool` is in `hang` that one hangs."""

    def __init__(self, folder: Path, data: Path, address: str) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self.hang = data / "hang"
        self._address = address

    def start(self) -> None:
        """Start it with the environment that systemd gives."""
        self.hang.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "NOTIFY_SOCKET": self._address,
            "WATCHDOG_USEC": "600000",
            "TOCSIN_TEST_HANG": str(self.hang),
        }
        command = [sys.executable, "-c", HUNG, *self._command[3:]]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, env=environment)


@pytest.fixture
def gateway(manager: Manager, tmp_path: Path) -> Iterator[ManagedGateway]:
    """Give a gateway under the manager that is not started, and end it."""
    process = ManagedGateway(tmp_path / "plant", tmp_path / "data", manager.address)
    yield process
    process.stop()


@pytest.mark.parametrize("manager", ["file"], indirect=True)
def test_what_hangs_starves_the_watchdog_and_a_new_start_is_well(
    manager: Manager, gateway: ManagedGateway, tmp_path: Path
) -> None:
    """A poll that never ends is not fed for, so that the manager starts it anew; after that all goes on."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            gateway.start()
            heard: list[str] = []

            def has(word: str) -> bool:
                heard.extend(manager.words())
                return any(each.startswith(word) for each in heard)

            await eventually_async(lambda: has("STATUS=1 of 1 devices watched"))
            assert "READY=1" in heard
            assert "WATCHDOG=1" in heard
            (gateway.hang / "line").touch()
            await eventually_async(lambda: has("STATUS=standing still: line 127.0.0.1"))
            heard.clear()
            await eventually_async(lambda: has("STATUS") and len(heard) > 5)
            assert "WATCHDOG=1" not in heard
            gateway.end(signal.SIGKILL)
            (gateway.hang / "line").unlink()
            manager.words()
            heard.clear()
            gateway.start()
            await eventually_async(lambda: has("STATUS=1 of 1 devices watched") and has("WATCHDOG=1"))
            assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
            assert has("STOPPING=1")

    asyncio.run(story())


@pytest.mark.parametrize("manager", ["file"], indirect=True)
def test_a_disk_that_hangs_starves_nobody(manager: Manager, gateway: ManagedGateway, tmp_path: Path) -> None:
    """A new start would need it: the gateway goes on without, says so, and is fed all the while."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            gateway.start()
            heard: list[str] = []

            def says(word: str) -> bool:
                heard.extend(manager.words())
                return bool(heard) and word in heard[-1]

            await eventually_async(lambda: says("STATUS=1 of 1 devices watched"))
            (gateway.hang / "spool").touch()
            await eventually_async(lambda: says("the disk hangs"))
            heard.clear()
            # Fed and told in turn, every 0.2 s: for longer than anything may stand still.
            await eventually_async(lambda: says("the disk hangs") and len(heard) > 40)
            assert heard.count("WATCHDOG=1") > 15
            assert not any("standing still" in word for word in heard)
            (gateway.hang / "spool").unlink()
            await eventually_async(lambda: says("STATUS=1 of 1") and "disk" not in heard[-1])
            assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0

    asyncio.run(story())
