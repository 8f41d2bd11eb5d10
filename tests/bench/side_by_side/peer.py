"""What a side-by-side run needs to know of one gateway program: how to install, configure, start and understand it."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.side_by_side.counter import Arrival


class NotInstalledError(Exception):
    """A peer cannot be installed on this machine; says what failed."""


@dataclass(frozen=True, slots=True)
class Message:
    """What the subscriber got from the broker, and when."""

    topic: str
    payload: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """How a gateway is started, and started again after each kill; `folder` is there."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """One gateway program."""

    name: str

    def install(self, folder: Path) -> dict[str, str]:
        """Install it below `folder`, once; name what is installed with its versions.

        Raises:
            NotInstalledError: it cannot be.
        """

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """Write its configuration to the new `folder`: devices at `ports`, broker at `mqtt`; say how it is started."""

    def host(self, mqtt: int) -> AbstractAsyncContextManager[None]:
        """Be the far end that it talks to, beside the counting subscriber, until left; nobody, where it needs none."""
        del mqtt
        return nullcontext()

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """The values that the messages carry."""


def run_installer(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a package client to its end in `folder`.

    Raises:
        NotInstalledError: it failed; with its last lines.
    """
    done = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "warn" not in line.lower()]
        raise NotInstalledError("\n".join(said[:3]))
