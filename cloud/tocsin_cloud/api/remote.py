"""The HTTP interface apart from the workers: who holds a role answers for its present state and history, by NATS."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import pairwise
from math import inf
from typing import Any, Final

import numpy as np
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tocsin_cloud.adapters.history import HistoryError, StoredReadings, Trend, Wanted
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.api.added import Added
from tocsin_cloud.api.live_port import LivePort
from tocsin_cloud.api.ports import (
    ClockStatus,
    DeviceStatus,
    Figures,
    GatewayStatus,
    Latest,
    ReadingsUnknownError,
    Ready,
    SliceStatus,
    Undeclared,
)
from tocsin_cloud.loops.candidates import CANDIDATE, Candidate
from tocsin_cloud.loops.live import Outlook
from tocsin_cloud.settings import WORKERS, Role
from tocsin_core.clock import Clock
from tocsin_core.kpi import Flood

log = structlog.get_logger(__name__)

ASK: Final = "tocsin.ask"
HISTORY: Final = f"{ASK}.history"
EACH: Final = f"{ASK}.history-each"
LOOK_S: Final = 0.5
# What is long, all figures and what is known of each gateway, need not be as new. Who asks without it says so in a
# header: a worker of an earlier version tells everything all the same.
DETAILS_S: Final = 2.0
BRIEF: Final = "Tocsin-Brief"
FIGURES_S: Final = 5.0
PATIENCE_S: Final = 2.0
HISTORY_PATIENCE_S: Final = 15.0
OTHER_PLANT: Final = "the alarms worker works on another plant file than this page: its points are others"
SILENT_S: Final = 5.0  # a role is held to be done by nobody when nobody has answered for it for this long, and
MISSED: Final = 2  # so many questions in a row were in vain: who was held up itself has not heard the answers
PORTION: Final = 100_000  # readings in one answer: a broker takes no message of any size

Columns = Mapping[str, NDArray[Any]]
COLUMNS: Final = ("time_ns", "value", "quality")
"""Of the latest readings, in the order of their fields."""


def _pack(columns: Columns, rest: object) -> bytes:
    buffer = BytesIO()
    text = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    np.savez(buffer, **{"rest": text, **columns})  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(data: bytes) -> tuple[Columns, Any]:
    with np.load(BytesIO(data), allow_pickle=False) as held:
        columns = {name: held[name] for name in held.files}
    return columns, json.loads(columns.pop("rest").tobytes())


@dataclass(frozen=True, slots=True)
class Told:
    """What a process has to tell of its roles: the leases by role, and where its state is."""

    site: str
    process: str
    leases: Mapping[Role, Lease]
    live: LivePort
    history: StoredReadings
    ready: Ready
    metrics: CollectorRegistry
    clock: Clock


class _Figures:
    """The figures of a process as text, at most `FIGURES_S` old."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._text = ""
        self._until = 0.0

    def text(self) -> str:
        now = self._told.clock.monotonic()
        if not self._text or now >= self._until:
            self._text, self._until = generate_latest(self._told.metrics).decode(), now + FIGURES_S
        return self._text


@asynccontextmanager
async def answering(client: Client, told: Told) -> AsyncIterator[None]:
    """Answer, while the context lasts, what the interface asks of the roles that this process holds then."""
    figures = _Figures(told)
    asked = {f"{ASK}.{role}.{told.site}": partial(_answer_state, told, figures, role) for role in told.leases}
    if Role.HISTORIAN in told.leases:
        asked[f"{HISTORY}.{told.site}"] = partial(_answer_history, told)
        asked[f"{EACH}.{told.site}"] = partial(_answer_each, told)
    subscriptions = [await client.subscribe(subject, cb=answer) for subject, answer in asked.items()]
    log.info("worker answers", site=told.site, roles=sorted(told.leases))
    try:
        yield
    finally:
        for subscription in subscriptions:
            if client.is_connected:
                await subscription.unsubscribe()


async def _answer_state(told: Told, figures: _Figures, role: Role, message: Msg) -> None:
    # A candidate is silent: the one who holds the lease answers.
    if told.leases[role].trusted:
        first = int(message.data) if message.data else None
        columns, rest = await _present(role, told, first)
        if not first and BRIEF not in (message.headers or {}):
            rest |= _details(role, told, figures)
        await message.respond(_pack(columns, rest))


