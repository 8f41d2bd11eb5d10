"""Sparkplug B 3.0: topics, the payload codec, and the rules of both ends over bytes and columns."""

from tocsin_core.sparkplug.edge import ClockState, EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers, Message
from tocsin_core.sparkplug.host import Declared, Fault, Fed, HostSession, JournalPart
from tocsin_core.sparkplug.payload import (
    Command,
    PayloadError,
    committed,
    journal_committed,
    orders,
    parse_command,
    rebirth,
    slice_part,
)
from tocsin_core.sparkplug.state import HostState, parse_state
from tocsin_core.sparkplug.topics import Topic, parse_topic

__all__ = [
    "ClockState",
    "Command",
    "Declared",
    "EdgeDevice",
    "EdgeMetric",
    "EdgeSession",
    "Fault",
    "Fed",
    "HostSession",
    "HostState",
    "JournalNumbers",
    "JournalPart",
    "Message",
    "PayloadError",
    "Topic",
    "committed",
    "journal_committed",
    "orders",
    "parse_command",
    "parse_state",
    "parse_topic",
    "rebirth",
    "slice_part",
]
