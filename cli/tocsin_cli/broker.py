"""`tocsin broker`: a nats-server of one's own beside the cloud side, and the configuration of a cluster's servers."""

import json
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from tocsin_cli.cloud_data import Data, Json, known_authority
from tocsin_cloud.adapters.authority import CA_FILE
from tocsin_cloud.adapters.enrolment import Enrolment, moment
from tocsin_cloud.adapters.nats_config import USERS_FILE, config_text, server_files
from tocsin_cloud.adapters.own_certificates import BROKER_FILE, broker_certificate, server_certificate
from tocsin_cloud.adapters.permissions import Users
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.cli import broker as run
from tocsin_cloud.cli import cluster_server
from tocsin_cloud.settings import AUTHORITY, LOOPBACK, Address, BrokerSettings, ClusterSettings
from tocsin_core.clock import SystemClock

# The ports that NATS and MQTT are known by (IANA: 1883 mqtt, 8883 secure-mqtt; nats-server: 4222, 6222, 8222).
CLIENT_PORT: Final = 4222
ROUTE_PORT: Final = 6222
MONITOR_PORT: Final = 8222
PLAIN_PORT: Final = 1883
SECURE_PORT: Final = 8883
ANY: Final = "0.0.0.0"  # noqa: S104 -- a cluster's server is there for other machines

app = typer.Typer(invoke_without_command=True, help="Run the broker alone, or write a cluster's configuration.")

DATA: Final = Path("var")
STORE: Final = Path("/data")


