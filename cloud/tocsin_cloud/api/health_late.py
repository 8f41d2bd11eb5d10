"""What went wrong of late, by how our counters grew: each for as long as the alert rule on it looks back."""

from collections.abc import Iterator
from typing import Final

from tocsin_cloud.api import model_health as model
from tocsin_cloud.api.health_seen import Seen, fault, warning

# The limits of dashboards/alerts/tocsin.yaml.
FIVE_MIN_S: Final = 300.0
TEN_MIN_S: Final = 600.0
QUARTER_S: Final = 900.0
REFUSED_COMMITS: Final = 5
STANDS_S: Final = 5.0
LATE_S: Final = "5.0"
LATE_SHARE: Final = 0.01
REFUSED_CLIENTS: Final = 20
AHEAD: Final = 10
QUARANTINED: Final = 100
LOOKS: Final = 30
COMPUTED: Final = 10_000
TOO_FAST: Final = "too-fast"


def of_late(seen: Seen) -> Iterator[model.Trouble]:
    """What the counters tell."""
    yield from _of_alarms(seen)
    yield from _of_gateways(seen)
    yield from _of_what_is_refused(seen)
    yield from _of_looks(seen)


def _of_alarms(seen: Seen) -> Iterator[model.Trouble]:
    # What is over is no fault any more: a database that was restarted refuses as many within 3 s.
    behind_s = seen.behind_s("alarms")
    stands = behind_s is None or behind_s > STANDS_S
    for role, times in seen.grown_by("commit_failures_total", FIVE_MIN_S, "role").items():
        if times > REFUSED_COMMITS:
            zh, en = f"数据库拒绝提交 {times:.0f} 次", f"The database refused {times:.0f} commits of {role}"
            told = fault if stands and role == "alarms" else warning
            yield told("commits-refused", role, None, f"{role}：{zh}", en)
    by_limit = seen.grown_by("alarm_latency_seconds_bucket", FIVE_MIN_S, "le")
    whole = by_limit.get("+Inf", 0.0)
    late = whole - by_limit.get(LATE_S, 0.0)
    if late > LATE_SHARE * whole:
        zh, en = f"{late:.0f} 条报警迟于 5 s", f"{late:.0f} of {whole:.0f} alarm steps were committed later than 5 s"
        yield warning("alarms-late", "alarms", None, zh, en)
    waiting = seen.figure("computed_waiting") or 0.0
    if waiting > COMPUTED:
        zh, en = "计算点结果无法写入流", "Computed readings do not get into the stream"
        yield warning("computed-waiting", "", None, zh, en)


def _of_gateways(seen: Seen) -> Iterator[model.Trouble]:
    for gateway, lost in seen.grown_by("journal_lost_total", QUARTER_S, "gateway").items():
        zh, en = "报警日志有缺失", "entries of its alarm journal are lost, or cannot be read"
        yield fault("journal-lost", gateway, None, f"网关 {gateway}：{lost:.0f} 处{zh}", f"Gateway {gateway}: {en}")
    for gateway, entries in seen.grown_by("journal_unheeded_total", QUARTER_S, "gateway").items():
        zh = f"网关 {gateway}：{entries:.0f} 条报警日志仅记为历史（厂区文件不同）"
        en = f"Gateway {gateway}: {entries:.0f} entries of its alarm journal move no alarm here, its plant file differs"
        yield warning("journal-unheeded", gateway, None, zh, en)
    if sum(seen.grown("spools_anew_total", QUARTER_S).values()):
        yield warning(
            "spool-anew", "", None, "有网关以新的或损坏的缓存启动", "A gateway began with a new spool, or a torn one"
        )
    ahead = sum(seen.grown("readings_ahead_total", TEN_MIN_S).values())
    if ahead > AHEAD:
        zh, en = f"{ahead:.0f} 个读数的时间超前", f"{ahead:.0f} readings are stamped ahead of time: a clock is wrong"
        yield warning("clock", "", None, zh, en)
    if sum(seen.grown("clock_steps_back_total", TEN_MIN_S).values()):
        yield warning("clock", "", None, "服务器时钟被拨回", "The server's clock stepped back")


def _of_what_is_refused(seen: Seen) -> Iterator[model.Trouble]:
    too_fast = seen.grown_by("quarantined_total", FIVE_MIN_S, "reason").get(TOO_FAST, 0.0)
    if too_fast:
        zh, en = (
            f"有网关发送过快：{too_fast:.0f} 条消息被拒收",
            f"A gateway sends faster than it may: {too_fast:.0f} messages were refused",
        )
        yield fault("too-fast", "", None, zh, en)
    for reason, payloads in seen.grown_by("quarantined_total", QUARTER_S, "reason").items():
        if reason != TOO_FAST and payloads > QUARANTINED:
            zh, en = f"拒收 {payloads:.0f} 份数据：{reason}", f"{payloads:.0f} payloads were refused: {reason}"
            yield warning("quarantine", reason, None, zh, en)
    for reason, clients in seen.grown_by("broker_refused_total", QUARTER_S, "reason").items():
        if clients > REFUSED_CLIENTS:
            yield warning(
                "broker-refuses", reason, None, f"消息总线拒绝客户端：{reason}", f"The broker refuses clients: {reason}"
            )
    if sum(seen.grown("history_dropped_values_total", QUARTER_S).values()):
        zh, en = "历史数据库丢弃读数", "The history's server drops readings: beyond its retention, or days ahead"
        yield warning("history-drops", "", None, zh, en)


def _of_looks(seen: Seen) -> Iterator[model.Trouble]:
    for what, times in seen.grown_by("look_failures_total", TEN_MIN_S, "what").items():
        if times > LOOKS:
            yield warning(
                "looks-fail",
                what,
                None,
                f"无法查看 {what}：相关指标已过时",
                f"The {what} cannot be looked at: its figures are old",
            )
