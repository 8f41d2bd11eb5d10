"""The cloud side's own certificates: the embedded broker's, and the one with which its processes call the broker."""

import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.authority import CA_FILE, YEAR, Authority, Made, ends_at, new_serial
from tocsin_cloud.adapters.enrolment import Enrolment, moment
from tocsin_cloud.adapters.permissions import BROKER, CLOUD, Users
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.settings import LOOPBACK, BrokerTls
from tocsin_core.clock import Clock

# One file for certificate and key: no reader ever finds the one without the other.
SERVER_FILE: Final = "server.pem"
CLOUD_FILE: Final = "cloud.pem"
BROKER_FILE: Final = "broker.pem"
# They never leave our own machines, and every start makes them anew before they end.
VALID: Final = 10 * YEAR
RENEWED_BEFORE: Final = 5 * YEAR


def server_certificate(folder: Path, hosts: Iterable[str], now: datetime) -> Made:
    """Sign for a server that is reached by `hosts`, and from its own machine.

    Raises:
        OSError: the authority's files cannot be used.
    """
    names = (*hosts, "localhost", LOOPBACK, "::1", socket.gethostname())
    return Authority.open(folder).server(names, now, VALID)


def secured(folder: Path, hosts: Iterable[str], clock: Clock) -> tuple[BrokerTls, Users]:
    """The files of an own broker, and whom it lets in; its certificate is made at each start: `hosts` may be others.

    Raises:
        OSError: the authority's files cannot be used, or the disk does not take it.
    """
    made, path = server_certificate(folder, hosts, moment(clock.now_ns())), (folder / SERVER_FILE).resolve()
    write_whole(path, made.certificate + made.key)
    return BrokerTls(ca=path.with_name(CA_FILE), certificate=path, key=path), Users(Enrolment(folder), clock)


def cloud_context(folder: Path, clock: Clock) -> ssl.SSLContext:
    """With what the cloud side's processes call a broker that wants a certificate; made where there is none yet.

    Raises:
        OSError: there is none and it cannot be made, or it cannot be used.
    """
    path, now = folder / CLOUD_FILE, moment(clock.now_ns())
    if not path.exists() or ends_at(path) - now < RENEWED_BEFORE:
        made = Authority.open(folder).client("tocsin cloud", CLOUD, new_serial(), now, VALID)
        write_whole(path, made.certificate + made.key)
    return _context(folder, path)


def broker_certificate(folder: Path, now: datetime) -> Made:
    """Sign for a cluster's server that asks whose certificates count.

    Raises:
        OSError: the authority's files cannot be used.
    """
    return Authority.open(folder).client("tocsin broker", BROKER, new_serial(), now, VALID)


def broker_context(folder: Path) -> ssl.SSLContext:
    """With what a cluster's server asks, by the files in its folder.

    Raises:
        OSError: they are not there, or cannot be used.
    """
    return _context(folder, folder / BROKER_FILE)


def _context(folder: Path, path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / CA_FILE))
    context.load_cert_chain(str(path))
    return context
