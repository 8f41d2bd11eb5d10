"""Judges whether the plant is being watched: by the gateways and points of the live view, and by our own figures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from sqlalchemy import select

from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.api import model_health as model
from tocsin_cloud.api.health_late import QUARTER_S, STANDS_S, of_late
from tocsin_cloud.api.health_seen import Seen, fault, warning
from tocsin_cloud.api.model import Name
from tocsin_cloud.api.ports import GatewayStatus
from tocsin_cloud.api.present import name, plain_name
from tocsin_cloud.api.sorting import STANDING_TEXT
from tocsin_cloud.loops.skew import is_skewed
from tocsin_core.plant import AlarmKind, PlantPoint
from tocsin_core.rules import NS

# The limits of dashboards/alerts/tocsin.yaml, without the time for which a rule waits.
ALARMS_BEHIND_S: Final = 30.0
HISTORY_BEHIND_S: Final = 600.0
GATEWAY_SILENT_S: Final = 120.0
OVERDUE_S: Final = 120.0
ORDERS_S: Final = 120.0
CERTIFICATE_NS: Final = 14 * 86_400 * NS
DISK_LEAST: Final = 0.1
UNREAD_MOST: Final = 0.5
REBUILT_S: Final = 3600.0
NAMED: Final = 5
ROLES: Final = ("alarms", "historian")


async def instruments_since(database: Database) -> dict[str, int]:
    """Return since when (ns) a point's own alarm says that it is bad or silent."""
    kinds = (str(AlarmKind.BAD), str(AlarmKind.STALE))
    query = select(Occurrence.point, Occurrence.raised_ns).where(
        Occurrence.kind.in_(kinds), Occurrence.phase.in_(STANDING_TEXT)
    )
    found: dict[str, int] = {}
    async with database.read() as session:
        for point, raised_ns in await session.execute(query):
            found[point] = min(raised_ns, found.get(point, raised_ns))
    return found


def report(seen: Seen, started_ns: int) -> model.HealthReport:
    """Judge what was seen."""
    troubles = [
        *_of_the_work(seen), *_of_gateways(seen), *_of_people(seen), *_of_storage(seen), *of_late(seen),
    ]  # fmt: skip
    troubles.sort(key=lambda trouble: trouble.severity != "fault")
    declared = [gateway.id for gateway in seen.plant.file.gateways]
    waiting, overdue, failed = (
        seen.figure(each) or 0.0
        for each in ("messages_waiting", "messages_overdue_seconds", "messages_failed_last_hour")
    )
    return model.HealthReport(
        watching=not any(trouble.severity == "fault" for trouble in troubles),
        at=seen.now_ns,
        started_at=started_ns,
        troubles=troubles,
        roles=[_role(seen, role) for role in ROLES],
        gateways=len(declared),
        gateways_online=sum(_state(seen, gateway) == "online" for gateway in declared),
        points=len(seen.plant.points),
        points_dark=int(np.count_nonzero(seen.unlit)),
        sources=_sources(seen),
        messages=model.Messages(waiting=int(waiting), overdue_s=overdue, failed_last_hour=int(failed)),
        readings_per_second=seen.figure("readings_per_second") or 0.0,
    )


def _role(seen: Seen, role: str) -> model.RoleHealth:
    behind = seen.behind_s(role)
    limit = ALARMS_BEHIND_S if role == "alarms" else HISTORY_BEHIND_S
    waiting = seen.figure("stream_lag_messages", role=role) or 0.0
    if behind is not None and behind > STANDS_S:
        # Who waits for a database takes nothing, and does not know what has come since.
        at, last = seen.figure("stream_position", role=role), seen.figure("stream_last")
        waiting = max(waiting, (last or 0.0) - at if at else 0.0)
    return model.RoleHealth(
        role=role, works=behind is not None and behind <= limit, behind_s=behind, waiting=int(waiting)
    )


def _state(seen: Seen, gateway: str) -> str:
    status = seen.gateways.get(gateway)
    return "unknown" if status is None else status.state


def _sources(seen: Seen) -> list[model.SourceHealth]:
    points = Counter(point.source for point in seen.plant.points)
    lost = Counter(point.source for point in seen.plant.points if seen.unlit[point.index])
    return [
        model.SourceHealth(id=source.id, name=name(source.name), points=points[source.id], dark=lost[source.id])
        for source in seen.plant.file.hazard_sources
    ]


