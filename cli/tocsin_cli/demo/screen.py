"""What the demo shows in the terminal: the page's address, the processes, and the incident as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tocsin_cli.demo.processes import Process

Row = dict[str, Any]
PRIORITY_STYLE: Final = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}
TAKEN_ROWS: Final = 16  # lines of the screen that are no alarms
LEAST_ROWS: Final = 4
NEAREST: Final = 4
ACTIVE: Final = ("unacknowledged", "acknowledged")
HALFWAY: Final = 0.5


@dataclass(slots=True)
class View:
    """The last that was heard of the cloud side."""

    kpi: Row = field(default_factory=dict)
    points: Sequence[Row] = ()
    alarms: Sequence[Row] = ()
    tickets: Sequence[Row] = ()
    notifications: Sequence[Row] = ()
    silent: bool = True


def _clock(text: str | None, zone: ZoneInfo) -> str:
    return "" if text is None else datetime.fromisoformat(text).astimezone(zone).strftime("%H:%M:%S")


def _table(title: str, widths: Sequence[int | None]) -> Table:
    """A table without frames: columns of these widths, the one without taking what is left."""
    table = Table(title=title, title_justify="left", expand=True, box=None, show_header=False)
    for width in widths:
        table.add_column(width=width, ratio=1 if width is None else None, no_wrap=True, overflow="ellipsis")
    return table


def _processes(processes: Sequence[Process]) -> Text:
    line = Text()
    for process in processes:
        line.append("● " if process.alive else "○ ", style="green" if process.alive else "bold red")
        line.append(process.spec.name, style="bold")
        line.append(f" pid {process.handle.pid}", style="dim")
        line.append(f" ×{process.restarts + 1}  " if process.restarts else "  ", style="yellow")
    return line


def numbers(view: View) -> Text:
    """The cloud side's figures in one line."""
    kpi = view.kpi
    if view.silent:
        return Text("the cloud side does not answer", style="bold red")
    latency = kpi["latency_ms"]
    p99 = "—" if latency["p99"] is None else f"{latency['p99']:.0f} ms"
    return Text(
        f"{kpi['points']} points · {kpi['gateways_online']} gateways · {kpi['readings_stored']} readings stored · "
        f"{kpi['readings_per_second']:.0f}/s · "
        f"{kpi['alarms_active']} active alarms ({kpi['alarms_unacknowledged']} unacknowledged) · "
        f"{kpi['tickets_opened']} tickets · {kpi['messages_delivered']} messages · reading to alarm p99 {p99}"
    )


def _nearest(view: View) -> Text:
    """The points that are nearest to their high limit: what an incident is seen by."""
    shares = [
        (point["value"] / limit["setpoint"], point)
        for point in view.points
        for limit in point["limits"]
        if limit["kind"] == "H" and point["value"] is not None and limit["setpoint"]
    ]
    line = Text(no_wrap=True, overflow="ellipsis")
    for share, point in sorted(shares, key=lambda pair: -pair[0])[:NEAREST]:
        style = "bold red" if share >= 1 else "yellow" if share >= HALFWAY else ""
        value = f"{point['value']:.{point['decimals']}f} {point['unit']}"
        line.append(f"{point['id']} {value}".rstrip(), style=style)
        line.append(f" {share:.0%} H   ", style="dim")
    return line


def _alarms(view: View, zone: ZoneInfo, rows: int) -> Table:
    table = _table("alarms / 报警", (8, 8, 24, None))
    # What is active stands above what has returned, whoever has or has not acknowledged it.
    for row in sorted(view.alarms, key=lambda row: row["phase"] not in ACTIVE)[:rows]:
        text = f"{row['message']['zh']} / {row['message']['en']}"
        priority = Text(row["priority"], style=PRIORITY_STYLE[row["priority"]])
        table.add_row(_clock(row["raised_at"], zone), priority, row["phase"], text)
    return table


def _told(view: View, zone: ZoneInfo) -> Table:
    table = _table("tickets and messages / 隐患与通知", (8, 20, 19, None))
    for row in view.tickets[:3]:
        table.add_row(_clock(row["opened_at"], zone), row["id"], row["state"], row["title"]["zh"])
    for row in view.notifications[:4]:
        when = _clock(row["sent_at"] or row["due_at"], zone)
        table.add_row(when, f"→ {row['to']}", row["state"], row["subject"])
    return table


@dataclass(frozen=True, slots=True)
class Head:
    """What stands on top and does not change: the page's address, how to sign in, the site's time zone."""

    address: str
    login: str
    zone: ZoneInfo


def render(head: Head, processes: Sequence[Process], view: View, height: int) -> RenderableType:
    """The whole screen, for a terminal of `height` lines."""
    rows = max(LEAST_ROWS, height - TAKEN_ROWS)
    top = Text.assemble(("Tocsin ", "bold"), (head.address, "bold underline cyan"), f" {head.login} · Ctrl-C ends it")
    return Group(
        top,
        _processes(processes),
        numbers(view),
        _nearest(view),
        Text(),
        _alarms(view, head.zone, rows),
        _told(view, head.zone),
    )
