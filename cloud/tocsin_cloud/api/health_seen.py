"""What the plant's health is judged by: gateways and points of the live view, our own figures, and how they grew."""

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_cloud.api import model_health as model
from tocsin_cloud.api.growth import Growth, Labels, Samples
from tocsin_cloud.api.model import Name
from tocsin_cloud.api.ports import ApiPorts, GatewayStatus, Latest
from tocsin_cloud.loops.silence import dark
from tocsin_core.plant import Plant
from tocsin_core.readings import I64, Bool
from tocsin_core.rules import NS


@dataclass(frozen=True, slots=True)
class Seen:
    """What a judgement is made of; `unlit` bool[points]: which of the plant's points nobody can judge.

    `at_s`: when the counters of `growth` were looked at last, by the clock that nobody sets.
    """

    plant: Plant
    gateways: Mapping[str, GatewayStatus]
    unlit: Bool
    since: Mapping[str, int]
    samples: Samples
    growth: Growth
    at_s: float
    not_ready: str | None
    now_ns: int

    def figure(self, figure: str, **labels: str) -> float | None:
        """Return a figure of ours, None where it is not shown."""
        return self.samples.get((f"tocsin_{figure}", frozenset(labels.items())))

    def labelled(self, figure: str, label: str) -> dict[str, float]:
        """Return a figure of ours by its only label."""
        name = f"tocsin_{figure}"
        return {dict(labels)[label]: value for (of, labels), value in self.samples.items() if of == name}

    def grown(self, counter: str, seconds: float) -> dict[Labels, float]:
        """Return by labels how much a counter of ours grew in the last `seconds`."""
        return self.growth.of_late(counter, seconds, self.at_s)

    def grown_by(self, counter: str, seconds: float, label: str) -> dict[str, float]:
        """Return by its only label how much a counter of ours grew in the last `seconds`."""
        return {dict(labels)[label]: by for labels, by in sorted(self.grown(counter, seconds).items(), key=_by_labels)}

    def behind_s(self, role: str) -> float | None:
        """Return the age of what a role has committed last, None where it has nothing yet."""
        at = self.figure("stream_position_timestamp_seconds", role=role)
        return None if not at else max(0.0, self.now_ns / NS - at)

    def clock_behind_s(self, role: str) -> float:
        """Return by how much the stream's clock is ahead of ours: what is late by less than that does not seem late."""
        at = self.figure("stream_position_timestamp_seconds", role=role)
        return 0.0 if not at else max(0.0, at - self.now_ns / NS)

    def unread(self, role: str) -> float:
        """Return what a role has yet to read, as a share of what the stream may hold; 0 where it has no bound."""
        at, last = self.figure("stream_position", role=role), self.figure("stream_last") or 0.0
        messages, most = self.figure("stream_messages") or 0.0, self.figure("stream_bytes_limit") or 0.0
        if at is None or not messages or not most:
            return 0.0
        return min(1.0, max(0.0, last - at) / messages) * (self.figure("stream_bytes") or 0.0) / most


def _by_labels(found: tuple[Labels, float]) -> list[tuple[str, str]]:
    return sorted(found[0])


def see(
    ports: ApiPorts, latest: Latest, allowed_ns: I64, since: Mapping[str, int], samples: Samples, growth: Growth
) -> Seen:
    """Look at everything; `samples` are the figures, and were just taken into `growth`."""
    now_ns = ports.clock.now_ns()
    declared = len(ports.plant.points)
    unlit = dark(latest.time_ns[:declared], latest.quality[:declared], allowed_ns, now_ns)
    gateways = {status.id: status for status in ports.live.gateways()}
    at_s = ports.clock.monotonic()
    return Seen(ports.plant, gateways, unlit, since, samples, growth, at_s, ports.ready(), now_ns)


def fault(kind: model.TroubleKind, subject: str, since_ns: int | None, zh: str, en: str) -> model.Trouble:
    """Something is not watched, or nobody is told."""
    return model.Trouble(severity="fault", kind=kind, subject=subject, since=since_ns, text=Name(zh=zh, en=en))


def warning(kind: model.TroubleKind, subject: str, since_ns: int | None, zh: str, en: str) -> model.Trouble:
    """Something is not as it should be."""
    return model.Trouble(severity="warning", kind=kind, subject=subject, since=since_ns, text=Name(zh=zh, en=en))
