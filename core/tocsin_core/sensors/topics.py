"""MQTT topics and filters: which messages a filter takes, what its wildcards stand for, and fewest that take all."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tocsin_core.sparkplug.topics import NAMESPACE

LONGEST_TOPIC: Final = 200
SPARKPLUG_LEVELS: Final = (4, 5)


@dataclass(frozen=True, slots=True)
class SparkplugSource:
    """An edge node of a sensor network, or with `device` one of its devices."""

    group: str
    node: str
    device: str | None = None

    @property
    def filter(self) -> str:
        """The filter that takes all messages of the node and its devices."""
        return f"{NAMESPACE}/{self.group}/+/{self.node}/#"


def filter_problem(topic: str) -> str | None:
    """What is wrong with a topic or filter (MQTT 3.1.1, 4.7), None if nothing is."""
    if not topic or len(topic) > LONGEST_TOPIC or "\x00" in topic:
        return f"a topic has 1 to {LONGEST_TOPIC} signs"
    *levels, last = topic.split("/")
    if any("#" in level for level in levels) or ("#" in last and last != "#"):
        return "# stands alone, as the last level"
    if any("+" in level and level != "+" for level in (*levels, last)):
        return "+ stands alone in its level"
    if levels and levels[0] == NAMESPACE and sparkplug_source(topic) is None:
        return f"a Sparkplug sensor's topic is {NAMESPACE}/GROUP/+/NODE or {NAMESPACE}/GROUP/+/NODE/DEVICE"
    return None


def sparkplug_source(topic: str) -> SparkplugSource | None:
    """Read `spBv1.0/GROUP/+/NODE[/DEVICE]`; None for any other topic."""
    levels = topic.split("/")
    if len(levels) not in SPARKPLUG_LEVELS or levels[0] != NAMESPACE or levels[2] != "+":
        return None
    group, node, *device = levels[1], levels[3], *levels[4:]
    if any(each in ("", "+", "#") for each in (group, node, *device)):
        return None
    return SparkplugSource(group, node, device[0] if device else None)


def captured(topic_filter: str, topic: str) -> str | None:
    """What the wildcards of a filter stand for in `topic`, `/` between; "" where it has none, None: not taken by it.

    A wildcard in the first level takes no topic that begins with `$` (MQTT 3.1.1, 4.7.2).
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return None
    found: list[str] = []
    for place, level in enumerate(wanted):
        if level == "#":
            return "/".join([*found, *levels[place:]])
        if place >= len(levels):
            return None
        if level == "+":
            found.append(levels[place])
        elif level != levels[place]:
            return None
    return "/".join(found) if len(wanted) == len(levels) else None


def _covers(wide: str, narrow: str) -> bool:
    """Whether filter `wide` takes all that `narrow` takes."""
    ours, theirs = wide.split("/"), narrow.split("/")
    if narrow.startswith("$") and ours[0] in ("+", "#"):
        return False
    for place, level in enumerate(ours):
        if level == "#":
            return True
        if place >= len(theirs) or theirs[place] == "#":
            return False
        if level not in ("+", theirs[place]):
            return False
    return len(ours) == len(theirs)


def fewest(filters: Iterable[str]) -> tuple[str, ...]:
    """Those of `filters` that no other covers: where two take a message, some brokers send it twice."""
    kept: list[str] = []
    for one in dict.fromkeys(filters):
        if any(_covers(other, one) for other in kept):
            continue
        kept = [other for other in kept if not _covers(one, other)]
        kept.append(one)
    return tuple(kept)
