"""What the demo shows in the terminal: the page's address, the processes, and the incident as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tocsin_cli.demo.processes import Process

Row = dict[str, Any]
PRIORITY_STYLE: Final = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}
ROWS: Final = 8


@dataclass(slots=True)
class View:
    """The last that was heard of the cloud side."""

    kpi: Row = field(default_factory=dict)
    gateways: Sequence[Row] = ()
    alarms: Sequence[Row] = ()
    tickets: Sequence[Row] = ()
    notifications: Sequence[Row] = ()
    silent: bool = True


def _clock(text: str | None) -> str:
    return "" if text is None else text[11:19]


def _processes(processes: Sequence[Process]) -> Text:
    line = Text()
    for process in processes:
        line.append("● " if process.alive else "○ ", style="green" if process.alive else "bold red")
        line.append(process.spec.name, style="bold")
        line.append(f" pid {process.handle.pid}", style="dim")
        line.append(f" ×{process.restarts + 1}  " if process.restarts else "  ", style="yellow")
    return line


def _numbers(view: View) -> Text:
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


def _alarms(view: View) -> Table:
    table = Table(title="alarms / 报警", title_justify="left", expand=True, box=None, header_style="dim")
    for column in ("raised (UTC)", "priority", "state", "alarm"):
        table.add_column(column, no_wrap=True)
    for row in view.alarms[:ROWS]:
        text = f"{row['alarm']}  {row['message']['zh']} / {row['message']['en']}"
        table.add_row(
            _clock(row["raised_at"]), Text(row["priority"], style=PRIORITY_STYLE[row["priority"]]), row["phase"], text
        )
    return table


def _told(view: View) -> Table:
    table = Table(
        title="tickets and messages / 隐患与通知", title_justify="left", expand=True, box=None, header_style="dim"
    )
    for column in ("time (UTC)", "what", "state", ""):
        table.add_column(column, no_wrap=True)
    for row in view.tickets[:3]:
        table.add_row(_clock(row["opened_at"]), row["id"], row["state"], row["title"]["zh"])
    for row in view.notifications[:4]:
        table.add_row(_clock(row["sent_at"] or row["due_at"]), f"→ {row['to']}", row["state"], row["subject"])
    return table


def render(address: str, login: str, processes: Sequence[Process], view: View) -> RenderableType:
    """The whole screen."""
    head = Text.assemble(("Tocsin demo  ", "bold"), (address, "bold underline cyan"), f"   {login}   Ctrl-C ends it")
    return Group(head, _processes(processes), _numbers(view), Text(), _alarms(view), _told(view))
