"""The HTTP interface in a process of its own: the workers answer for present state and history over the broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from io import BytesIO
from typing import Any, Final

import numpy as np
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_cloud.api.ports import (
    ApiPorts,
    ClockStatus,
    DeviceStatus,
    Figures,
    GatewayStatus,
    Latest,
    Live,
    Ready,
    SliceStatus,
    Undeclared,
)
from tocsin_cloud.loops.live import Outlook
from tocsin_core.clock import Clock
from tocsin_core.kpi import Flood

log = structlog.get_logger(__name__)

LIVE: Final = "tocsin.ask.live"
HISTORY: Final = "tocsin.ask.history"
LOOK_S: Final = 0.5
PATIENCE_S: Final = 2.0
HISTORY_PATIENCE_S: Final = 15.0
SILENT_S: Final = 5.0  # the workers are held to be gone when they have not answered for this long

Columns = Mapping[str, NDArray[Any]]


def _pack(columns: Columns, rest: object) -> bytes:
    buffer = BytesIO()
    text = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    np.savez(buffer, **{"rest": text, **columns})  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(data: bytes) -> tuple[Columns, Any]:
    with np.load(BytesIO(data), allow_pickle=False) as held:
        columns = {name: held[name] for name in held.files}
    return columns, json.loads(columns.pop("rest").tobytes())


@asynccontextmanager
async def answering(client: Client, ports: ApiPorts) -> AsyncIterator[None]:
    """Answer, while the context lasts, what the interface's process asks of the workers."""
    site = ports.plant.site.id

    async def live(message: Msg) -> None:
        await message.respond(_pack(*_present(ports.live, ports.ready, ports.metrics)))

    async def history(message: Msg) -> None:
        asked = json.loads(message.data)
        try:
            trend = await ports.history.read(*asked)
        except HistoryError as error:
            await message.respond(_pack({}, str(error) or repr(error)))
        else:
            columns = {name: getattr(trend, name) for name in Trend.__slots__}
            await message.respond(_pack(columns, None))

    subscriptions = [
        await client.subscribe(f"{LIVE}.{site}", cb=live),
        await client.subscribe(f"{HISTORY}.{site}", cb=history),
    ]
    log.info("workers answer", site=site)
    try:
        yield
    finally:
        for subscription in subscriptions:
            if client.is_connected:
                await subscription.unsubscribe()


def _present(live: Live, ready: Ready, metrics: CollectorRegistry) -> tuple[Columns, dict[str, Any]]:
    latest = live.latest()
    rest = {
        "undeclared": [asdict(one) for one in live.undeclared()],
        "projections": {point: asdict(ahead) for point, ahead in live.projections().items()},
        "gateways": [asdict(gateway) for gateway in live.gateways()],
        "figures": asdict(live.figures()),
        "flood": live.flood(),
        "ready": ready(),
        "metrics": generate_latest(metrics).decode(),
    }
    return {"time_ns": latest.time_ns, "value": latest.value, "quality": latest.quality}, rest


class WorkersSilentError(RuntimeError):
    """The workers have never answered."""


class RemoteLive:
    """The workers' present state as they last told it, at most `LOOK_S` old while they answer."""

    def __init__(self, client: Client, site: str, clock: Clock) -> None:
        """Nothing is known before `hear` has returned."""
        self._client = client
        self._subject = f"{LIVE}.{site}"
        self._clock = clock
        self._columns: Columns = {}
        self._rest: dict[str, Any] = {}
        self._last = clock.monotonic()
        self._silent = False

    async def hear(self, stop: asyncio.Event) -> None:
        """Wait for the workers' first answer.

        Raises:
            WorkersSilentError: `stop` was set before one came.
        """
        while not await self._ask():
            if stop.is_set():
                raise WorkersSilentError("ended before the workers had answered")
            await asyncio.sleep(LOOK_S)

    async def follow(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._ask()

    async def _ask(self) -> bool:
        try:
            reply = await self._client.request(self._subject, b"", timeout=PATIENCE_S)
        except NatsError as error:
            # Told once: a worker that is away is away for many questions.
            if not self._silent:
                log.warning("the workers do not answer", reason=str(error) or repr(error))
            self._silent = True
            return False
        self._columns, self._rest = _unpack(reply.data)
        self._last, self._silent = self._clock.monotonic(), False
        return True

    def ready(self) -> str | None:
        """None while the workers answer and are ready, else what is missing."""
        if self._clock.monotonic() - self._last > SILENT_S:
            return "the workers do not answer"
        reason: str | None = self._rest["ready"]
        return reason

    def latest(self) -> Latest:
        """The latest readings."""
        return Latest(self._columns["time_ns"], self._columns["value"], self._columns["quality"])

    def undeclared(self) -> Sequence[Undeclared]:
        """Metrics that are not in the plant file."""
        return [Undeclared(**one) for one in self._rest["undeclared"]]

    def projections(self) -> Mapping[str, Outlook]:
        """By point id."""
        return {point: Outlook(**ahead) for point, ahead in self._rest["projections"].items()}

    def flood(self) -> Flood | None:
        """The alarm flood that goes on."""
        told = self._rest["flood"]
        return None if told is None else Flood(*told)

    def gateways(self) -> Sequence[GatewayStatus]:
        """Every gateway heard of."""
        return [_gateway(told) for told in self._rest["gateways"]]

    def figures(self) -> Figures:
        """The workers' counters."""
        return Figures(**self._rest["figures"])

    def metrics(self) -> str:
        """The workers' figures in the Prometheus text format."""
        text: str = self._rest["metrics"]
        return text


def _gateway(told: dict[str, Any]) -> GatewayStatus:
    clock, piece = told["clock"], told["slice"]
    parts = {
        "devices": tuple(DeviceStatus(**device) for device in told["devices"]),
        "clock": None if clock is None else ClockStatus(**clock),
        "slice": None if piece is None else SliceStatus(**piece),
        "unsynchronised": tuple((first, last) for first, last in told["unsynchronised"]),
    }
    return GatewayStatus(**{**told, **parts})


class WorkersMetrics(Collector):
    """The workers' figures among the interface's own."""

    def __init__(self, live: RemoteLive) -> None:
        """Pass on what `live` last heard."""
        self._live = live

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the workers have been heard."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metric families."""
        return text_string_to_metric_families(self._live.metrics())


class RemoteHistory:
    """The reading side of the history, answered by the workers."""

    def __init__(self, client: Client, site: str) -> None:
        """Ask the workers of `site`."""
        self._client = client
        self._subject = f"{HISTORY}.{site}"

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """As `tocsin_cloud.adapters.history.History.read`.

        Raises:
            HistoryError: the store, or the workers, do not answer.
        """
        asked = json.dumps([point_id, start_ns, end_ns, step_ns, limit]).encode()
        try:
            reply = await self._client.request(self._subject, asked, timeout=HISTORY_PATIENCE_S)
        except NatsError as error:
            raise HistoryError(f"the workers do not answer: {error!r}") from error
        columns, refused = _unpack(reply.data)
        if refused is not None:
            raise HistoryError(refused)
        return Trend(**columns)
