"""The system's own health: is the plant watched, and what is behind, refused or failing."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from scripts.dashboards.style import (
    GREEN,
    GREY,
    ORANGE,
    RED,
    TIME,
    YELLOW,
    Say,
    Steps,
    column,
    dashboard,
    figure,
    lines,
    listing,
    rows,
    series,
    table_of,
)

NONE_GOOD: Steps = ((None, GREEN), (1, RED))
POSITION = "tocsin_stream_position_timestamp_seconds"
COMMIT_P99 = "histogram_quantile(0.99, sum by (le, role) (rate(tocsin_commit_seconds_bucket[$__rate_interval])))"
BEHIND = "time() - min by (role) (tocsin_stream_position_timestamp_seconds)"
FIRING = 'max without (alertgroup, alertstate) (ALERTS{alertstate="firing"})'


def health(say: Say) -> build.Dashboard:
    """What the people see who look after the system."""
    made = dashboard(say, "health", say("系统健康", "The system's own health"), "now-3h")
    for title, query, unit_of, steps in _figures(say):
        made.with_panel(figure(title, say.needs_metrics, series(query), steps=steps, unit=unit_of))
    for title, unit, queries in _lines(say):
        made.with_panel(lines(title, say.needs_metrics, *(series(*query) for query in queries), unit=unit))
    made.with_panel(_firing(say))
    made.with_panel(_messages(say))
    return made


def _figures(say: Say) -> list[tuple[str, str, str, Steps]]:
    latency = "histogram_quantile(0.99, sum by (le) (rate(tocsin_alarm_latency_seconds_bucket[$__range])))"
    free = "min(tocsin_data_disk_free_bytes / tocsin_data_disk_bytes)"
    alarms, history = (f'max(time() - {POSITION}{{role="{role}"}})' for role in ("alarms", "historian"))
    failed = "max(tocsin_messages_failed_last_hour)"
    return [
        (say("报警滞后", "Alarms behind"), alarms, "s", ((None, GREEN), (5, YELLOW), (15, RED))),
        (say("历史滞后", "History behind"), history, "s", ((None, GREEN), (60, YELLOW), (600, RED))),
        (say("报警时延 p99", "Alarm latency, p99"), latency, "s", ((None, GREEN), (1, YELLOW), (5, RED))),
        (
            say("消息逾期", "Messages overdue"),
            "max(tocsin_messages_overdue_seconds)",
            "s",
            ((None, GREEN), (30, YELLOW), (120, RED)),
        ),
        (say("一小时内失败消息", "Messages failed in an hour"), failed, "short", NONE_GOOD),
        (
            say("等待网关的命令", "Orders waiting"),
            "max(tocsin_orders_oldest_seconds)",
            "s",
            ((None, GREEN), (30, YELLOW), (300, RED)),
        ),
        (say("磁盘剩余", "Disk free"), free, "percentunit", ((None, RED), (0.1, YELLOW), (0.2, GREEN))),
        (say("消息总线", "Broker"), "min(tocsin_broker_connected)", "short", ((None, RED), (1, GREEN))),
    ]


Line = tuple[str, str, list[tuple[str, str]]]


def _lines(say: Say) -> list[Line]:
    return [*_of_the_flow(say), *_of_what_bears_it(say)]


def _of_the_flow(say: Say) -> list[Line]:
    """Readings, alarms and messages on their way."""
    return [
        (say("各环节滞后", "How far each role is behind"), "s", [(BEHIND, "{{role}}")]),
        (
            say("流中待处理消息", "Messages of the stream that wait"),
            "short",
            [
                ("max by (role) (tocsin_stream_lag_messages)", "{{role}}"),
                ("max(tocsin_computed_waiting)", say("计算点", "computed")),
            ],
        ),
        (
            say("每秒读数", "Readings stored a second"),
            "ops",
            [("max(rate(tocsin_readings_stored_total[$__rate_interval]))", say("读数", "readings"))],
        ),
        (
            say("提交耗时 p99", "Time of a commit, p99"),
            "s",
            [
                (
                    COMMIT_P99,
                    "{{role}}",
                )
            ],
        ),
        (
            say("报警变迁", "Alarm transitions"),
            "short",
            [("max by (event) (increase(tocsin_alarm_transitions_total[$__rate_interval]))", "{{event}}")],
        ),
        (
            say("拒收的数据", "Payloads refused"),
            "short",
            [("max by (reason) (increase(tocsin_quarantined_total[$__rate_interval]))", "{{reason}}")],
        ),
        (
            say("迟到、超前、重复的读数", "Readings late, ahead of time, repeated"),
            "short",
            [
                ("max(increase(tocsin_readings_late_total[$__rate_interval]))", say("迟到", "late")),
                ("max(increase(tocsin_readings_ahead_total[$__rate_interval]))", say("超前", "ahead")),
                ("max(increase(tocsin_readings_repeated_total[$__rate_interval]))", say("重复", "repeated")),
            ],
        ),
        (
            say("发给人的消息", "Messages to people"),
            "short",
            [
                ("max by (outcome) (increase(tocsin_messages_total[$__rate_interval]))", "{{outcome}}"),
                ("max(tocsin_messages_waiting)", say("等待", "waiting")),
            ],
        ),
    ]


def _of_what_bears_it(say: Say) -> list[Line]:
    """Disk, processes, failures, requests."""
    return [
        (
            say("流与磁盘", "Stream and disk"),
            "bytes",
            [
                ("max(tocsin_stream_bytes)", say("流", "stream")),
                ("max(tocsin_stream_bytes_limit)", say("流上限", "its bound")),
                ("min(tocsin_data_disk_free_bytes)", say("磁盘剩余", "disk free")),
            ],
        ),
        (
            say("进程", "Processes"),
            "bytes",
            [
                (
                    "sum by (job, instance) (process_resident_memory_bytes)",
                    say("内存 {{instance}}", "memory {{instance}}"),
                )
            ],
        ),
        (
            say("失败", "Failures"),
            "short",
            [
                (
                    "max by (role) (increase(tocsin_commit_failures_total[$__rate_interval]))",
                    say("提交 {{role}}", "commits {{role}}"),
                ),
                (
                    "max by (what) (increase(tocsin_look_failures_total[$__rate_interval]))",
                    say("查看 {{what}}", "looks {{what}}"),
                ),
                ("max(increase(tocsin_journal_lost_total[$__rate_interval]))", say("网关日志缺失", "journal lost")),
            ],
        ),
        (
            say("HTTP 请求", "HTTP requests"),
            "reqps",
            [("sum by (status) (rate(tocsin_http_requests_total[$__rate_interval]))", "{{status}}")],
        ),
    ]


def _firing(say: Say) -> table.Panel:
    """The alert rules that fire; each row has the labels that its rule has."""
    panel = listing(say("正在触发的系统告警规则", "Alert rules that fire"), say.needs_rules, rows(FIRING))
    severity = say("级别", "Severity")
    names = {"alertname": say("规则", "Rule"), "severity": severity}
    shown = {
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {name: place for place, name in enumerate(names)},
        "renameByName": names,
    }
    panel.with_transformation(DataTransformerConfig("organize", options=shown))
    grades = {"critical": (say("严重", "critical"), RED), "warning": (say("警告", "warning"), YELLOW)}
    return column(panel, severity, mapped=grades, width=110)


def _messages(say: Say) -> table.Panel:
    due, state = say("应发时间", "Due"), say("结果", "Outcome")
    columns = {
        due: "due_ns / 1000000",
        state: "state",
        say("收件人", "To"): "to_person",
        # An address may hold a password.
        say("渠道", "Channel"): "split_part(channel, ':', 1)",
        say("内容", "Subject"): "subject",
        say("次数", "Attempts"): "attempts",
        say("原因", "Error"): "coalesce(error, '')",
    }
    query = table_of(columns, "FROM message ORDER BY due_ns DESC LIMIT 100")
    panel = listing(say("最近消息", "Latest messages"), say.needs_tables, query)
    column(panel, due, unit=TIME, width=170)
    states = {
        "delivered": (say("已送达", "delivered"), GREEN),
        "failed": (say("失败", "failed"), RED),
        "pending": (say("等待", "pending"), YELLOW),
        "sending": (say("发送中", "on its way"), ORANGE),
        "cancelled": (say("已取消", "cancelled"), GREY),
    }
    return column(panel, state, mapped=states, width=110)