async def _answer_history(told: Told, message: Msg) -> None:
    if not told.leases[Role.HISTORIAN].trusted:
        return
    asked = json.loads(message.data)
    try:
        trend = await told.history.read(*asked)
    except HistoryError as error:
        await message.respond(_pack({}, str(error) or repr(error)))
    else:
        columns = {name: getattr(trend, name) for name in Trend.__slots__}
        await message.respond(_pack(columns, None))


async def _answer_each(told: Told, message: Msg) -> None:
    if not told.leases[Role.HISTORIAN].trusted:
        return
    wanted = [Wanted(*each) for each in json.loads(message.data)]
    try:
        trends = await told.history.read_each(wanted)
    except HistoryError as error:
        await message.respond(_pack({}, str(error) or repr(error)))
    else:
        columns = {name: np.concatenate([getattr(trend, name) for trend in trends]) for name in Trend.__slots__}
        await message.respond(_pack(columns, [len(trend.time_ns) for trend in trends]))


async def _present(role: Role, told: Told, first: int | None) -> tuple[Columns, dict[str, Any]]:
    """What is known of `role`; of the latest readings, of which there may be many, those from point `first` on, if any.

    All else, but for `_details`, is in the answer that has none of them, or the first.
    """
    live = told.live
    rest: dict[str, Any] = {"process": told.process}
    if role is Role.ALARMS:
        rest["numbered_as"] = live.numbered_as
    columns: Columns = {}
    if role is Role.ALARMS and first is not None:
        latest = await live.latest()
        rest["points"] = len(latest.time_ns)
        part = slice(first, first + PORTION)
        columns = {name: getattr(latest, name)[part] for name in COLUMNS}
    if first:
        return columns, rest
    if role is Role.ALARMS:
        rest |= {
            "undeclared": [asdict(one) for one in live.undeclared()],
            "projections": {
                # In a flood there are many, and `asdict` copies each value.
                point: {name: getattr(ahead, name) for name in Outlook.__slots__}
                for point, ahead in live.projections().items()
            },
            "flood": live.flood(),
            "ready": told.ready(),
        }
    if role in (Role.ALARMS, Role.HISTORIAN):
        rest["figures"] = asdict(live.figures())
    return columns, rest


def _details(role: Role, told: Told, figures: _Figures) -> dict[str, Any]:
    """The figures of the process, and what `role` knows of each gateway."""
    details: dict[str, Any] = {"metrics": figures.text()}
    if role is Role.HISTORIAN:
        details["stored"] = {
            gateway: {**fields, "clock": None if fields["clock"] is None else asdict(fields["clock"])}
            for gateway, fields in told.live.stored().items()
        }
    if role is Role.ALARMS:
        details["gateways"] = [asdict(gateway) for gateway in told.live.gateways()]
    return details


class WorkersSilentError(RuntimeError):
    """The alarms worker has never answered."""


