"""The one template of a nats-server's configuration: the embedded server's, and that of a cluster's servers."""

import json
from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.permissions import ANYBODY, CLOUD, open_users
from tocsin_cloud.settings import BrokerSettings, BrokerTls, ClusterSettings

LOG_BYTES: Final = 16 << 20
USERS_FILE: Final = "users.conf"
"""Beside the configuration: whom a server with TLS lets in, and what each may do."""

# A cluster without a leader for a moment (measured: 4.8 s) must not cost a gateway its connection.
API_TIMEOUT: Final = "10s"
PING_INTERVAL: Final = "3s"
PINGS: Final = 2


def server_files(folder: Path) -> BrokerTls:
    """The PEM files of a server under the names that they have in its folder."""
    return BrokerTls(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")


def config_text(settings: BrokerSettings) -> str:
    """The server's configuration; JSON strings are valid in its format."""
    lines = [
        f"server_name: {_quoted(settings.server_name)}",
        f"listen: {_quoted(settings.nats)}",
        f"max_payload: {settings.max_payload}",
        f"jetstream {{ store_dir: {_quoted(settings.folder)}, sync_interval: {_quoted(settings.sync_interval)} }}",
        *_mqtt(settings),
    ]
    if settings.log_file is not None:
        lines += [f"log_file: {_quoted(settings.log_file)}", f"logfile_size_limit: {LOG_BYTES}", "logfile_max_num: 3"]
    if settings.monitor is not None:
        lines.append(f"http: {_quoted(settings.monitor)}")
    if settings.tls is not None:
        lines += [_tls(settings.tls, "verify_and_map: true"), f"authorization {{ include {_quoted(USERS_FILE)} }}"]
    else:
        users = ["authorization { users: [", *open_users(f"${VARIABLE}"), "] }"]
        lines += [*users, f"no_auth_user: {_quoted(CLOUD)}"]
    if settings.cluster is not None:
        lines += _cluster(settings.cluster, settings.tls)
    return "\n".join([*lines, ""])


def _mqtt(settings: BrokerSettings) -> list[str]:
    within = [f"  listen: {_quoted(settings.mqtt)}"]
    if settings.cluster is not None:
        within += [f"  stream_replicas: {settings.cluster.replicas}", f"  js_api_timeout: {_quoted(API_TIMEOUT)}"]
    if settings.tls is not None:
        within.append("  " + _tls(settings.tls, "verify_and_map: true"))
    else:
        within.append(f"  no_auth_user: {_quoted(ANYBODY)}")
    return ["mqtt {", *within, "}"]


def _cluster(cluster: ClusterSettings, tls: BrokerTls | None) -> list[str]:
    scheme = "nats" if tls is None else "tls"
    within = [
        f"  name: {_quoted(cluster.name)}",
        f"  listen: {_quoted(cluster.listen)}",
        f"  routes: [{', '.join(_quoted(f'{scheme}://{route}') for route in cluster.routes)}]",
        # Clients are given the addresses that they were configured with, not those inside the cluster's network.
        "  no_advertise: true",
        # A server that was cut off comes back when the others have noticed that its old connections are dead: until
        # then they refuse the new ones as doubled, by the server's own settings for 90 s.
        f"  ping_interval: {_quoted(PING_INTERVAL)}, ping_max: {PINGS}",
    ]
    if tls is not None:
        # A gateway's certificate is of the same authority: without this it would do for a server's.
        within.append("  " + _tls(tls, "verify_cert_and_check_known_urls: true"))
    return ["cluster {", *within, "}"]


def _tls(tls: BrokerTls, verify: str) -> str:
    files = f"cert_file: {_quoted(tls.certificate)}, key_file: {_quoted(tls.key)}, ca_file: {_quoted(tls.ca)}"
    return f"tls {{ {files}, {verify}, timeout: 5 }}"


def _quoted(value: object) -> str:
    return json.dumps(str(value))
