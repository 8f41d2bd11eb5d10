"""Figures of what stands and waits: gateways, points, messages, orders, the stream's room and the disk's."""

from collections import Counter as Counted
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from tocsin_cloud.adapters.channels import kind_of

QUALITIES: Final = ("good", "uncertain", "bad", "none")
ONLINE: Final = ("online", "offline", "unknown")


class WatchMetrics:
    """Gauges that nobody moves by an event: whoever looks sets them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Put them into `registry`."""
        self._registry = registry
        self._failing: set[str] = set()
        self._of_the_plant()
        self._of_what_waits()
        self._of_the_machine()

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"tocsin_{name}", text, labels, registry=self._registry)

    def _of_the_plant(self) -> None:
        gauge = self._gauge
        self.gateway_online = gauge(
            "gateway_online", "1 while a gateway is there, by its births and deaths.", ["gateway"]
        )
        self.gateway_seen = gauge(
            "gateway_last_seen_timestamp_seconds",
            "When a gateway was heard last; none before it ever was.",
            ["gateway"],
        )
        self.gateway_skew = gauge(
            "gateway_clock_skew_seconds",
            "By how much a gateway's clock was ahead of ours when it was heard last: a wrong clock beyond 30 s.",
            ["gateway"],
        )
        self.certificate_ends = gauge(
            "gateway_certificate_ends_timestamp_seconds",
            "When the last certificate of a gateway ends; none where it has none that counts.",
            ["gateway"],
        )
        self.gateway_devices = gauge(
            "gateway_devices", "Devices of a gateway by whether they are there.", ["gateway", "state"]
        )
        self.gateway_waiting = gauge(
            "gateway_batches_waiting",
            "Batches between what of a gateway is committed without a gap and the newest heard of.",
            ["gateway"],
        )
        self.points = gauge(
            "points", "Points of the plant file by the quality of their latest reading; none: never read.", ["quality"]
        )
        self.points_silent = gauge(
            "points_silent", "Points with a good reading that is older than the point may be silent."
        )
        self.rate = gauge("readings_per_second", "Readings stored a second, of late.")

    def _of_what_waits(self) -> None:
        gauge = self._gauge
        self.messages_waiting = gauge("messages_waiting", "Messages to people that wait, or are on their way.")
        self.messages_overdue = gauge(
            "messages_overdue_seconds", "How long the oldest message has waited since it was due; 0 when none is."
        )
        self.messages_failed = gauge(
            "messages_failed_last_hour", "Messages due in the last hour that were given up: nobody got them."
        )
        self.messages_failing = gauge(
            "messages_failing", "Messages to people that wait and were tried in vain, by the way to them.", ["channel"]
        )
        self.ways_dead = gauge(
            "ways_dead",
            "Services by which people are called that failed twice in a row when tried without a message, by kind.",
            ["channel"],
        )
        self.orders_oldest = gauge(
            "orders_oldest_seconds",
            "How long the oldest command has waited for its gateway's answer; 0 when none does.",
        )
        self.tickets_overdue = gauge("tickets_overdue", "Tickets that are not accepted and past their deadline.")
        self.tickets_without_evidence = gauge(
            "tickets_without_evidence", "Open tickets that wait for the trend around their alarm, or for the end of it."
        )
        self.quarantine_kept = gauge("quarantine_kept", "Refused payloads that are kept for people to look at.")

    def _of_the_machine(self) -> None:
        gauge = self._gauge
        self.lease_epoch = gauge(
            "lease_epoch",
            "How often the work of a role has been taken over, by who does it.",
            ["role", "process"],
        )
        self.broker_connected = gauge(
            "broker_connected", "Processes with roles that are connected to the broker; 0: it is lost."
        )
        self.stream_messages = gauge("stream_messages", "Messages that the stream holds.")
        self.stream_bytes = gauge("stream_bytes", "Bytes that the stream takes up.")
        self.stream_last = gauge("stream_last", "Stream sequence number of the last message that the stream holds.")
        self.stream_most_bytes = gauge(
            "stream_bytes_limit", "Bytes that the stream may take up: beyond them its oldest messages go; 0: no bound."
        )
        self.disk_free = gauge("data_disk_free_bytes", "Free bytes on the disk that holds the data folder.")
        self.disk_size = gauge("data_disk_bytes", "Size of the disk that holds the data folder.")
        self.look_failures = Counter(
            "tocsin_look_failures",
            "Looks at the broker, the database or the disk that failed: their figures stay as they were.",
            ["what"],
            registry=self._registry,
        )
        self.broker_refused = Counter(
            "tocsin_broker_refused", "What the broker refused its clients.", ["reason"], registry=self._registry
        )
        for what in ("broker", "database", "disk"):
            self.look_failures.labels(what)

    def show_failing(self, channels: Iterable[str]) -> None:
        """Show how many messages wait that were tried in vain, given the channel of each."""
        counts = Counted(map(kind_of, channels))
        for way in self._failing | counts.keys():
            self.messages_failing.labels(way).set(counts[way])
        self._failing |= counts.keys()

    def show_devices(self, gateway: str, counts: Mapping[str, int]) -> None:
        """Show how many devices of `gateway` are in each state."""
        for state in ONLINE:
            self.gateway_devices.labels(gateway, state).set(counts.get(state, 0))
