"""What is looked up for the figures: gateways, points, messages, orders, tickets, the stream and the disk."""

import asyncio
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from tests.cloud.api.stand_ins import HandClock, message, occurrence, ticket
from tests.cloud.rig import GATEWAY, SITE, broker, plant_folder
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import GatewayOrder, Quarantine
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_tick
from tocsin_cloud.loops.live import GatewayLive, LiveView, Stored
from tocsin_cloud.loops.look import Look, LookParts, show_stored
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.silence import silences
from tocsin_cloud.settings import StrangerSettings, StreamSettings
from tocsin_core.plant import load_plant
from tocsin_core.readings import BAD, GOOD, Frame
from tocsin_core.rules import NS

MINUTE: Final = 60 * NS
STALE: Final = """
computed:
  - {id: V1, name: V1, source: tank, from: {rule: vote, of: [P1, P2], need: 2}}
"""


def test_what_stands_and_waits_is_in_the_figures(tmp_path: Path) -> None:
    """Each figure says what was put there; where the broker is gone it says so, and keeps the rest."""
    plant = load_plant(plant_folder(tmp_path / "plant", STALE))
    clock, registry = HandClock(), CollectorRegistry()
    now = clock.now_ns()
    live = LiveView(PointTable(plant, StrangerSettings()))
    index = plant.point_index
    live.take(
        Frame.of(
            [index["P1"], index["P2"], index["V1"]],
            [now, now, now - 10 * MINUTE],
            [1.0, float("nan"), 0.0],
            [GOOD, BAD, GOOD],
        )
    )
    live.gateways[SITE, GATEWAY] = GatewayLive(SITE, GATEWAY, "online", now, now - NS, {"D1": "offline"})
    live.stored[SITE, GATEWAY] = Stored(100, 9, 7)

    def figure(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"tocsin_{name}", labels)

    async def story() -> None:
        database = await Database.open(with_tables(tmp_path / "tocsin.sqlite"))
        async with database.write() as session:
            raised = occurrence(1)
            order = GatewayOrder(
                id="o", gateway=GATEWAY, alarm="a", body=b"", at_ns=now - 9 * NS, state="waiting", answer=""
            )
            late = ticket(1, deadline_ns=now - NS), ticket(2, deadline_ns=now - NS, state="accepted"), ticket(3)
            mail = (
                message(1, raised, due_ns=now - 30 * NS),
                message(2, raised, state="failed", due_ns=now - MINUTE, step=1),
            )
            tried = (
                message(4, raised, due_ns=now + NS, step=3, channel="mailto://a@b", error="refused", attempts=1),
                message(5, raised, due_ns=now + NS, step=4, channel="mailto://c@d", state="sending", attempts=2),
                message(6, raised, due_ns=now + NS, step=5, channel="mailto://e@f", state="sending", attempts=1),
            )
            old = message(3, raised, state="failed", due_ns=now - 100 * MINUTE, step=2)
            refused = Quarantine(at_ns=now, topic="t", reason="r", detail="", size=1, head=b"")
            session.add_all([raised, order, *late, *mail, *tried, old, refused])
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "look")
            await ensure_stream(client, StreamSettings(max_bytes=1 << 20))
            await publish_tick(client, SITE)
            parts = LookParts(client, database, silences(plant), live, WatchMetrics(registry), clock, tmp_path)
            await Look(parts).once()
            show_stored(live, parts.metrics)
            await client.close()
            await Look(parts).once()
        await database.close()

    asyncio.run(story())
    gateway, theirs = {"gateway": GATEWAY}, {"gateway": "theirs"}
    expected: list[tuple[str, dict[str, str], float | None]] = [
        ("gateway_online", gateway, 1),
        ("gateway_online", theirs, 0),
        ("gateway_last_seen_timestamp_seconds", gateway, now / NS - 1),
        ("gateway_last_seen_timestamp_seconds", theirs, None),
        ("gateway_devices", gateway | {"state": "offline"}, 1),
        ("gateway_batches_waiting", gateway, 2),
        *(("points", {"quality": name}, n) for name, n in (("good", 2), ("uncertain", 0), ("bad", 1), ("none", 1))),
        ("points_silent", {}, 1),
        ("messages_waiting", {}, 4),
        ("messages_failing", {"channel": "mailto"}, 2),
        ("messages_overdue_seconds", {}, 30),
        ("messages_failed_last_hour", {}, 1),
        ("orders_oldest_seconds", {}, 9),
        ("tickets_overdue", {}, 1),
        ("quarantine_kept", {}, 1),
        ("stream_messages", {}, 1),
        ("stream_last", {}, 1),
        ("stream_bytes_limit", {}, 1 << 20),
        ("look_failures_total", {"what": "database"}, 0),
    ]
    assert [(name, labels, figure(name, **labels)) for name, labels, _ in expected] == expected
    assert (figure("data_disk_free_bytes") or 0) > 0
