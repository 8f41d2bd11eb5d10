"""How long a version of the plant file is on trial: until all works for more than a moment, or its time is over."""

import asyncio
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from tocsin_core.plant.model import UplinkBroker
from tocsin_edge.adapters.opening import Opened
from tocsin_edge.adapters.versions import FOLDER, Versions
from tocsin_edge.loops import managed
from tocsin_edge.loops.managed import Managed
from tocsin_edge.loops.trial import Before

TRIAL_S: Final = 3.0


class Scripted:
    """A clock, and what works at each look: a second passes, and something lacks or nothing does."""

    def __init__(self, looks: str) -> None:
        """One letter a look: `-` where nothing lacks, else the name of what does."""
        self.looks, self.passed_s = deque(looks), 0.0

    def now_ns(self) -> int:
        """Not asked for."""
        return 0

    def monotonic(self) -> float:
        """A second for each look."""
        return self.passed_s

    def changed(self) -> None:
        """Nothing to note."""

    def missing(self) -> tuple[str, ...]:
        """What lacks at this look."""
        self.passed_s += 1.0
        lacks = self.looks.popleft()
        return () if lacks == "-" else (lacks, "more")


@pytest.mark.parametrize(
    ("looks", "reason", "looked"),
    [
        ("--", "", 2),
        ("a--", "", 3),
        # Well for a moment only.
        ("-a--", "", 4),
        ("aaa", "a; more", 3),
        ("a-b", "b; more", 3),
        # Well as its time is over: that it was no mere moment is still waited for.
        ("aa--", "", 4),
        ("aa-c", "c; more", 4),
    ],
)
def test_a_trial_ends_when_all_works_at_two_looks_or_its_time_is_over(
    looks: str, reason: str, looked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What works again just before the end is kept; what worked for a moment is not."""
    monkeypatch.setattr(managed, "LOOK_S", 0.0)
    script = Scripted(looks + "x" * 9)
    own = cast("Any", SimpleNamespace(content=""))
    wait = Managed(own, Versions(tmp_path), own, script, TRIAL_S)._until_well  # noqa: SLF001 -- all of it takes a process
    assert asyncio.run(wait(script)) == reason
    assert script.passed_s == looked


def test_a_kept_version_that_breaks_what_opens_it_ends_no_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it is in force, or the gateway's own plant file."""

    def opened(sealed: bytes, *_: object) -> Opened:
        if sealed == b"broken":
            raise RuntimeError("a fault of ours")
        return Opened(1, "hash", own)

    monkeypatch.setattr(managed, "open_sealed", opened)
    monkeypatch.setattr(managed, "apart", lambda make: make())
    own = cast("Any", SimpleNamespace(content="own"))
    versions = Versions(tmp_path)
    for version, sealed in ((2, b"broken"), (1, b"good")):
        versions.keep(version, sealed)
        versions.confirm(version)
    found = Managed(own, versions, own, Scripted(""), TRIAL_S)
    assert found.standing.version == 1
    # Who asks how it stands waits for no disk, and is answered where that fails.
    (tmp_path / FOLDER).rename(tmp_path / "gone")
    assert found.status()["good"] == [2, 1]


def test_a_version_with_another_broker_must_reach_it_though_the_link_was_just_down() -> None:
    """What came over a link that broke since shows nothing: kept, it would cut the gateway off for good."""
    here, there = (UplinkBroker(host=host, port=1883) for host in ("here", "there"))
    connected: list[UplinkBroker] = []

    def missing(broker: UplinkBroker) -> tuple[str, ...]:
        before = Before(report, cast("Any", settings(broker)), lambda: connected[0] if connected else None, TRIAL_S)
        before.changed()
        return before.missing()

    def settings(broker: UplinkBroker) -> SimpleNamespace:
        return SimpleNamespace(devices=(), gateway=SimpleNamespace(uplink=broker))

    report = cast("Any", SimpleNamespace(
        now_ms=lambda: 10**12, settings=settings(here), alarms=SimpleNamespace(in_force=()),
        spool=SimpleNamespace(trouble="", committed_ms=None), progress=SimpleNamespace(stalled=tuple),
    ))  # fmt: skip
    assert missing(here) == ()
    assert missing(there) == ("no connection to there:1883",)
    connected.append(there)
    assert missing(there) == ()
    connected[:] = [here]
    before = Before(report, cast("Any", settings(here)), lambda: connected[0] if connected else None, TRIAL_S)
    before.changed()
    connected.clear()
    # The link that stood has to stand, to the same broker as well.
    assert before.missing() == ("no connection to here:1883",)