def _of_the_work(seen: Seen) -> Iterator[model.Trouble]:
    if seen.not_ready is not None:
        yield fault(
            "not-ready", "", None, f"云端未就绪：{seen.not_ready}", f"The cloud side is not ready: {seen.not_ready}"
        )
    if seen.figure("broker_connected") == 0:
        yield fault("broker", "", None, "与消息总线断开", "The broker is lost")
    if seen.figure("role_answers", role="notify") == 0:
        yield fault("role", "notify", None, "没有听到进程在发送消息", "Nobody is heard who sends messages to people")
    behind = seen.behind_s("alarms")
    if behind is None:
        yield fault("role", "alarms", None, "没有进程在判断报警", "Nobody judges alarms")
    elif behind > ALARMS_BEHIND_S:
        since = seen.now_ns - round(behind * NS)
        yield fault("role", "alarms", since, "报警判断停止或滞后", "Alarms are not judged, or late")
    ahead = seen.clock_behind_s("alarms")
    if ahead > ALARMS_BEHIND_S:
        zh, en = "本机时钟落后于消息流", "The clock here is behind the stream's: whether alarms are late cannot be seen"
        yield warning("clock", "", None, f"{zh} {ahead:.0f} s", f"{en} ({ahead:.0f} s)")
    yield from _of_what_was_rebuilt(seen)
    stored = seen.behind_s("historian")
    if stored is None:
        yield warning("history-behind", "historian", None, "没有进程在存储历史", "Nobody stores readings")
    elif stored > HISTORY_BEHIND_S:
        since = seen.now_ns - round(stored * NS)
        yield warning(
            "history-behind", "historian", since, "历史存储滞后（不影响报警）", "The history is behind (alarms are not)"
        )


def _of_what_was_rebuilt(seen: Seen) -> Iterator[model.Trouble]:
    at_s, waiting = seen.figure("engine_rebuilt_timestamp_seconds") or 0.0, int(seen.figure("alarms_unconfirmed") or 0)
    if at_s and (waiting or seen.now_ns / NS - at_s < REBUILT_S):
        yield warning(
            "alarms-rebuilt",
            "alarms",
            round(at_s * NS),
            f"报警引擎状态丢失，已按数据库记录恢复；{waiting} 条报警尚无新读数确认",
            f"The alarm engine's state was lost: alarms stand as recorded, {waiting} of them unconfirmed by a reading",
        )


def _of_gateways(seen: Seen) -> Iterator[model.Trouble]:
    of_gateway: dict[str, list[PlantPoint]] = {}
    for point in seen.plant.measured:
        of_gateway.setdefault(point.gateway.id, []).append(point)
    for gateway in seen.plant.file.gateways:
        called = plain_name(gateway.id) if gateway.name is None else name(gateway.name)
        status = seen.gateways.get(gateway.id)
        points = of_gateway.get(gateway.id, [])
        if status is None or status.state != "online":
            since = None if status is None else status.since_ns
            n = len(points)
            yield fault(
                "gateway-away",
                gateway.id,
                since,
                f"网关 {called.zh} 不在线，{n} 个测点无人监视",
                f"Gateway {called.en} is away: {n} points unwatched",
            )
            continue
        if status.last_seen_ns is not None and seen.now_ns - status.last_seen_ns > GATEWAY_SILENT_S * NS:
            yield fault(
                "gateway-silent",
                gateway.id,
                status.last_seen_ns,
                f"网关 {called.zh} 在线但静默",
                f"Gateway {called.en} is there and says nothing",
            )
            continue
        yield from _of_devices(seen, points)
        yield from _of_a_gateway(seen, status, called)


def _of_devices(seen: Seen, points: Sequence[PlantPoint]) -> Iterator[model.Trouble]:
    by_device: dict[str, list[PlantPoint]] = {}
    for point in points:
        by_device.setdefault(point.device.id, []).append(point)
    for device, theirs in by_device.items():
        lost = [point for point in theirs if seen.unlit[point.index]]
        if not lost:
            continue
        known = [seen.since[point.id] for point in lost if point.id in seen.since]
        of = f"{len(lost)}/{len(theirs)}"
        which = ", ".join(point.id for point in lost[:NAMED]) + (" …" if len(lost) > NAMED else "")
        yield fault(
            "points-dark",
            device,
            min(known, default=None),
            f"设备 {device}：{of} 个测点无法判断（{which}）",
            f"Device {device}: {of} points in the dark ({which})",
        )


