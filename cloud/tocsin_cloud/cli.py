"""The verbs `tocsin cloud` and `tocsin broker`: arguments checked, logs set up, signals turned into an orderly end."""

import asyncio
import gc
import json
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import structlog
import typer
from nats.errors import Error as NatsError
from sqlalchemy.exc import SQLAlchemyError

from tocsin_cloud.adapters.enrolment import Enrolment
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.nats_server import BrokerError, NatsServer
from tocsin_cloud.adapters.own_certificates import broker_context, secured
from tocsin_cloud.adapters.permissions import BROKER_INBOX, Users
from tocsin_cloud.adapters.restore import UNFINISHED
from tocsin_cloud.adapters.shared_list import keep_hearing
from tocsin_cloud.adapters.sql.engine import server_url
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.adapters.users import UserError
from tocsin_cloud.app import leaves, run
from tocsin_cloud.loops.alarms import DatabaseSetBackError
from tocsin_cloud.settings import (
    ALL,
    AUTHORITY,
    LOOPBACK,
    Address,
    BrokerSettings,
    CloudSettings,
    HistorianSettings,
    HistoryAddress,
    HistoryKind,
    LimitSettings,
    Roles,
    StreamSettings,
    parse_roles,
)
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant

log = structlog.get_logger()

DATA = Path("var")
GATEWAY_RATE: Final = LimitSettings().messages_per_s
KEPT_DAYS: Final = HistorianSettings().retain_days
STREAM_BYTES: Final = StreamSettings().max_bytes
LEAST_STREAM_BYTES: Final = 16 << 20
# A century: what is later is no time that a reading may have.
MOST_DAYS: Final = 36_525
# What a nats-server is reached by, for us.
NATS_SCHEMES: Final = ("nats", "tls")
# Accounts, readings and messages are nobody else's business on this machine.
PRIVATE: Final = 0o077

