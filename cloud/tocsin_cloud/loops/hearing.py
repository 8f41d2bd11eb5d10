"""Sparkplug messages into a host session, within the bounds on what nobody declared."""

import json
from dataclasses import replace
from typing import Final, Self

import numpy as np

from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.limits import Limits
from tocsin_cloud.loops.points import Place, PointTable
from tocsin_cloud.settings import LimitSettings
from tocsin_core.managed import Standing
from tocsin_core.readings import AHEAD_NS, EARLIEST_NS, LATEST_NS, Frame
from tocsin_core.sparkplug import Topic, parse_topic
from tocsin_core.sparkplug.host import Fault, Fed, HostSession
from tocsin_core.sparkplug.payload import NS_PER_MS, sent_ms

TOO_FAST: Final = "too-fast"
STRANGERS_TOO_FAST: Final = "strangers-too-fast"
NOT_HEARD: Final = frozenset({TOO_FAST, STRANGERS_TOO_FAST})
LONGEST_TOPIC: Final = 1000
BIRTHS: Final = ("NBIRTH", "DBIRTH")


class Hearing:
    """A host session behind the limits on how fast each gateway may send; both go into one snapshot."""

    def __init__(
        self,
        table: PointTable,
        settings: LimitSettings,
        session: HostSession | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Have heard nothing, or go on from a snapshot by `restore`."""
        self._table = table
        self._session = session or HostSession(table.resolve, settings.reorder_ns)
        self._limits = limits or Limits(settings)

    def hear(self, message: Message) -> Fed:
        """Take one message in, or refuse it (`NOT_HEARD`): then it costs next to nothing, and leaves no trace."""
        topic = parse_topic(message.topic)
        # A death is cheap, and to miss one would show a gateway that is gone.
        if topic is None or topic.kind == "NDEATH":
            return hear(self._session, self._table, message)
        # Who was never born shares one allowance with all such: there is no end of names.
        known = self._table.knows((topic.group, topic.node, ""))
        sender = f"{topic.group}/{topic.node}" if known else ""
        # A device's death is not the will of a connection, and can be sent at any rate: it has an allowance of its own.
        allowance = f"{sender}/DDEATH" if known and topic.kind == "DDEATH" else sender
        if self._limits.admits(allowance, len(message.payload), message.time_ns):
            return hear(self._session, self._table, message)
        # Nothing of the plant's is lost by a stranger's flood, born or not.
        reason = TOO_FAST if self._table.declares(topic.group, topic.node) else STRANGERS_TOO_FAST
        fault = Fault(reason, f"{sender or 'nobody that was born'} sends faster than it may")
        return Fed(Frame.empty(), topic.group, topic.node, faults=(fault,))

    def overdue(self, now_ns: int) -> list[tuple[str, str]]:
        """The gateways of which messages have been waited for in vain (`HostSession.overdue`)."""
        return self._session.overdue(now_ns)

    def snapshot(self) -> bytes:
        """Everything that is remembered, as bytes for `restore`."""
        limits = json.dumps(self._limits.to_json(), ensure_ascii=False, separators=(",", ":"))
        return b'{"limits":' + limits.encode() + b',"session":' + self._session.snapshot() + b"}"

    @classmethod
    def restore(cls, snapshot: bytes, table: PointTable, settings: LimitSettings) -> Self:
        """Rebuild what `snapshot` kept.

        Raises:
            ValueError: the bytes are not a snapshot of this version.
        """
        held = json.loads(snapshot)
        # Earlier versions kept the session alone, and limited nobody.
        session = held.get("session", held)
        of_host = HostSession.restore_from(session, table.resolve, settings.reorder_ns)
        return cls(table, settings, of_host, Limits(settings, held.get("limits")))


def hear(session: HostSession, table: PointTable, message: Message) -> Fed:
    """Take one message into `session`; what is beyond the bounds of `table` comes back as a fault and leaves no trace.

    Only a birth that can be read makes a gateway or a device known.
    """
    if len(message.topic) > LONGEST_TOPIC:
        return Fed(Frame.empty(), faults=(Fault("topic-too-long", message.topic[:LONGEST_TOPIC]),))
    topic = parse_topic(message.topic)
    places = [] if topic is None else _places(topic)
    for place in places:
        if not table.has_room(place):
            reason = "too-many-devices" if place[2] else "too-many-gateways"
            return Fed(Frame.empty(), faults=(Fault(reason, f"{topic}: not in the plant file, and no room for more"),))
    turned_away = table.turned_away
    fed = session.feed(message.topic, message.payload, message.time_ns)
    if is_birth(fed):
        for place in places:
            table.admit(place)
    if table.turned_away > turned_away:
        detail = f"{topic}: metrics that are not in the plant file, and no room for more"
        fed = replace(fed, faults=(*fed.faults, Fault("too-many-points", detail, table.turned_away - turned_away)))
    return _with_standing(fed)


def is_birth(fed: Fed) -> bool:
    """Whether a message was a birth that could be read."""
    return fed.kind in BIRTHS and not any(fault.reason == "undecodable" for fault in fed.faults)


def as_of_arrival(fed: Fed, message: Message) -> Frame:
    """What `message` says, with none ahead of its arrival, whether its sender's clock is wrong or the server's.

    What was just read is of then (`Frame.not_ahead`). What is sent late is as old as the sender's own clock says, and
    so late here too; what that clock had not come to when it was sent is of before it was set back, and left out.
    """
    frame, at_ns = fed.frame, message.time_ns
    sent = sent_ms(message.payload) if fed.historical else None
    if sent is not None:
        ahead_ns = min(sent * NS_PER_MS, LATEST_NS) - at_ns
        if ahead_ns > AHEAD_NS:
            # All of it, not only what is ahead: what is as old as the clock is ahead would else be of now.
            frame = replace(frame, time_ns=np.maximum(frame.time_ns - ahead_ns, EARLIEST_NS))
        frame = frame.take(frame.time_ns <= at_ns + AHEAD_NS)
    return (frame if fed.ahead is None else Frame.concat([frame, fed.ahead])).not_ahead(at_ns)


def _with_standing(fed: Fed) -> Fed:
    if fed.standing is None:
        return fed
    try:
        Standing.of_text(fed.standing)
    except ValueError as error:
        return replace(fed, standing=None, faults=(*fed.faults, Fault("no-standing", str(error))))
    return fed


def _places(topic: Topic) -> list[Place]:
    node = (topic.group, topic.node, "")
    return [node] if topic.device is None else [node, (topic.group, topic.node, topic.device)]
