"""Sparkplug topic names: `spBv1.0/group/kind/node[/device]` and `spBv1.0/STATE/host` (Sparkplug 3.0, chapter 4)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

NAMESPACE: Final = "spBv1.0"
NODE_KINDS: Final = frozenset({"NBIRTH", "NDEATH", "NDATA", "NCMD"})
DEVICE_KINDS: Final = frozenset({"DBIRTH", "DDEATH", "DDATA", "DCMD"})


@dataclass(frozen=True, slots=True)
class Topic:
    """The parts of one Sparkplug topic; `device` is None for a node's own message."""

    group: str
    kind: str
    node: str
    device: str | None = None

    def __str__(self) -> str:
        """Spell the topic as MQTT carries it."""
        parts = [NAMESPACE, self.group, self.kind, self.node]
        return "/".join(parts if self.device is None else [*parts, self.device])


# A gateway's messages come under the same few topics, thousands of times an hour.
@lru_cache(maxsize=8192)
def parse_topic(topic: str) -> Topic | None:
    """Split `topic`, or give None if it is not a node's or a device's Sparkplug topic (a STATE topic is neither)."""
    parts = topic.split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE or not all(parts):
        return None
    if any(character in topic for character in "+#\x00"):
        return None
    kinds = NODE_KINDS if len(parts) == 4 else DEVICE_KINDS  # noqa: PLR2004 - namespace, group, kind, node
    if parts[2] not in kinds:
        return None
    return Topic(*parts[1:])


def state_topic(host: str) -> str:
    """Where the primary host `host` says whether it is online (retained JSON)."""
    return f"{NAMESPACE}/STATE/{host}"