@app.callback()
def broker(
    context: typer.Context,
    data: Annotated[Path, typer.Option("--data", help="Where the stream is kept, in the folder `nats`.")] = DATA,
    mqtt: Annotated[
        str, typer.Option("--mqtt", help="HOST:PORT on which gateways connect.")
    ] = f"{LOOPBACK}:{PLAIN_PORT}",
    nats: Annotated[str, typer.Option("--nats", help="HOST:PORT for the cloud side.")] = f"{LOOPBACK}:{CLIENT_PORT}",
    *,
    mqtt_tls: Annotated[
        bool, typer.Option("--mqtt-tls", help="Take gateways by the certificates of `tocsin gateway enroll` alone.")
    ] = False,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="A name or address by which gateways reach it; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the broker alone: a nats-server with its stream and its MQTT listener."""
    if context.invoked_subcommand is None:
        run(data, mqtt, nats, hosts=(host or ()) if mqtt_tls else None, as_json=as_json)


Name = Annotated[str, typer.Option("--name", help="The server's name, another one for each.")]
Routes = Annotated[
    str, typer.Option("--routes", help="HOST[:PORT] of every server of the cluster, this one too, by commas.")
]
Cluster = Annotated[str, typer.Option("--cluster", help="The cluster's name, the same for all.")]
Listen = Annotated[str, typer.Option("--listen", help="Address on which it listens.")]
Store = Annotated[Path, typer.Option("--store", help="Folder of the stream, on the server.")]
MqttPort = Annotated[
    int | None, typer.Option("--mqtt", min=1, max=65535, help="Port for gateways; 1883, with TLS 8883.")
]
NatsPort = Annotated[int, typer.Option("--nats", min=1, max=65535, help="Port for the cloud side.")]
RoutePort = Annotated[int, typer.Option("--route", min=1, max=65535, help="Port for the other servers.")]
MonitorPort = Annotated[int, typer.Option("--monitor", min=1, max=65535, help="Port for health checks, on 127.0.0.1.")]


class Ports(NamedTuple):
    """On which ports a server listens; which one gateways find where none is said depends on TLS."""

    mqtt: int | None
    nats: int
    route: int
    monitor: int


FILES_HELP: Final = "Folder on the server with ca.pem, server.pem and server.key"


@app.command()
def config(  # noqa: PLR0913 -- each is an option
    name: Name,
    routes: Routes,
    *,
    cluster: Cluster = "tocsin",
    listen: Listen = ANY,
    store: Store = STORE,
    mqtt: MqttPort = None,
    nats: NatsPort = CLIENT_PORT,
    route: RoutePort = ROUTE_PORT,
    monitor: MonitorPort = MONITOR_PORT,
    tls: Annotated[Path | None, typer.Option("--tls", help=f"{FILES_HELP}; none is no TLS.")] = None,
    as_json: Json = False,
) -> None:
    """Write the configuration of one server of a cluster to the standard output."""
    settings = _one_of(name, routes, cluster, listen, store, Ports(mqtt, nats, route, monitor), tls)
    text = config_text(settings)
    typer.echo(json.dumps({"config": text}) if as_json else text, nl=as_json)


@app.command()
def server(  # noqa: PLR0913 -- each is an option
    name: Name,
    routes: Routes,
    tls: Annotated[Path, typer.Option("--tls", help=f"{FILES_HELP}, and broker.pem.", exists=True, file_okay=False)],
    *,
    cluster: Cluster = "tocsin",
    listen: Listen = ANY,
    store: Store = STORE,
    mqtt: MqttPort = None,
    nats: NatsPort = CLIENT_PORT,
    route: RoutePort = ROUTE_PORT,
    monitor: MonitorPort = MONITOR_PORT,
    as_json: Json = False,
) -> None:
    """Run one server of a cluster with TLS; whom it lets in it hears from the cluster, revocations included."""
    settings = _one_of(name, routes, cluster, listen, store, Ports(mqtt, nats, route, monitor), tls.resolve())
    cluster_server(settings, tls, as_json=as_json)


def _one_of(
    name: str, routes: str, cluster: str, listen: str, store: Path, ports: Ports, tls: Path | None
) -> BrokerSettings:
    return BrokerSettings(
        folder=store,
        nats=Address(listen, ports.nats),
        mqtt=Address(listen, ports.mqtt or (PLAIN_PORT if tls is None else SECURE_PORT)),
        server_name=_word(name, "--name"),
        monitor=Address(LOOPBACK, ports.monitor),
        cluster=ClusterSettings(
            name=_word(cluster, "--cluster"), listen=Address(listen, ports.route), routes=_addresses(routes)
        ),
        tls=None if tls is None else server_files(tls),
    )


@app.command()
def certificate(
    host: Annotated[list[str], typer.Option("--host", help="A name or address by which it is reached; repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for what the server gets.")],
    data: Data = DATA,
    *,
    as_json: Json = False,
) -> None:
    """Issue the certificate of one server of a cluster; with it goes whom it lets in."""
    clock, folder = SystemClock(), data / AUTHORITY
    try:
        now = moment(clock.now_ns())
        made, asking = server_certificate(folder, host, now), broker_certificate(folder, now)
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = server_files(out)
        write_whole(files.certificate, made.certificate)
        write_whole(files.key, made.key)
        write_whole(out / BROKER_FILE, asking.certificate + asking.key)
        write_whole(files.ca, (folder / CA_FILE).read_bytes())
        write_whole(out / USERS_FILE, Users(Enrolment(folder), clock).text().encode())
    except OSError as error:
        raise typer.BadParameter(str(error)) from error
    told = {"serial": made.serial, "ends": made.not_after.isoformat(), "folder": str(out)}
    typer.echo(
        json.dumps(told, ensure_ascii=False) if as_json else f"certificate until {made.not_after:%Y-%m-%d}: {out}"
    )


@app.command()
def users(data: Data = DATA, *, as_json: Json = False) -> None:
    """Write whom a cluster's servers let in to the standard output: their file `users.conf`, after each change."""
    known_authority(data)
    try:
        text = Users(Enrolment(data / AUTHORITY), SystemClock()).text()
    except OSError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(json.dumps({"users": text}) if as_json else text, nl=as_json)


def _word(text: str, option: str) -> str:
    if not text or any(character.isspace() or character in ".*>" for character in text):
        raise typer.BadParameter(f"{option}: {text!r} is not one word without `.`, `*` and `>`")
    return text


def _addresses(text: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(each if ":" in each else f"{each}:{ROUTE_PORT}") for each in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--routes: {error}") from error
