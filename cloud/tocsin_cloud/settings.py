"""Every option of the cloud side, in one place, with its default."""

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

LOOPBACK: Final = "127.0.0.1"
SQL_FILE: Final = "tocsin.sqlite"
AUTHORITY: Final = "authority"
ENROLLED: Final = "enrolled"
"""What is issued for gateways lies here until it is on their boxes."""


class Address(NamedTuple):
    """A TCP address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read HOST:PORT, or PORT alone on the loopback address.

        Raises:
            ValueError: it is neither, or the port is not between 1 and 65535.
        """
        host, _, port = text.rpartition(":")
        if not port.isdecimal() or not 1 <= int(port) <= 65535:  # noqa: PLR2004 -- the last TCP port
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host.strip("[]") or LOOPBACK, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it; of a name that is not `localhost` nobody knows."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HistoryKind(StrEnum):
    """Which time-series store keeps the readings."""

    DUCKDB = "duckdb"
    VICTORIAMETRICS = "victoriametrics"
    INFLUXDB = "influxdb"


@dataclass(frozen=True, slots=True)
class HistoryAddress:
    """Where the history is: DuckDB's file in the data folder, or one server, or where a cluster writes and reads.

    `path` is the organisation and the bucket of InfluxDB.
    """

    kind: HistoryKind = HistoryKind.DUCKDB
    hosts: tuple[Address, ...] = ()
    path: tuple[str, ...] = ()
    secure: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `duckdb`, `victoriametrics://HOST:PORT[,HOST:PORT]` or `influxdb://HOST:PORT/ORG/BUCKET`.

        `+https` after the name of a server makes the connection one by TLS.

        Raises:
            ValueError: it is none of these.
        """
        if text == HistoryKind.DUCKDB:
            return cls()
        scheme, _, rest = text.partition("://")
        name, plus, protocol = scheme.partition("+")
        if (
            name not in (HistoryKind.VICTORIAMETRICS, HistoryKind.INFLUXDB)
            or (plus and protocol != "https")
            or not rest
        ):
            raise ValueError(f"{text!r} is not duckdb, victoriametrics://HOST:PORT or influxdb://HOST:PORT/ORG/BUCKET")
        if "@" in rest:
            raise ValueError("a password or token does not belong into the address: other users of the machine see it")
        hosts, *path = rest.rstrip("/").split("/")
        kind = HistoryKind(name)
        addresses = tuple(Address.parse(host) for host in hosts.split(","))
        if kind is HistoryKind.INFLUXDB and (len(addresses), len(path)) != (1, 2):
            raise ValueError(f"{text!r} is not influxdb://HOST:PORT/ORG/BUCKET")
        if kind is HistoryKind.VICTORIAMETRICS and (len(addresses) > 2 or path):  # noqa: PLR2004 -- to write, to read
            raise ValueError(f"{text!r} is not victoriametrics://HOST:PORT or, of a cluster, INSERT:PORT,SELECT:PORT")
        return cls(kind, addresses, tuple(unquote(part) for part in path), bool(plus))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What a nats-server needs to be one of several."""

    name: str
    listen: Address
    # HOST:PORT of every server's `listen`, its own among them.
    routes: tuple[Address, ...]

    @property
    def replicas(self) -> int:
        """Copies of what the MQTT listener keeps: three as soon as there are three servers to hold them."""
        return 3 if len(self.routes) >= 3 else 1  # noqa: PLR2004 -- of two, none would be a majority


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTls:
    """The PEM files of a nats-server that takes nobody without a certificate of the authority `ca`."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """One nats-server: the embedded one, or one of a cluster."""

    folder: Path
    nats: Address
    mqtt: Address
    server_name: str = "tocsin"
    cluster: ClusterSettings | None = None
    tls: BrokerTls | None = None
    # Where it answers health checks; None: nowhere.
    monitor: Address | None = None
    # Left out, it logs to its standard error.
    log_file: Path | None = None
    # A crash of the machine loses at most this much of the stream; the gateways still hold it.
    sync_interval: str = "1s"
    max_payload: int = 4 << 20
    stop_timeout_s: float = 2.0
    ready_timeout_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """The durable stream."""

    max_age_s: float = 7 * 86400.0
    max_bytes: int = 8 << 30
    partitions: int = 16
    # Of each message on a cluster; a single server keeps one.
    copies: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorianSettings:
    """The historian role."""

    commit_interval_s: float = 0.5
    commit_rows: int = 200_000
    rebirth_interval_s: float = 10.0
    retain_days: float = 3650.0
    retain_interval_s: float = 3600.0
    # How often the state of a history on a server goes to where other machines find it.
    share_interval_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """The alarms role."""

    partition: int = 0
    snapshot_interval_s: float = 10.0
    # How often a snapshot goes to where other machines find it.
    share_interval_s: float = 300.0
    tick_interval_s: float = 1.0
    rebirth_interval_s: float = 10.0
    outlook_interval_s: float = 1.0
    evidence_before_s: float = 600.0
    evidence_interval_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerSettings:
    """How much that the plant file does not declare is taken in; beyond it is quarantined."""

    gateways: int = 1000
    devices: int = 10_000
    points: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How fast one gateway may send for long, and for how long at once faster; beyond it is not heard, and quarantined.

    The fastest gateway of ours, sending history after a cut, was measured at 3,100 messages of 1.2 kB a second.
    `reorder_ns` is how long to wait for a message that others came before (Sparkplug's Reorder Timeout).
    """

    messages_per_s: int = 5_000
    bytes_per_s: int = 16 << 20
    burst_s: float = 2.0
    reorder_ns: int = 0


