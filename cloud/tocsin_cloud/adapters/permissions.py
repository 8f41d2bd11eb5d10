"""What a nats-server lets each user do: each certificate as itself alone; without them nobody as the cloud side."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from tocsin_cloud.adapters.enrolment import Certificate, Enrolment, moment
from tocsin_cloud.adapters.stream import to_subject
from tocsin_core.clock import Clock
from tocsin_core.sparkplug.topics import NAMESPACE

CLOUD: Final = "tocsin:cloud"
"""The user of the cloud side's own certificate, and without certificates of every NATS client; it may do everything."""
BROKER: Final = "tocsin:broker"
"""The user of the certificate with which a cluster's server asks the cluster whose certificates count."""
HOST: Final = "tocsin:host"
"""Without certificates: who tells over MQTT, by a password, whether the host is there."""
ANYBODY: Final = "anybody"
"""Without certificates: every other MQTT client: one without a user name, or with this one, and itself as password."""

LIST_STREAM: Final = "CERTIFICATES"
LIST_SUBJECT: Final = "tocsin.certificates"
LIST_REQUEST: Final = f"$JS.API.STREAM.MSG.GET.{LIST_STREAM}"
BROKER_INBOX: Final = "_INBOX_broker"

NODE_SAYS: Final = ("NBIRTH", "NDATA", "NDEATH")
DEVICE_SAYS: Final = ("DBIRTH", "DDATA", "DDEATH")

# What orders gateways and the cloud side about, and what NATS itself listens to. Anything else may be a sensor's topic.
NOT_SAID_BY_ANYBODY: Final = (
    *(f"{to_subject(NAMESPACE)}.*.{kind}.>" for kind in ("NCMD", "DCMD")), f"{to_subject(NAMESPACE)}.STATE.>",
    "tocsin.>", "readings.>", "_INBOX.>", "_R_.>", "$JS.>", "$KV.>", "$MQTT.>", "$O.>", "$SYS.>",
)  # fmt: skip
# The server's own deliveries to MQTT clients ($MQTT.>) are subscriptions of theirs.
NOT_HEARD_BY_ANYBODY: Final = ("tocsin.>", "_INBOX.>", "_R_.>", "$JS.>", "$KV.>", "$O.>", "$SYS.>")


def users_text(certificates: Iterable[Certificate], now: datetime) -> str:
    """The users of a server's `authorization`: the cloud side, servers, every certificate that counts at `now`."""
    users = [{"user": CLOUD}, _broker(), *(_gateway(each) for each in certificates if each.counts(now))]
    return "\n".join(["users: [", *(f"  {json.dumps(user)}" for user in users), "]", ""])


def _broker() -> dict[str, Any]:
    hears = [LIST_SUBJECT, f"{BROKER_INBOX}.>"]
    return {
        "user": BROKER,
        "permissions": {"publish": {"allow": [LIST_REQUEST]}, "subscribe": {"allow": hears}},
        "allowed_connection_types": ["STANDARD"],
    }


def _gateway(certificate: Certificate) -> dict[str, Any]:
    site, gateway = certificate.site, certificate.gateway
    says = [_subject(site, kind, gateway) for kind in NODE_SAYS]
    says += [f"{_subject(site, kind, gateway)}.*" for kind in DEVICE_SAYS]
    hears = [_subject(site, "NCMD", gateway), f"{_subject(site, 'DCMD', gateway)}.*", f"{_subject('STATE')}.*"]
    return {
        "user": certificate.user,
        "permissions": {"publish": {"allow": says}, "subscribe": {"allow": hears}},
        "allowed_connection_types": ["MQTT"],
    }


def open_users(password: str) -> list[str]:
    """The lines of `authorization` of a server without certificates; `password` is the host's, as it is written there.

    The host may be told of by nobody else: a false STATE silences gateways that wait for their primary host.
    """
    state = [f"{_subject('STATE')}.>"]
    may = {"publish": {"allow": state}, "subscribe": {"allow": state}}
    may_not = {"publish": {"deny": NOT_SAID_BY_ANYBODY}, "subscribe": {"deny": NOT_HEARD_BY_ANYBODY}}
    mqtt = '"allowed_connection_types": ["MQTT"]'
    return [
        f'  {{"user": "{CLOUD}", "allowed_connection_types": ["STANDARD"]}}',
        f'  {{"user": "{HOST}", "password": {password}, "permissions": {json.dumps(may)}, {mqtt}}}',
        f'  {{"user": "{ANYBODY}", "password": "{ANYBODY}", "permissions": {json.dumps(may_not)}, {mqtt}}}',
    ]


def _subject(*levels: str) -> str:
    return to_subject("/".join((NAMESPACE, *levels)))


class Users:
    """The users as they are now; read anew when a certificate was issued or revoked, or ends."""

    def __init__(self, enrolment: Enrolment, clock: Clock) -> None:
        """Nothing is read yet."""
        self._enrolment = enrolment
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._looked: datetime | None = None
        self._until: datetime | None = None
        self._text = ""

    def text(self) -> str:
        """What the server's file of users has to say.

        Raises:
            OSError: the list of certificates cannot be read; the users stay as they were.
        """
        now = moment(self._clock.now_ns())
        path = self._enrolment.path
        held = path.stat() if path.exists() else None
        stamp = (0, 0) if held is None else (held.st_mtime_ns, held.st_ino)
        # Of a clock that was ahead certificates had ended that count again once it is set back.
        set_back, self._looked = self._looked is not None and now < self._looked, now
        if stamp != self._stamp or set_back or (self._until is not None and now >= self._until):
            certificates = self._enrolment.certificates()
            self._text = users_text(certificates, now)
            self._stamp = stamp
            self._until = min((each.end for each in certificates if each.counts(now)), default=None)
        return self._text
