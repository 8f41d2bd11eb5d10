"""Sparkplug B 3.0: topics, the payload codec, and the rules of both ends over bytes and columns."""

from tocsin_core.sparkplug.edge import EdgeDevice, EdgeMetric, EdgeSession, Message
from tocsin_core.sparkplug.host import Declared, Fault, Fed, HostSession
from tocsin_core.sparkplug.payload import Command, PayloadError, committed, parse_command, rebirth
from tocsin_core.sparkplug.state import HostState, parse_state
from tocsin_core.sparkplug.topics import Topic, parse_topic

__all__ = [
    "Command",
    "Declared",
    "EdgeDevice",
    "EdgeMetric",
    "EdgeSession",
    "Fault",
    "Fed",
    "HostSession",
    "HostState",
    "Message",
    "PayloadError",
    "Topic",
    "committed",
    "parse_command",
    "parse_state",
    "parse_topic",
    "rebirth",
]
