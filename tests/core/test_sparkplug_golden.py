"""Recorded Sparkplug sessions: other clients' bytes read as on the day they were taken, and ours written alike."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tocsin_core.journal import Entry, decode, encode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.sparkplug import ClockState, EdgeDevice, EdgeMetric, EdgeSession, HostSession, JournalNumbers
from tocsin_core.sparkplug.edge import Columns, unknown_columns

FOLDER: Final = Path(__file__).resolve().parents[1] / "golden" / "sparkplug"
MS: Final = 1_790_000_000_000


def recorded(name: str) -> dict[str, Any]:
    """Read one recording."""
    held: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return held


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_a_recorded_session_reads_as_it_did(name: str) -> None:
    """Every message comes to the same readings, batch numbers and faults."""
    held = recorded(name)
    points: dict[tuple[str | None, str], int] = {}
    host = HostSession(lambda _g, _n, device, metric: points.setdefault((device, metric), len(points)))
    for message in held["messages"]:
        fed = host.feed(message["topic"], bytes.fromhex(message["payload"]), held["arrived_ns"])
        columns = (fed.frame.point, fed.frame.time_ns, fed.frame.value, fed.frame.quality)
        rows = [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        assert rows == [
            [point, time_ns, pytest.approx(float("nan") if value is None else value, nan_ok=True), quality]
            for point, time_ns, value, quality in message["readings"]
        ]
        assert [fault.reason for fault in fed.faults] == message["faults"]
        for field in ("batch", "newest_batch", "oldest_batch", "historical", "rebirth"):
            assert getattr(fed, field) == message[field]


def test_our_edge_still_writes_the_recorded_bytes() -> None:
    """Births, data with every quality class, deaths: byte for byte, so that a change of the wire is a choice."""
    device = EdgeDevice("dev", (EdgeMetric("a", "bar", 0.0, 10.0), EdgeMetric("b")))
    edge = EdgeSession("site", "gw", [device])
    last = unknown_columns(device, MS, 0xC0)
    last.value[:] = [1.5, 2.5]
    columns = Columns(
        np.array([0, 1, 0], dtype=np.int64),
        np.array([MS, MS, MS + 1000], dtype=np.int64),
        np.array([1.0, np.nan, 3.0]),
        np.array([0xC0, 0x18, 0x54], dtype=np.uint8),
    )
    unset = replace(columns, unsynchronised_ms=MS - 5000)
    messages = [
        edge.will(5, MS),
        edge.nbirth(7, 3, MS, ClockState(synchronised=False, since_ms=MS - 5000)),
        edge.dbirth("dev", last, 7, MS),
        edge.ddata("dev", columns, 8, MS, historical=True),
        edge.ddata("dev", unset, 9, MS, historical=False),
        edge.ddata("dev", columns, 10, MS, historical=False),
        edge.ndata(4, MS),
        edge.clock(ClockState(synchronised=True, since_ms=MS, error_ms=12.5, step_s=-3.25), MS),
        edge.ddeath("dev", MS),
        edge.ndeath(MS),
    ]
    written = [(message.topic, message.payload.hex()) for message in messages]
    assert written == [(message["topic"], message["payload"]) for message in recorded("tocsin-edge")["messages"]]


def test_our_edge_still_writes_the_recorded_journal() -> None:
    """A birth of a node that decides, a step and a refusal: a gateway and a cloud side of two versions must get on."""
    raised = Entry("P1/H", Event.RAISE, MS * 1_000_000, Phase.UNACKNOWLEDGED, MS * 1_000_000, value=61.5)
    refused = replace(raised, event=None, value=None, command="7f", refusal="overtaken", until_ns=(MS + 60_000) * 10**6)
    edge = EdgeSession("site", "gw", [])
    edge.will(5, MS)
    messages = [
        edge.nbirth(7, 3, MS, journal=JournalNumbers(1002, 1001, b"of alarm")),
        edge.journal(1001, [encode(raised), encode(refused)], 1001, MS),
    ]
    held = recorded("tocsin-edge-deciding")["messages"]
    assert [(message.topic, message.payload.hex()) for message in messages] == [
        (message["topic"], message["payload"]) for message in held
    ]
    host = HostSession(lambda *_: None)
    heard = [host.feed(each["topic"], bytes.fromhex(each["payload"]), MS * 1_000_000).journal for each in held]
    assert heard[1] is not None
    assert [decode(body) for body in heard[1].entries] == [raised, refused]