class RemoteLive:
    """The present state as those who hold the roles last told it, at most `LOOK_S` old while they answer.

    They are asked for it all the time, for the figures and the gateways every `DETAILS_S`, and for the readings only
    when somebody wants to know them: these are many, and told by the points' indices. Of a worker that numbers them
    otherwise, as during a rolling restart after the plant file was changed, none is taken.
    """

    def __init__(self, client: Client, site: str, numbered_as: str, clock: Clock) -> None:
        """Nothing is known before `hear` has returned; the points here are `numbered_as` `points.numbering` says."""
        self._client = client
        self._site = site
        self._numbered_as = numbered_as
        self._clock = clock
        self._latest = Latest.unknown(0)
        self._latest_at = self._asked_at = 0.0
        self._reading = asyncio.Lock()
        self._rest: dict[Role, dict[str, Any]] = {}
        self._last: dict[Role, float] = {}
        self._whole_at: dict[Role, float] = {}
        self._missed: Counter[Role] = Counter()
        self._candidates: dict[tuple[str, str], tuple[Candidate, float]] = {}

    async def hear(self, stop: asyncio.Event) -> None:
        """Wait for the alarms worker's first answer: without it there is nothing to show, perhaps no table.

        Raises:
            WorkersSilentError: `stop` was set before one came.
        """
        while not await self._answered(Role.ALARMS, readings=True):
            if stop.is_set():
                raise WorkersSilentError("ended before the alarms worker had answered")
            await asyncio.sleep(LOOK_S)

    async def follow(self) -> None:
        """Ask again and again until cancelled; one role that is silent holds up no other."""
        candidates = await self._client.subscribe(f"{CANDIDATE}.{self._site}", cb=self._hear_candidate)
        try:
            async with asyncio.TaskGroup() as tasks:
                for role in sorted(WORKERS):
                    tasks.create_task(self._follow(role), name=f"ask {role}")
        finally:
            if self._client.is_connected:
                await candidates.unsubscribe()

    async def _hear_candidate(self, message: Msg) -> None:
        told = Candidate(**json.loads(message.data))
        self._candidates[told.role, told.process] = told, self._clock.monotonic()

    def candidates(self) -> Sequence[Candidate]:
        """Who would take a role's work over."""
        since = self._clock.monotonic() - SILENT_S
        self._candidates = {key: (told, at) for key, (told, at) in self._candidates.items() if at > since}
        return [told for told, _ in self._candidates.values()]

    async def _follow(self, role: Role) -> None:
        while True:
            await self._answered(role)
            await asyncio.sleep(LOOK_S)

    async def _answered(self, role: Role, *, readings: bool = False) -> bool:
        try:
            await self._ask(role, readings=readings)
        except NatsError as error:
            # Told once: one that is away is away for many questions.
            if not self._missed[role]:
                log.warning("nobody answers", role=role, reason=str(error) or repr(error))
            self._missed[role] += 1
            return False
        return True

    async def _ask(self, role: Role, *, readings: bool) -> None:
        brief = not readings and self._clock.monotonic() - self._whole_at.get(role, -inf) < DETAILS_S
        columns, rest = await self._portion(role, 0 if readings else None, brief=brief)
        if brief and rest["process"] != self._rest[role]["process"]:
            # Another has taken over: what the one before told of itself does not hold for it.
            brief = False
            columns, rest = await self._portion(role, None)
        parts, numberings = [columns], [rest]
        have = len(columns.get("time_ns", ()))
        while readings and have < rest.get("points", 0):
            more, said = await self._portion(role, have)
            if not len(more["time_ns"]):
                break
            parts.append(more)
            numberings.append(said)
            have += len(more["time_ns"])
        now = self._clock.monotonic()
        if readings and all(map(self._is_numbered_as_here, numberings)):
            undeclared = [Undeclared(**one) for one in rest["undeclared"]]
            time_ns, value, quality = (np.concatenate([part[name] for part in parts]) for name in COLUMNS)
            self._latest = Latest(time_ns, value, quality, undeclared)
            self._latest_at = now
        if brief:
            rest = self._rest[role] | rest
        else:
            self._whole_at[role] = now
        self._rest[role], self._last[role] = rest, now
        self._missed[role] = 0

    async def _portion(self, role: Role, first: int | None, *, brief: bool = False) -> tuple[Columns, Any]:
        subject, asked = f"{ASK}.{role}.{self._site}", b"" if first is None else str(first).encode()
        headers = {BRIEF: "1"} if brief else None
        return _unpack((await self._client.request(subject, asked, timeout=PATIENCE_S, headers=headers)).data)

    def _is_numbered_as_here(self, rest: Mapping[str, Any]) -> bool:
        # A worker of an earlier version does not say.
        return bool(rest.get("numbered_as", self._numbered_as) == self._numbered_as)

    def answers(self, role: Role) -> bool:
        """Whether somebody does the work of `role`, as far as was heard."""
        if role not in self._last:
            return False
        return self._missed[role] < MISSED or self._clock.monotonic() - self._last[role] <= SILENT_S

    def ready(self) -> str | None:
        """None while the alarms worker answers and is ready, else what is missing. Alarms wait for no other role."""
        if not self.answers(Role.ALARMS):
            return "the alarms worker does not answer"
        if not self._is_numbered_as_here(self._rest[Role.ALARMS]):
            return OTHER_PLANT
        reason: str | None = self._rest[Role.ALARMS]["ready"]
        return reason

    async def latest(self) -> Latest:
        """The latest readings; while the alarms worker does not answer those that it told last.

        Raises:
            ReadingsUnknownError: they are older by `SILENT_S` than what else it told last, for nobody wanted to know,
                or they are of other points.
        """
        async with self._reading:
            if self._clock.monotonic() - self._asked_at > LOOK_S and self.answers(Role.ALARMS):
                try:
                    await self._ask(Role.ALARMS, readings=True)
                except NatsError as error:
                    # Whether somebody is there tell the other questions: two at once in vain are one silence.
                    log.warning("readings are not told", reason=str(error) or repr(error))
                # In vain or not: who comes next need not wait as long.
                self._asked_at = self._clock.monotonic()
        if not self._is_numbered_as_here(self._rest[Role.ALARMS]):
            raise ReadingsUnknownError(OTHER_PLANT)
        if self._last[Role.ALARMS] - self._latest_at > SILENT_S:
            raise ReadingsUnknownError("the alarms worker does not tell the readings")
        return self._latest

    def undeclared(self) -> Sequence[Undeclared]:
        """Metrics that are not in the plant file."""
        return [Undeclared(**one) for one in self._rest[Role.ALARMS]["undeclared"]]

    def projections(self) -> Mapping[str, Outlook]:
        """By point id."""
        return {point: Outlook(**ahead) for point, ahead in self._rest[Role.ALARMS]["projections"].items()}

    def flood(self) -> Flood | None:
        """The alarm flood that goes on."""
        told = self._rest[Role.ALARMS]["flood"]
        return None if told is None else Flood(*told)

    def gateways(self) -> Sequence[GatewayStatus]:
        """Every gateway heard of: the alarms worker knows whether it is there, the historian what it has of it."""
        stored = self._rest.get(Role.HISTORIAN, {}).get("stored", {})
        return [_gateway(told | stored.get(told["id"], {})) for told in self._rest[Role.ALARMS]["gateways"]]

    def figures(self) -> Figures:
        """The workers' counters; 0 of a role that was never heard."""
        alarms, nothing = self._rest[Role.ALARMS]["figures"], asdict(Figures())
        stored = self._rest.get(Role.HISTORIAN, {}).get("figures", nothing)
        return Figures(**(stored | {name: alarms[name] for name in ("late_readings", "clock_steps_back")}))

    def metrics(self) -> Mapping[str, str]:
        """By process that does some of the work, its figures in the Prometheus text format."""
        return {rest["process"]: rest["metrics"] for role, rest in self._rest.items() if self.answers(role)}

    def processes(self) -> AbstractSet[str]:
        """Who was heard last of each role, whether or not they answer now."""
        return {rest["process"] for rest in self._rest.values()}


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
    """The workers' figures among the interface's own; what several processes count is added up."""

    def __init__(self, live: RemoteLive) -> None:
        """Pass on what `live` last heard."""
        self._live = live
        self._added = Added()

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the workers have been heard."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metric families."""
        told = "1 while somebody does the work of a role, as far as this interface hears."
        answers = GaugeMetricFamily("tocsin_role_answers", told, labels=["role"])
        for role in sorted(WORKERS):
            answers.add_metric([role], self._live.answers(role))
        told = "Messages that a process which waits for a role's work lacks of what is committed."
        behind = GaugeMetricFamily("tocsin_candidate_lag_messages", told, labels=["role", "process"])
        for candidate in self._live.candidates():
            behind.add_metric([candidate.role, candidate.process], candidate.behind)
        return [answers, behind, *self._added.of(self._live.metrics(), self._live.processes())]


