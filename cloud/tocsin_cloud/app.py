"""One cloud process: its roles wired in a straight line, taken down in reverse."""

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from secrets import token_hex
from ssl import SSLContext
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from tocsin_cloud.adapters.authority import CA_KEY
from tocsin_cloud.adapters.channels import Channels, kind_of
from tocsin_cloud.adapters.cut_off import Reach
from tocsin_cloud.adapters.enrolment import Enrolment
from tocsin_cloud.adapters.history import HistoryError, StoredReadings
from tocsin_cloud.adapters.history_copies import copying
from tocsin_cloud.adapters.history_open import OwnHistory
from tocsin_cloud.adapters.host_password import given_or_kept
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.adapters.issued import IssuedFile
from tocsin_cloud.adapters.lease import Lease, LeaseLostError, hold
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.own_certificates import cloud_context, secured
from tocsin_cloud.adapters.plant_record import files_of, note_plant
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.settings_file import note_settings
from tocsin_cloud.adapters.shared_list import keep_telling as keep_telling_certificates
from tocsin_cloud.adapters.signing import signing_key
from tocsin_cloud.adapters.snapshot_store import SnapshotStore
from tocsin_cloud.adapters.sql.away import DatabaseAwayError, when_back
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_event, subjects_of
from tocsin_cloud.adapters.users import ensure_administrator
from tocsin_cloud.api.build import build_api
from tocsin_cloud.api.live_port import LivePort
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.remote import RemoteHistory, RemoteLive, Told, WorkersMetrics, WorkersSilentError, answering
from tocsin_cloud.api.server import serving
from tocsin_cloud.api.stream_ports import StreamCommands, StreamEvents
from tocsin_cloud.api.waiting import saying_so
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.candidates import keep_telling
from tocsin_cloud.loops.certificates import CertificateParts, keep_certificates
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.evidence import EvidenceParts, keep_evidence
from tocsin_cloud.loops.hearing import TOO_FAST
from tocsin_cloud.loops.historian import Historian, HistorianParts, retain, tend
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.look import LookParts, keep_looking, keep_looking_at_stored
from tocsin_cloud.loops.notify import Notifier
from tocsin_cloud.loops.orders import OrderParts, keep_ordering
from tocsin_cloud.loops.points import PointTable, numbering
from tocsin_cloud.loops.quarantine import keep_quarantine
from tocsin_cloud.loops.shared_state import SharedState
from tocsin_cloud.loops.silence import silences
from tocsin_cloud.loops.slices import Slices
from tocsin_cloud.loops.ticker import tick
from tocsin_cloud.loops.ways import Ways
from tocsin_cloud.settings import (
    ALL,
    LOOPBACK,
    WORKERS,
    Address,
    BrokerSettings,
    CloudSettings,
    HistoryKind,
    Role,
    Roles,
    name_of,
)
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant
from tocsin_core.readings import I64
from tocsin_core.routing import reached

log = structlog.get_logger()

PASSWORD_VARIABLE: Final = "TOCSIN_ADMIN_PASSWORD"  # noqa: S105 -- the variable's name
CONSOLE: Final = Path(str(files("tocsin_cloud") / "console"))
# A database that opens in so long is not worth a word.
AT_ONCE_S: Final = 2.0
# A history that could not be opened is tried again after this.
NO_HISTORY_S: Final = 30.0
# For so long whoever is told to end waits for the database with all that is left to write.
END_S: Final = 4.0
T = TypeVar("T")
Announce = Callable[[str, str], None]
Work = tuple[str, Callable[[], Awaitable[None]]]


class NoHistoryError(HistoryError):
    """The history of this process cannot be opened: its file is damaged, or its server has flags that do not do."""


class PartEndedError(RuntimeError):
    """A part returned although it should run until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a process knows at its end: stored and raised over the data's life, quarantined since the historian's start.

    None where the interface never heard from the alarms worker; `alarms_raised` also where the database is away.
    """

    role: str
    readings_stored: int | None = None
    alarms_raised: int | None = None
    quarantined: int | None = None


