"""Sparkplug messages into a host session, within the bounds on what nobody declared."""

from dataclasses import replace
from typing import Final

from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.points import Place, PointTable
from tocsin_core.managed import Standing
from tocsin_core.readings import Frame
from tocsin_core.sparkplug import Topic, parse_topic
from tocsin_core.sparkplug.host import Fault, Fed, HostSession

LONGEST_TOPIC: Final = 1000
BIRTHS: Final = ("NBIRTH", "DBIRTH")


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
