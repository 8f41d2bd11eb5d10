"""What the gateway answers to whoever asks how it and its alarms are, and what it does for those on its machine."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from tocsin_edge.adapters.metrics import JSON, TEXT, Page, folder_socket, port_socket, serving
from tocsin_edge.loops.alarm_report import alarms_page, obey
from tocsin_edge.loops.local_alarms import LocalAlarms
from tocsin_edge.loops.self_metrics import metrics
from tocsin_edge.loops.self_report import SelfReport

log = structlog.get_logger()


@asynccontextmanager
async def answering(report: SelfReport, alarms: LocalAlarms, folder: Path, address: str | None) -> AsyncIterator[None]:
    """Answer on a socket in `folder` and, where it is given, at `address` (HOST:PORT or PORT), until left.

    Commands for `alarms` are taken on the socket alone: whoever may write to the gateway's files may give them.

    Raises:
        ValueError: `address` is no address.
        OSError: `address` cannot be had.
    """
    listeners = [] if address is None else [port_socket(address)]
    for listener in listeners:
        log.info("figures", address=listener.getsockname()[:2])
    try:
        listeners.append(folder_socket(folder))
    except OSError as error:
        # On a disk that takes nothing the gateway works on, so it must start.
        log.warning("no status socket", folder=str(folder), reason=str(error))
    pages = {
        "/metrics": Page(TEXT, partial(metrics, report)),
        "/status": Page(JSON, lambda: json.dumps(report.status(), ensure_ascii=False)),
        "/healthz": Page(TEXT, lambda: f"{report.line()}\n"),
        "/alarms": Page(JSON, partial(alarms_page, alarms)),
    }
    async with serving(listeners, pages, {"/alarms": partial(obey, alarms)}):
        yield