async def run(
    settings: CloudSettings, plant: Plant, clock: Clock, stop: asyncio.Event, first_start: Announce
) -> Summary:
    """Run the process's roles until `stop`; `first_start(user, password)` is called when the first user was made.

    When another process has taken over the work of one, all of them are left, and begun anew as at a start: as
    candidates, which know nothing of what was before. A broker of one's own goes on meanwhile.

    Raises:
        HistoryError: another process works on this data folder.
        ExceptionGroup: a part failed. Nothing goes on half-alive: what is committed is safe, a restart goes on there.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        history = OwnHistory(settings.history, settings.data, clock)
        stack.push_async_callback(history.close)
        if settings.nats_url is None:
            # The history's file is also what keeps a second process off the folder: nothing else is touched before.
            await history.open()
        broker = await _broker(settings, plant, clock, stack)
        # Those that are in force: they may be others by the time at which this process takes over.
        files = await asyncio.to_thread(files_of, settings.plant)
        # Of a large plant it takes most of a minute: whoever begins anew is a candidate again without it.
        loaded = _Loaded(plant, files, cache(partial(Judged.of, plant)))
        while True:
            try:
                return await _roles(settings, loaded, clock, broker, history, stop, first_start)
            except* LeaseLostError as group:
                reasons = sorted({str(error) for error in leaves(group)})
            if stop.is_set():
                return Summary(name_of(settings.roles))
            log.warning("begins anew as a candidate", reasons=reasons)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group, and in the groups in it."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


class _Loaded(NamedTuple):
    """The plant in force, the files that it was read from, each with its SHA-256, and what is judged by it."""

    plant: Plant
    files: Mapping[str, str]
    judged: Callable[[], Judged]


async def _roles(
    settings: CloudSettings,
    loaded: _Loaded,
    clock: Clock,
    broker: tuple[NatsServer | None, str],
    history: OwnHistory,
    stop: asyncio.Event,
    first_start: Announce,
) -> Summary:
    """Run the roles from nothing until `stop`, or until another process has taken over the work of one."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_nothing_left())
        tls, (server, url) = _certified(settings, clock), broker
        client = await _unless(stop, connect(url, f"tocsin-{name_of(settings.roles)}", tls))
        if client is None:
            return Summary(name_of(settings.roles))
        stack.push_async_callback(client.close)
        if settings.roles & WORKERS:
            # Before anything is waited for: what gateways send is kept meanwhile.
            await ensure_stream(client, settings.stream)
        database = await _tables(settings, stop, stack)
        if database is None:
            return Summary(name_of(settings.roles))
        reach = Reach(client, clock)
        process = _Process(settings, loaded.plant, clock, client, stack, tls, server, database, loaded, reach)
        crew = await _crew(process, history) if settings.roles & WORKERS else None
        works = [] if crew is None else _works(crew, first_start)
        if server is not None:
            works.append(("broker", server.supervise))
        elif crew is not None or len(client.servers) > 1:
            works.append(("cluster", reach.watch))
        # What was loaded lives as long as the roles: each full collection over it would hold up an alarm burst.
        gc.collect()
        gc.freeze()
        # Else nothing of it is ever collected, and DuckDB's binding complains about that at the end of the process.
        stack.callback(gc.unfreeze)
        async with asyncio.TaskGroup() as tasks:
            running = _started(tasks, works)
            ports = await _open_doors(process, crew, stop, lambda work: running.extend(_started(tasks, [work])))
            log.info("cloud side ends", role=name_of(settings.roles))
            database.end_within(END_S)
            for task in running:
                task.cancel()
        return await _summary(settings.roles, ports)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` answers, which may take for ever; None: `stop` came first."""
    async with AsyncExitStack() as meanwhile:
        working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait(), name="stop")
        meanwhile.callback(working.cancel)
        meanwhile.callback(stopping.cancel)
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None


async def _tables(settings: CloudSettings, stop: asyncio.Event, stack: AsyncExitStack) -> Database | None:
    """Open the database, however long it is away; the interface's address says so. None: `stop` came first."""
    url = settings.sql or sqlite_url(settings.sql_file)
    async with AsyncExitStack() as meanwhile:
        opening = asyncio.create_task(when_back(partial(Database.open, url), "start"), name="open database")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        meanwhile.callback(opening.cancel)
        meanwhile.callback(stopping.cancel)
        ended, _ = await asyncio.wait((opening, stopping), timeout=AT_ONCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not ended and Role.API in settings.roles:
            await meanwhile.enter_async_context(saying_so(settings.http))
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return None
        database = await opening
        stack.push_async_callback(database.close)
        return database


@asynccontextmanager
async def _nothing_left() -> AsyncIterator[None]:
    """At the end, end what the parts began and nobody waits for (a snapshot half saved), as the process's end would."""
    before = asyncio.all_tasks()
    try:
        yield
    finally:
        left = asyncio.all_tasks() - before
        for task in left:
            task.cancel()
        for ended in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(ended, Exception):
                log.error("left behind, and failed", reason=repr(ended))


class _Process(NamedTuple):
    settings: CloudSettings
    plant: Plant
    clock: Clock
    client: Client
    stack: AsyncExitStack
    tls: SSLContext | None
    server: NatsServer | None
    database: Database
    loaded: _Loaded
    reach: Reach


@dataclass(frozen=True, slots=True)
class _Crew:
    """What the roles of this process work with that are done by lease; each role's state is where its lease is held."""

    process: _Process
    name: str
    database: Database
    leases: Mapping[Role, Lease]
    metrics: Metrics
    watch: WatchMetrics
    table: PointTable
    live: LiveView
    quarantine: Quarantine
    own: OwnHistory
    alarms: AlarmsWorker | None
    outlet: Outlet
    ordered: asyncio.Event

    @property
    def history(self) -> StoredReadings:
        """The history to read from."""
        site = self.process.plant.site.id
        return self.own if Role.HISTORIAN in self.leases else RemoteHistory(self.process.client, site)

    @property
    def port(self) -> LivePort:
        """The present state, as far as it is this process's."""
        return LivePort(self.live, self.quarantine)

    def behind(self) -> int:
        """How many messages the alarms worker lacks, as a candidate, of what is committed."""
        return 0 if self.alarms is None else self.alarms.behind

    def ready(self) -> str | None:
        """What is missing; None when nothing is."""
        if self.alarms is None or self.alarms.ready:
            return None
        return "the alarms worker stands by, or is catching up"


async def _crew(process: _Process, own: OwnHistory) -> _Crew:
    settings, plant, clock, client, stack, _, _, database, loaded, reach = process
    metrics = Metrics()
    # Shown as 0 before anybody looks: a figure that appears with its first event would hide that one.
    metrics.quarantined.labels(TOO_FAST)
    name = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
    leases = {
        role: Lease(database, role, name, clock, partial(_is_unable, reach, role))
        for role in sorted(settings.roles & WORKERS)
    }
    table = PointTable(plant, settings.strangers)
    live, outlet, ordered = LiveView(table), Outlet(client, table), asyncio.Event()
    quarantine = Quarantine(database, metrics, settings.quarantine_kept)
    stack.push_async_callback(quarantine.close)
    alarms = None
    if Role.ALARMS in leases:
        alarms = AlarmsWorker(
            AlarmParts(
                client, database, leases[Role.ALARMS], plant, loaded.judged(), live, metrics, clock, settings.alarms,
                settings.snapshot_file, outlet, ordered, _subjects(process),
                None if settings.nats_url is None else SnapshotStore(client, f"{plant.site.id}/alarms"),
                settings.limits,
            )
        )  # fmt: skip
    watch = WatchMetrics(metrics.registry)
    # By each worker for itself: one that has no look at all must not seem to have lost the broker.
    watch.broker_connected.set_function(lambda: client.is_connected)
    return _Crew(process, name, database, leases, metrics, watch, table, live, quarantine, own, alarms, outlet, ordered)


def _is_unable(reach: Reach, role: Role) -> bool:
    """Whether it lacks what the role's work needs; who sends messages to people needs the tables alone."""
    return reach.lost and role is not Role.NOTIFY


def _subjects(process: _Process) -> tuple[str, ...]:
    """What is read of the stream: of one's own broker everything, of a shared one what is the plant's."""
    return () if process.settings.nats_url is None else subjects_of(process.plant.site.id)


def _works(crew: _Crew, first_start: Announce) -> list[Work]:
    """The roles, each of which waits for its lease."""
    settings, plant, clock, client, _, tls, server, *_ = crew.process
    works: list[Work] = []
    if Role.HISTORIAN in crew.leases:
        lease = crew.leases[Role.HISTORIAN]
        works.append(("historian", partial(_be_historian, crew, lease)))
    if crew.alarms is not None:
        lease = crew.leases[Role.ALARMS]
        # Before anybody waits for this process: of a large plant it takes a second.
        allowed_ns = silences(plant)
        take_charge = partial(_take_charge, crew, lease, crew.alarms, allowed_ns, first_start)
        works.append(("alarms", partial(hold, lease, take_charge, crew.alarms.follow)))
        # Also while it stands by: the host is there for as long as somebody can take the work over.
        known_by = (tls, None) if settings.mqtt_tls else (None, given_or_kept(settings.broker_folder))
        works.append(("host-state", partial(announce, (settings.mqtt, *settings.mqtt_others), clock, *known_by)))
    telling = (client, plant.site.id, crew.leases, crew.behind, crew.watch)
    works.append(("candidates", partial(keep_telling, *telling)))
    if Role.NOTIFY in crew.leases:
        works.append(("notify", partial(_tell_people, crew, crew.leases[Role.NOTIFY])))
    if tls is not None and server is None and (settings.authority_folder / CA_KEY).exists():
        # Where certificates are issued and revoked; a cluster's servers hear of it.
        listed = Enrolment(settings.authority_folder).path
        works.append(("certificates' list", partial(keep_telling_certificates, client, listed)))
    if server is not None:
        works.append(("broker-users", partial(server.keep_users, crew.watch.broker_refused)))
    return works


async def _be_historian(crew: _Crew, lease: Lease) -> None:
    """Stand by until the lease is ours, and be the historian until cancelled.

    Where this process is there for the alarms, too, a history that cannot be opened does not end it: it lets go of the
    lease, for whoever has one that can, and tries again later.
    """
    while True:
        try:
            await hold(lease, partial(_keep_history, crew, lease))
        except NoHistoryError as error:
            if crew.alarms is None:
                raise
            crew.metrics.commit_failures.labels(Role.HISTORIAN).inc()
            log.error("no history: alarms go on without it", reason=str(error), again_in_s=NO_HISTORY_S)  # noqa: TRY400 -- the message is the reason
        await asyncio.sleep(NO_HISTORY_S)


async def _keep_history(crew: _Crew, lease: Lease) -> None:
    """Be the historian until cancelled.

    Raises:
        NoHistoryError: the history cannot be opened.
    """
    settings, plant, clock, client, *_ = crew.process
    try:
        history = await crew.own.wait_open()
    except HistoryError as error:
        raise NoHistoryError(str(error)) from error
    try:
        shared, state = None, history.state
        if settings.nats_url is not None and settings.history.kind is not HistoryKind.DUCKDB:
            store = SnapshotStore(client, f"{plant.site.id}/historian")
            shared = SharedState(store, settings.historian.share_interval_s, clock)
            state = await shared.of(history)
        parts = HistorianParts(
            client, history, lease, crew.table, crew.live, crew.quarantine, crew.metrics, clock, settings.historian,
            _subjects(crew.process), shared, settings.limits,
        )  # fmt: skip
        historian = Historian(parts, state)
        try:
            note_settings(settings, plant.site.id)
        except OSError as error:
            # A backup needs them, and nothing else.
            log.error("settings not written down", reason=str(error))  # noqa: TRY400 -- the message is the reason
        async with copying(history, settings.data), asyncio.TaskGroup() as tasks:
            _started(
                tasks,
                [
                    ("stream to history", historian.run),
                    ("retention", partial(retain, history, settings.historian, clock, historian.server_clock)),
                    ("roll-ups", partial(tend, history, crew.metrics)),
                    ("quarantine", partial(keep_quarantine, crew.quarantine)),
                    ("look", partial(keep_looking_at_stored, crew.live, crew.watch)),
                ],
            )
    finally:
        # Before the lease goes to somebody else, who then finds the files free.
        await crew.own.close()


async def _tell_people(crew: _Crew, lease: Lease) -> None:
    """Stand by until the lease is ours, and send messages until cancelled."""
    settings, plant, clock, client, *_ = crew.process
    channels = Channels(settings.outbox, metrics=crew.metrics.registry)
    # Before it is a candidate: whoever takes over calls people at once.
    for person in plant.file.people:
        for channel in await channels.load(person.channels):
            log.error("nothing can be sent to an address of the plant file", person=person.id, channel=kind_of(channel))
    publish = partial(publish_event, client)
    notifier = Notifier(crew.database, lease, channels, publish, plant, clock, crew.metrics.registry)
    ways = Ways(channels, reached(plant.file), clock, crew.watch.ways_dead)

    async def tell() -> None:
        async with asyncio.TaskGroup() as tasks:
            _started(tasks, [("messages", notifier.run), ("ways", ways.run)])

    await hold(lease, tell)


async def _take_charge(crew: _Crew, lease: Lease, alarms: AlarmsWorker, allowed_ns: I64, first_start: Announce) -> None:
    """Be the alarms worker, with all that goes with it, until cancelled; points may be silent for `allowed_ns`."""
    settings, plant, clock, client, *_ = crew.process
    given = os.environ.get(PASSWORD_VARIABLE)
    password = await when_back(partial(ensure_administrator, crew.database, clock, given), "administrator")
    # Whoever gave the password knows it: it has no business in a log.
    if password is not None and given is None:
        first_start("admin", password)
    files = crew.process.loaded.files
    await when_back(partial(note_plant, lease.write, clock, plant.site.id, files), "plant")
    issued, sign = IssuedFile.open(settings.data), signing_key(settings.data)
    slices = Slices(client, plant, crew.live, issued, sign, crew.metrics, clock)
    orders = OrderParts(client, crew.database, crew.live, crew.metrics, clock, crew.ordered, lease)
    waiting = crew.watch.tickets_without_evidence
    evidence = EvidenceParts(client, crew.database, lease, crew.history, plant, clock, settings.alarms, waiting)
    certificates = CertificateParts(Enrolment(settings.authority_folder), crew.live, crew.watch, clock)
    look = LookParts(client, crew.database, allowed_ns, crew.live, crew.watch, clock, settings.data)
    async with asyncio.TaskGroup() as tasks:
        _started(
            tasks,
            [
                ("stream to alarms", alarms.work),
                ("orders", partial(keep_ordering, orders)),
                ("slices", partial(slices.run, lease)),
                ("computed", partial(crew.outlet.run, lease)),
                ("ticker", partial(tick, client, plant.site.id, settings.alarms.tick_interval_s, clock)),
                ("evidence", partial(keep_evidence, evidence)),
                ("certificates", partial(keep_certificates, certificates)),
                ("look", partial(keep_looking, look)),
            ],
        )


async def _open_doors(
    process: _Process, crew: _Crew | None, stop: asyncio.Event, start: Callable[[Work], None]
) -> ApiPorts | None:
    """Answer other processes and people until `stop`; returns what there was to show, None where that was nothing."""
    roles, ports = process.settings.roles, None
    async with AsyncExitStack() as doors:
        if crew is not None:
            told = Told(
                process.plant.site.id, crew.name, crew.leases, crew.port, crew.own, crew.ready, crew.metrics.registry,
                process.clock,
            )  # fmt: skip
            await doors.enter_async_context(answering(process.client, told))
            ports = _ports_of(crew)
        if Role.API in roles:
            if ports is None or roles != ALL:
                plant = process.plant
                numbered_as = numbering(point.id for point in plant.points)
                live = RemoteLive(process.client, plant.site.id, numbered_as, process.clock)
                try:
                    await live.hear(stop)
                except WorkersSilentError as error:
                    log.info("nothing to show", reason=str(error))
                    return ports
                start(("ask workers", live.follow))
                ports = _remote_ports(process, live)
            await doors.enter_async_context(_page(ports, process.settings))
        await stop.wait()
    return ports


def _ports_of(crew: _Crew) -> ApiPorts:
    """For an interface in the process that has all roles."""
    _, plant, clock, client, *_ = crew.process
    return ApiPorts(
        plant=plant,
        database=crew.database,
        history=crew.own,
        live=crew.port,
        commands=StreamCommands(client, plant.site.id, crew.database),
        events=StreamEvents(client),
        clock=clock,
        metrics=crew.metrics.registry,
        ready=crew.ready,
        console=CONSOLE,
    )


def _remote_ports(process: _Process, live: RemoteLive) -> ApiPorts:
    """For an interface that asks the others."""
    plant, client = process.plant, process.client
    metrics = CollectorRegistry()
    metrics.register(WorkersMetrics(live))
    return ApiPorts(
        plant=plant,
        database=process.database,
        history=RemoteHistory(client, plant.site.id),
        live=live,
        commands=StreamCommands(client, plant.site.id, process.database),
        events=StreamEvents(client),
        clock=process.clock,
        metrics=metrics,
        ready=live.ready,
        console=CONSOLE,
    )


async def _summary(roles: Roles, ports: ApiPorts | None) -> Summary:
    if ports is None:
        return Summary(name_of(roles))
    figures, raised = ports.live.figures(), None
    try:
        async with ports.database.read() as session:
            raised = await session.scalar(select(func.count()).select_from(Occurrence))
    except DatabaseAwayError as error:
        log.warning("ends without the database: what is not committed is read again", reason=error.reason)
    return Summary(name_of(roles), figures.readings_stored, raised, sum(figures.quarantined.values()))


@asynccontextmanager
async def _page(ports: ApiPorts, settings: CloudSettings) -> AsyncIterator[None]:
    page = build_api(ports)
    # What it has rendered of every point stays, too.
    gc.freeze()
    async with serving(page, *settings.http) as listening:
        log.info("cloud side ready", page=f"http://{Address(*listening)}/", plant=ports.plant.name)
        yield


def _started(tasks: asyncio.TaskGroup, works: Iterable[Work]) -> list[asyncio.Task[None]]:
    return [tasks.create_task(_part(name, work), name=name) for name, work in works]


async def _part(name: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except (LeaseLostError, ExceptionGroup):
        # The one is told at the end, and the parts of the other have been told.
        raise
    except Exception:
        log.exception("part failed", part=name)
        raise
    raise PartEndedError(name)


async def _broker(
    settings: CloudSettings, plant: Plant, clock: Clock, stack: AsyncExitStack
) -> tuple[NatsServer | None, str]:
    if settings.nats_url is not None:
        return None, settings.nats_url
    tls = users = None
    if settings.mqtt_tls:
        known = (server.host for gateway in plant.file.gateways for server in gateway.uplink.servers)
        hosts = [settings.mqtt.host, *known]
        tls, users = secured(settings.authority_folder, hosts, clock)
    nats = Address(LOOPBACK, _free_port())
    broker = BrokerSettings(folder=settings.broker_folder, nats=nats, mqtt=settings.mqtt, tls=tls)
    server = await NatsServer.start(broker, clock, users)
    stack.push_async_callback(server.stop)
    return server, server.url


def _certified(settings: CloudSettings, clock: Clock) -> SSLContext | None:
    """With what the broker is called that wants a certificate."""
    if settings.mqtt_tls or (settings.nats_url or "").startswith("tls://"):
        return cloud_context(settings.authority_folder, clock)
    return None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