def _of_a_gateway(seen: Seen, status: GatewayStatus, called: Name) -> Iterator[model.Trouble]:
    def told(kind: model.TroubleKind, since_ns: int | None, zh: str, en: str) -> model.Trouble:
        return warning(kind, status.id, since_ns, f"网关 {called.zh}：{zh}", f"Gateway {called.en}: {en}")

    if status.clock is not None and not status.clock.synchronised:
        yield told("clock", status.clock.since_ns, "无人校对时钟", "nobody sets its clock")
    if is_skewed(status.skew_s):
        yield told("clock", None, f"时钟偏差 {status.skew_s:+.0f} s", f"its clock is wrong by {status.skew_s:+.0f} s")
    if status.certificate_ends_ns is not None and status.certificate_ends_ns - seen.now_ns < CERTIFICATE_NS:
        days = max(0, (status.certificate_ends_ns - seen.now_ns) // (86_400 * NS))
        yield told("certificate", None, f"证书 {days} 天后到期", f"its certificate ends in {days} days")
    if status.slice is not None and status.slice.current is False:
        yield told("plant-file", None, "运行的不是当前配置", "it runs on another plant file than the one here")
    disagreed = seen.figure("disagreements", gateway=status.id) or 0
    if disagreed:
        n = int(disagreed)
        yield told("disagreement", None, f"{n} 条报警与读数判断不一致", f"it and the readings disagree on {n} alarms")


def _of_people(seen: Seen) -> Iterator[model.Trouble]:
    overdue = seen.figure("messages_overdue_seconds") or 0.0
    if overdue > OVERDUE_S:
        since = seen.now_ns - round(overdue * NS)
        yield fault(
            "messages-overdue", "", since, "消息没有发出：人员未被通知", "Messages do not go out: people are not told"
        )
    failed = int(seen.figure("messages_failed_last_hour") or 0)
    if failed:
        yield fault(
            "messages-failed",
            "",
            None,
            f"一小时内 {failed} 条消息发送失败",
            f"{failed} messages were given up in the last hour",
        )
    for channel, waiting in sorted(seen.labelled("messages_failing", "channel").items()):
        if waiting:
            zh = f"{waiting:.0f} 条消息经 {channel}:// 未能发出，正在重试"
            en = f"{waiting:.0f} messages did not get out by {channel}:// and are tried again"
            yield fault("messages-failing", channel, None, zh, en)
    for channel, dead in sorted(seen.labelled("ways_dead", "channel").items()):
        if dead:
            zh = f"{dead:.0f} 个 {channel}:// 通知渠道不通：届时无法通知人员"
            en = f"{dead:.0f} services of {channel}:// do not work: nobody would be told by them"
            yield fault("way-dead", channel, None, zh, en)
    orders = seen.figure("orders_oldest_seconds") or 0.0
    if orders > ORDERS_S:
        since = seen.now_ns - round(orders * NS)
        yield warning("orders-waiting", "", since, "发往网关的命令没有回应", "A command waits for its gateway")
    tickets = int(seen.figure("tickets_overdue") or 0)
    if tickets:
        yield warning(
            "tickets-overdue", "", None, f"{tickets} 项隐患超期", f"{tickets} tickets are past their deadline"
        )


def _of_storage(seen: Seen) -> Iterator[model.Trouble]:
    free, size = seen.figure("data_disk_free_bytes") or 0.0, seen.figure("data_disk_bytes") or 0.0
    if size and free / size < DISK_LEAST:
        yield warning("disk", "", None, f"数据盘只剩 {free / size:.0%}", f"The data disk has {free / size:.0%} left")
    for role in ROLES:
        yield from _of_the_unread(seen, role)


def _of_the_unread(seen: Seen, role: str) -> Iterator[model.Trouble]:
    who = Name(zh="报警判断", en="the alarms worker") if role == "alarms" else Name(zh="历史存储", en="the historian")
    unread = seen.unread(role)
    if unread > UNREAD_MOST:
        yield warning(
            "stream",
            role,
            None,
            f"{who.zh}未读消息已占消息流上限的 {unread:.0%}，满后丢弃最旧消息",
            f"What {who.en} has yet to read is {unread:.0%} of what the stream may hold: beyond that the oldest goes",
        )
    dropped = int(seen.grown_by("stream_unread_dropped_total", QUARTER_S, "role").get(role, 0.0))
    if dropped:
        yield warning(
            "stream",
            role,
            None,
            f"消息流丢弃了{who.zh}未读的 {dropped} 条消息",
            f"The stream dropped {dropped} messages before {who.en} had read them",
        )
