"""What went on while the work of a role stood still for long in the cloud side's fault benchmark, and why it did."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tocsin_cli.bench.faults_cloud_bed import Part
from tocsin_cli.bench.faults_diary import Diary
from tocsin_core.clock import Clock

# A takeover is to go on within this; what took longer is told of.
LONG_S: Final = 5.0
# What was killed in the cycle before may still be starting.
BEFORE_S: Final = 10.0
NS_PER_S: Final = 1_000_000_000
STAMP: Final = len("2026-01-01T00:00:00.000")
TOLD_ELSEWHERE: Final = {"timestamp", "event", "level"}


class Turns(NamedTuple):
    """For how long a process's first thread has had a processor, and has waited for one, in s."""

    pid: int
    ran_s: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class Account:
    """The bench's own diary, and the logs of the parts that it kills."""

    diary: Diary
    parts: Sequence[Part]
    clock: Clock

    def turns(self) -> dict[str, Turns]:
        """How the parts that run have fared with the processors (Linux)."""
        found = {}
        for part in self.parts:
            if part.pid is not None:
                # It may have ended just now.
                with suppress(OSError):
                    ran, waited, _ = Path(f"/proc/{part.pid}/schedstat").read_text(encoding="ascii").split()
                    found[part.name] = Turns(part.pid, int(ran) / NS_PER_S, int(waited) / NS_PER_S)
        return found

    def of(self, what: str, since_s: float, before: Mapping[str, Turns]) -> dict[str, Any]:
        """Tell of what began at `since_s` (monotonic), with the processors' figures as `before`, and has ended now."""
        ends_s = self.clock.monotonic()
        begins, ends = self.diary.utc(since_s - BEFORE_S), self.diary.utc(ends_s)
        said = [*self.diary.lines, *(line for part in self.parts for line in _said(part))]
        return {
            "what": what,
            "since": self.diary.utc(since_s),
            "took_s": round(ends_s - since_s, 2),
            "processor": {name: _since(now, before.get(name)) for name, now in self.turns().items()},
            "account": sorted(line for line in said if begins[:STAMP] <= line[:STAMP] <= ends[:STAMP]),
        }


def _since(now: Turns, before: Turns | None) -> dict[str, float]:
    """How a process has fared since: one that has begun meanwhile since it did."""
    if before is None or before.pid != now.pid:
        before = Turns(now.pid, 0.0, 0.0)
    return {"ran_s": round(now.ran_s - before.ran_s, 2), "waited_s": round(now.waited_s - before.waited_s, 2)}


def _said(part: Part) -> Iterator[str]:
    """The lines of a part's log that tell their time."""
    for line in part.log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError, KeyError):
            told = json.loads(line)
            more = " ".join(f"{key}={value}" for key, value in told.items() if key not in TOLD_ELSEWHERE)
            yield f"{told['timestamp'][:STAMP]}Z {part.name}: {told['event']} {more}".rstrip()