class Role(StrEnum):
    """A part of the cloud side's work; a process does one or several."""

    HISTORIAN = "historian"  # the stream into the history, and the acknowledgements to the gateways
    ALARMS = "alarms"  # engine, tickets, orders
    NOTIFY = "notify"  # messages to people
    API = "api"  # the HTTP interface and the page


Roles = frozenset[Role]
ALL: Final[Roles] = frozenset(Role)
# What is done by one process at a time, by lease.
WORKERS: Final[Roles] = ALL - {Role.API}
_NAMED: Final = {"all": ALL, "workers": WORKERS}


def parse_roles(text: str) -> Roles:
    """Read `all`, `workers`, or roles with commas between them.

    Raises:
        ValueError: one of them is no role.
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        return frozenset(Role(name) for name in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} is not all, workers, or some of {','.join(Role)}") from error


def name_of(roles: Roles) -> str:
    """What `parse_roles` reads as `roles`."""
    return next((name for name, named in _NAMED.items() if named == roles), ",".join(sorted(roles)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """One cloud process: where its data lie and where it listens."""

    plant: Path
    data: Path
    http: Address
    mqtt: Address
    # Of a cluster, where its other servers take gateways.
    mqtt_others: tuple[Address, ...] = ()
    # Whether the MQTT listener takes gateways by their certificates alone, of an own broker the NATS listener too.
    mqtt_tls: bool = False
    # The address of a running nats-server, which several sites may share; None: start one that is the plant's alone.
    nats_url: str | None = None
    # The address of the SQL database; None: a file in the data folder.
    sql: str | None = None
    roles: Roles = ALL
    history: HistoryAddress = field(default_factory=HistoryAddress)
    quarantine_kept: int = 1000
    stream: StreamSettings = field(default_factory=StreamSettings)
    historian: HistorianSettings = field(default_factory=HistorianSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    strangers: StrangerSettings = field(default_factory=StrangerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    @property
    def sql_file(self) -> Path:
        """The SQLite file."""
        return self.data / SQL_FILE

    @property
    def outbox(self) -> Path:
        """The folder in which the demo's channel leaves its messages."""
        return self.data / "outbox"

    @property
    def broker_folder(self) -> Path:
        """The folder of the embedded nats-server."""
        return self.data / "nats"

    @property
    def authority_folder(self) -> Path:
        """The folder of our own certificate authority."""
        return self.data / AUTHORITY

    @property
    def snapshot_file(self) -> Path:
        """The engine's snapshot."""
        return self.data / f"alarms-{self.alarms.partition}.npz"
