"""Machines on a network of their own: network name spaces, of which each can be cut off from the others."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final

import pytest

from tests.support.need import need_program

# RFC 2544: for tests between machines, on no network that anybody uses.
OUTSIDE: Final = "198.18.{}.{}"
BETWEEN: Final = "10.0.0.{}"
NOT_ALLOWED: Final = "needs network name spaces (unshare --net, veth), which this machine does not allow"


class Cut(Enum):
    """How a machine is cut off: its link is down and it knows, or the switch drops what it sends and hears."""

    DOWN = "down"
    SILENT = "nomaster"


class _Space:
    """A network name space, which ends with the process that holds it, and that one with this process."""

    def __init__(self) -> None:
        # It reads until this process, whose end of the pipe it is, is gone.
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: S607 -- Debian's
        own = Path("/proc/self/ns/net").readlink()
        self.pid = self._holder.pid
        while self._holder.poll() is None and Path(f"/proc/{self.pid}/ns/net").readlink() == own:
            os.sched_yield()

    def command(self, *command: str) -> list[str]:
        """What runs a command in it."""
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def ip(self, *arguments: str) -> None:
        subprocess.run(self.command("ip", *arguments), check=True, capture_output=True)

    def end(self) -> None:
        self._holder.kill()
        self._holder.communicate()


class Machines:
    """So many machines: each is reached from here at `address`, and by the others, until it is cut off, at `peer`."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        """Make them; `stack` takes them away.

        Raises:
            OSError, subprocess.CalledProcessError: this machine does not allow it.
        """
        self._net = secrets.randbelow(254) + 1
        self._switch = self._space(stack)
        self._switch.ip("link", "add", "switch", "type", "bridge")
        self._switch.ip("link", "set", "switch", "up")
        self._spaces = [self._space(stack) for _ in range(count)]
        for number, space in enumerate(self._spaces):
            self._plug_in(number, space)
            self._lead_outside(number, space, stack)

    @staticmethod
    def _space(stack: ExitStack) -> _Space:
        space = _Space()
        stack.callback(space.end)
        space.ip("link", "set", "lo", "up")
        return space

    def _plug_in(self, number: int, space: _Space) -> None:
        port = ("name", f"port{number}", "netns", str(self._switch.pid))
        space.ip("link", "add", "between", "type", "veth", "peer", *port)
        space.ip("address", "add", f"{self.peer(number)}/24", "dev", "between")
        space.ip("link", "set", "between", "up")
        self.mend(number)

    def _lead_outside(self, number: int, space: _Space, stack: ExitStack) -> None:
        here = f"t{secrets.token_hex(5)}"
        space.ip("link", "add", "outside", "type", "veth", "peer", "name", here, "netns", str(os.getpid()))
        space.ip("address", "add", f"{self.address(number)}/30", "dev", "outside")
        space.ip("link", "set", "outside", "up")
        # Connections that nobody answers any more would keep it for minutes.
        stack.callback(_ip, "link", "delete", here)
        ours = OUTSIDE.format(self._net, 4 * number + 1)
        _ip("address", "add", f"{ours}/30", "dev", here)
        _ip("link", "set", here, "up")

    def address(self, number: int) -> str:
        """Where a machine is reached from here, whatever is cut."""
        return OUTSIDE.format(self._net, 4 * number + 2)

    def peer(self, number: int) -> str:
        """Where the other machines reach it."""
        return BETWEEN.format(number + 1)

    def command(self, number: int, command: Sequence[str]) -> list[str]:
        """What runs a command on a machine."""
        return self._spaces[number].command(*command)

    def cut(self, number: int, how: Cut) -> None:
        """Cut a machine off from the others."""
        if how is Cut.DOWN:
            self._spaces[number].ip("link", "set", "between", "down")
        else:
            self._switch.ip("link", "set", f"port{number}", "nomaster")

    def mend(self, number: int) -> None:
        """Connect it again."""
        self._switch.ip("link", "set", f"port{number}", "master", "switch", "up")
        self._spaces[number].ip("link", "set", "between", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607 -- Debian's


@contextmanager
def machines(count: int) -> Iterator[Machines | None]:
    """So many machines, None where this machine does not allow any."""
    with ExitStack() as stack:
        found = None
        if shutil.which("ip") and shutil.which("nsenter"):
            with suppress(OSError, subprocess.CalledProcessError):
                found = Machines(count, stack)
        yield found


def need_machines(found: Machines | None) -> Machines:
    """Go on only where there are machines; where the program `ip` is missing, say which package brings it."""
    need_program("ip")
    if found is None:
        pytest.skip(NOT_ALLOWED)
    return found
