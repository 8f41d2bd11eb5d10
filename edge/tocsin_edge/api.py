"""What the gateway answers to whoever asks how it is: `/metrics`, `/status` and `/healthz`, on this machine."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from tocsin_edge.adapters.metrics import JSON, TEXT, Page, folder_socket, port_socket, serving
from tocsin_edge.loops.self_metrics import metrics
from tocsin_edge.loops.self_report import SelfReport

log = structlog.get_logger()


@asynccontextmanager
async def answering(report: SelfReport, folder: Path, address: str | None) -> AsyncIterator[None]:
    """Answer on a socket in `folder` and, where it is given, at `address` (HOST:PORT or PORT), until left.

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
    }
    async with serving(listeners, pages):
        yield