class RemoteHistory:
    """The reading side of the history, answered by the historian."""

    def __init__(self, client: Client, site: str) -> None:
        """Ask the historian of `site`."""
        self._client = client
        self._site = site

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """As `tocsin_cloud.adapters.history.StoredReadings.read`.

        Raises:
            HistoryError: the store, or the historian, does not answer.
        """
        columns, _ = await self._asked(HISTORY, [point_id, start_ns, end_ns, step_ns, limit])
        return Trend(**columns)

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """As `tocsin_cloud.adapters.history.StoredReadings.read_each`; all rows together must fit into a message.

        Raises:
            HistoryError: the store, or the historian, does not answer.
        """
        columns, rows = await self._asked(EACH, wanted)
        ends = np.cumsum([0, *rows])
        return [Trend(**{name: column[slice(*span)] for name, column in columns.items()}) for span in pairwise(ends)]

    async def _asked(self, what: str, asked: object) -> tuple[Columns, Any]:
        try:
            reply = await self._client.request(
                f"{what}.{self._site}", json.dumps(asked).encode(), timeout=HISTORY_PATIENCE_S
            )
        except NatsError as error:
            raise HistoryError(f"the historian does not answer: {error!r}") from error
        columns, rest = _unpack(reply.data)
        if isinstance(rest, str):
            raise HistoryError(rest)
        return columns, rest