Json = Annotated[bool, typer.Option("--json", help="End with one JSON object.")]
Mqtt = Annotated[
    str,
    typer.Option("--mqtt", help="HOST:PORT on which gateways connect; of a cluster all, by commas."),
]
ReorderTimeout = Annotated[
    float,
    typer.Option(
        "--reorder-timeout", min=0, max=3600, help="Seconds to wait for a Sparkplug message that others came before."
    ),
]
StreamBytes = Annotated[
    int,
    typer.Option(
        "--stream-bytes",
        min=LEAST_STREAM_BYTES,
        help="Bytes of what gateways send that the broker keeps on disk, for whoever is behind; 7 days at most.",
    ),
]
History = Annotated[
    str,
    typer.Option(
        "--history",
        metavar="ADDRESS",
        help="Where readings are kept: `duckdb` (a file in --data), victoriametrics://HOST:PORT or "
        "influxdb://HOST:PORT/ORG/BUCKET.",
    ),
]
Sql = Annotated[
    str | None,
    typer.Option(
        "--sql",
        metavar="URL",
        help="postgresql://USER@HOST:PORT/DATABASE, instead of a file in --data. The password: PGPASSWORD.",
    ),
]
Role = Annotated[
    str,
    typer.Option(
        "--role",
        help="What this process does: all, or some of historian,alarms,notify,api (`workers`: the first three). "
        "Apart they share a broker (--nats) and the SQL database.",
    ),
]
# What ends a process with one line: whoever watches over it starts it again.
ENDS: Final = (
    *(BrokerError, DatabaseSetBackError, HistoryError, NatsError, SQLAlchemyError, UserError),
    OSError,
)
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 -- what a cluster's server may listen on
Work = Callable[[asyncio.Event], Awaitable[Mapping[str, Any]]]
Part = tuple[str, Callable[[], Coroutine[Any, Any, None]]]


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _history(text: str) -> HistoryAddress:
    try:
        return HistoryAddress.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _roles(text: str) -> Roles:
    try:
        return parse_roles(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _nats(text: str) -> str:
    """Refuse what would be tried for ever; `HOST:PORT` alone is one of `nats://`."""
    for server in text.split(","):
        address = urlsplit(server if "://" in server else f"nats://{server}")
        try:
            known = address.scheme in NATS_SCHEMES and address.hostname and address.port != 0
        except ValueError:
            known = False
        if not known:
            raise typer.BadParameter(f"--nats {server!r} is not nats://HOST:PORT or tls://HOST:PORT")
    return text


def _sql(text: str) -> str:
    try:
        return str(server_url(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def cloud(  # noqa: PLR0913 -- each is an option
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    *,
    data: Annotated[Path, typer.Option("--data", help="Where everything is kept.")] = DATA,
    http: Annotated[str, typer.Option("--http", help="HOST:PORT of the page and the API.")] = f"{LOOPBACK}:8080",
    mqtt: Mqtt = f"{LOOPBACK}:1883",
    mqtt_tls: Annotated[
        bool, typer.Option("--mqtt-tls", help="Take gateways by the certificates of `tocsin gateway enroll` alone.")
    ] = False,
    nats: Annotated[
        str | None, typer.Option("--nats", help="URL of a running nats-server instead of an own one.")
    ] = None,
    history: History = HistoryKind.DUCKDB,
    history_days: Annotated[
        float, typer.Option("--history-days", min=1, max=MOST_DAYS, help="Readings that are older are forgotten.")
    ] = KEPT_DAYS,
    sql: Sql = None,
    gateway_rate: Annotated[
        int, typer.Option("--gateway-rate", min=1, help="Messages a second that one gateway may send for long.")
    ] = GATEWAY_RATE,
    reorder_timeout: ReorderTimeout = 0.0,
    stream_bytes: StreamBytes = STREAM_BYTES,
    role: Role = "all",
    as_json: Json = False,
) -> None:
    """Run the cloud side: broker, history, alarms, messages, API and page."""
    roles = _roles(role)
    if roles != ALL and nats is None:
        raise typer.BadParameter(f"--role {role} needs the broker that it shares with the others: --nats URL")
    servers = [_address(text) for text in mqtt.split(",")]
    if len(servers) > 1 and nats is None:
        raise typer.BadParameter("--mqtt names several servers: a broker of one's own, without --nats, is one")
    if (data / UNFINISHED).exists():
        raise typer.BadParameter(f"a restore into {data} was cut short: empty the folder, and restore once more")
    settings = CloudSettings(
        plant=plant,
        data=data,
        http=_address(http),
        mqtt=servers[0],
        mqtt_others=tuple(servers[1:]),
        mqtt_tls=mqtt_tls,
        nats_url=None if nats is None else _nats(nats),
        sql=None if sql is None else _sql(sql),
        roles=roles,
        history=_history(history),
        historian=HistorianSettings(retain_days=history_days),
        limits=LimitSettings(messages_per_s=gateway_rate, reorder_ns=int(reorder_timeout * 1e9)),
        stream=StreamSettings(max_bytes=stream_bytes),
    )
    loaded = load_plant(plant)
    # It lives as long as the process, and to look through it for garbage takes seconds each time.
    gc.freeze()

    async def work(stop: asyncio.Event) -> Mapping[str, Any]:
        return asdict(await run(settings, loaded, SystemClock(), stop, _first_start))

    try:
        _main(work, as_json=as_json)
    finally:
        # As in `run`, which may not have come so far: DuckDB's binding complains of what is never collected.
        gc.unfreeze()


def broker(data: Path, mqtt: str, nats: str, *, hosts: Sequence[str] | None, as_json: bool) -> None:
    """Run the broker alone, with TLS where `hosts` says by which names it is reached.

    Raises:
        typer.BadParameter: `mqtt` or `nats` is no address.
        typer.Exit: it ended with an error.
    """
    listen = _address(mqtt), _address(nats)

    async def work(stop: asyncio.Event) -> Mapping[str, Any]:
        clock, tls, users = SystemClock(), None, None
        if hosts is not None:
            names = [*(address.host for address in listen), *hosts]
            tls, users = secured(data / AUTHORITY, names, clock)
        settings = BrokerSettings(folder=(data / "nats").resolve(), mqtt=listen[0], nats=listen[1], tls=tls)
        return await _broker(await NatsServer.start(settings, clock, users), stop)

    _main(work, as_json=as_json)


def cluster_server(settings: BrokerSettings, tls: Path, *, as_json: bool) -> None:
    """Run a server of a cluster, as `serve_cluster`, until it is told to end.

    Raises:
        typer.Exit: it ended with an error.
    """
    _main(partial(serve_cluster, settings, tls), as_json=as_json)


async def serve_cluster(settings: BrokerSettings, tls: Path, stop: asyncio.Event) -> Mapping[str, Any]:
    """Be a server of a cluster until `stop`; it lets in nobody whose certificate does not count.

    `tls` is the folder of its files. Returns how often nats-server had to be started anew.

    Raises:
        BrokerError: nats-server does not start.
        OSError: a file is missing.
    """
    clock, listed = SystemClock(), Enrolment(settings.folder)
    # What is left of an earlier run may have been revoked since.
    listed.path.unlink(missing_ok=True)
    host = LOOPBACK if settings.nats.host in EVERYWHERE else settings.nats.host
    url = f"tls://{Address(host, settings.nats.port)}"
    async with AsyncExitStack() as stack:
        server = await NatsServer.start(settings, clock, Users(listed, clock))
        stack.push_async_callback(server.stop)
        client = await connect(url, f"tocsin-broker-{settings.server_name}", broker_context(tls), BROKER_INBOX)
        stack.push_async_callback(client.close)
        return await _broker(server, stop, ("certificates", partial(keep_hearing, client, listed.path)))


async def _broker(server: NatsServer, stop: asyncio.Event, *more: Part) -> Mapping[str, Any]:
    parts: tuple[Part, ...] = (("broker", server.supervise), ("broker-users", server.keep_users), *more)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(part(), name=name) for name, part in parts]
            await stop.wait()
            for task in running:
                task.cancel()
    finally:
        await server.stop()
    return {"restarts": server.restarts}


def _main(work: Work, *, as_json: bool) -> None:
    os.umask(PRIVATE)
    failed: list[BaseException] = []
    result: Mapping[str, Any] = {}
    try:
        result = asyncio.run(_until_signal(work))
    except* ENDS as group:
        failed = leaves(group)
    for error in failed:
        log.critical("ended", reason=str(error) or repr(error))
    if as_json:
        typer.echo(json.dumps({"error": str(failed[0]) or repr(failed[0])} if failed else result, ensure_ascii=False))
    if failed:
        raise typer.Exit(1)


async def _until_signal(work: Work) -> Mapping[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await work(stop)


def _first_start(user: str, password: str) -> None:
    typer.echo(f"first start: sign in as {user} with the password {password} (it is not shown again)", err=True)
