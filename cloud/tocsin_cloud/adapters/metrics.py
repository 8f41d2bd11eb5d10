"""The process's own figures for Prometheus: one object, handed to whoever counts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from tocsin_core.lifecycle import Event

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counters, gauges and histograms of the cloud side, all in one registry."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    lag: Gauge = field(init=False)
    position: Gauge = field(init=False)
    position_time: Gauge = field(init=False)
    unread_dropped: Counter = field(init=False)
    stored: Counter = field(init=False)
    repeated: Counter = field(init=False)
    spools_anew: Counter = field(init=False)
    commits: Counter = field(init=False)
    commit_seconds: Histogram = field(init=False)
    commit_failures: Counter = field(init=False)
    not_durable: Gauge = field(init=False)
    hours_due: Gauge = field(init=False)
    history_dropped: Counter = field(init=False)
    computed_waiting: Gauge = field(init=False)
    held_back: Gauge = field(init=False)
    quarantined: Counter = field(init=False)
    quarantine_waiting: Gauge = field(init=False)
    quarantine_dropped: Counter = field(init=False)
    rebirths: Counter = field(init=False)
    acknowledgements: Counter = field(init=False)
    gateway_clock: Gauge = field(init=False)
    gateway_slice: Gauge = field(init=False)
    transitions: Counter = field(init=False)
    refused: Counter = field(init=False)
    unheard: Counter = field(init=False)
    late: Counter = field(init=False)
    ahead: Counter = field(init=False)
    clock_steps_back: Counter = field(init=False)
    latency: Histogram = field(init=False)
    snapshots: Counter = field(init=False)
    flood: Gauge = field(init=False)
    floods: Counter = field(init=False)
    recent_alarms: Gauge = field(init=False)
    journal_repeated: Counter = field(init=False)
    journal_lost: Counter = field(init=False)
    journal_unheeded: Counter = field(init=False)
    rebuilt: Gauge = field(init=False)
    unconfirmed: Gauge = field(init=False)
    journal_forgotten: Counter = field(init=False)
    journal_gaps: Counter = field(init=False)
    orders_waiting: Gauge = field(init=False)
    disagreements: Gauge = field(init=False)

    def __post_init__(self) -> None:
        """Make the figures in the registry, with those of the process itself."""
        ProcessCollector(registry=self.registry)
        self._of_the_stream()
        self._of_the_history()
        self._of_gateways()
        self._of_alarms()
        self._of_the_engines_state()
        self._of_deciding_gateways()

    def begin(self, gateways: Iterable[str]) -> None:
        """Show what has not happened yet as 0: a figure that appears with its first event would hide that one."""
        for role in ("alarms", "historian"):
            self.commit_failures.labels(role)
            self.unread_dropped.labels(role)
        for event in Event:
            self.transitions.labels(event.text)
        for gateway in gateways:
            for what in ("repeated", "lost", "unheeded", "forgotten", "gaps"):
                getattr(self, f"journal_{what}").labels(gateway)

    def _put(self, name: str, figure: Gauge | Counter | Histogram) -> None:
        object.__setattr__(self, name, figure)

    def _of_the_stream(self) -> None:
        own, put = self.registry, self._put
        put(
            "lag",
            Gauge(
                "tocsin_stream_lag_messages",
                "Messages in the stream that a role had not taken yet when it last took some.",
                ["role"],
                registry=own,
            ),
        )
        put(
            "unread_dropped",
            Counter(
                "tocsin_stream_unread_dropped",
                "Messages that the stream dropped before a role had read them; at most, where sites share the stream.",
                ["role"],
                registry=own,
            ),
        )
        put(
            "position",
            Gauge(
                "tocsin_stream_position", "Stream sequence number that a role has committed.", ["role"], registry=own
            ),
        )
        put(
            "position_time",
            Gauge(
                "tocsin_stream_position_timestamp_seconds",
                "When the stream took the message that a role has committed last; ticks come every second.",
                ["role"],
                registry=own,
            ),
        )

    def _of_the_history(self) -> None:
        own, put = self.registry, self._put
        put("stored", Counter("tocsin_readings_stored", "Readings committed to the history.", registry=own))
        put(
            "repeated",
            Counter("tocsin_readings_repeated", "Readings that came again and were stored already.", registry=own),
        )
        put(
            "spools_anew",
            Counter("tocsin_spools_anew", "Gateways that began with lower batch numbers than before.", registry=own),
        )
        put("commits", Counter("tocsin_commits", "Commits of a role.", ["role"], registry=own))
        put(
            "commit_seconds",
            Histogram("tocsin_commit_seconds", "Duration of a commit.", ["role"], buckets=LATENCY_S, registry=own),
        )
        put(
            "commit_failures",
            Counter(
                "tocsin_commit_failures",
                "Commits that a database refused and that are tried again.",
                ["role"],
                registry=own,
            ),
        )
        put(
            "not_durable",
            Gauge(
                "tocsin_commits_not_durable",
                "Commits of the history that are not known to be durable: gateways are not told of them yet.",
                registry=own,
            ),
        )
        put(
            "hours_due",
            Gauge(
                "tocsin_history_hours_due",
                "Hours of points that have ended and are not rolled up: their trends are worked out of readings.",
                registry=own,
            ),
        )
        put(
            "history_dropped",
            Counter(
                "tocsin_history_dropped_values",
                "Values that the history's server took and dropped: beyond its retention, or far ahead of its clock.",
                registry=own,
            ),
        )
        put(
            "quarantined",
            Counter("tocsin_quarantined", "Payloads, or parts of them, that were refused.", ["reason"], registry=own),
        )
        what = "Refused payloads that wait to be written down for people to look at."
        put("quarantine_waiting", Gauge("tocsin_quarantine_waiting", what, registry=own))
        what = "Refused payloads that are counted alone: more came than are kept before they could be written down."
        put("quarantine_dropped", Counter("tocsin_quarantine_dropped", what, registry=own))
        put("rebirths", Counter("tocsin_rebirths_requested", "Rebirth commands sent to gateways.", registry=own))
        put("acknowledgements", Counter("tocsin_acknowledgements", "Acknowledgements sent to gateways.", registry=own))

    def _of_gateways(self) -> None:
        own, put = self.registry, self._put
        put(
            "gateway_slice",
            Gauge(
                "tocsin_gateway_slice_current",
                "1 while a managed gateway runs on what the plant file has for it, else 0.",
                ["gateway"],
                registry=own,
            ),
        )
        put(
            "gateway_clock",
            Gauge(
                "tocsin_gateway_clock_synchronised",
                "1 while somebody sets a gateway's clock, else 0, as it said last; without those that do not say.",
                ["gateway"],
                registry=own,
            ),
        )

    def _of_alarms(self) -> None:
        own, put = self.registry, self._put
        put("transitions", Counter("tocsin_alarm_transitions", "Alarm transitions committed.", ["event"], registry=own))
        put("refused", Counter("tocsin_commands_refused", "People's commands that were refused.", registry=own))
        what = "Readings stamped later than they came in, or before 2000."
        put("ahead", Counter("tocsin_readings_ahead", what, registry=own))
        put("late", Counter("tocsin_readings_late", "Readings older than one the engine had already.", registry=own))
        put(
            "clock_steps_back",
            Counter("tocsin_clock_steps_back", "Times that the stream's clock stepped back.", registry=own),
        )
        put(
            "latency",
            Histogram(
                "tocsin_alarm_latency_seconds",
                "From a reading's time stamp to the commit of the transition it caused.",
                buckets=LATENCY_S,
                registry=own,
            ),
        )
        put(
            "computed_waiting",
            Gauge(
                "tocsin_computed_waiting",
                "Readings of computed points that the stream does not hold yet.",
                registry=own,
            ),
        )
        put(
            "held_back",
            Gauge(
                "tocsin_alarm_steps_waiting",
                "Steps of `stale` alarms that wait for their commit: a mass of them goes in by portions.",
                registry=own,
            ),
        )
        put(
            "unheard",
            Counter(
                "tocsin_alarms_unheard",
                "Messages that the alarms worker refused, as they came faster than a gateway may send.",
                registry=own,
            ),
        )
        put("flood", Gauge("tocsin_alarm_flood", "1 while an alarm flood goes on (ISA-18.2), else 0.", registry=own))
        put(
            "floods",
            Counter(
                "tocsin_alarm_floods", "Alarm floods since the start, one that went on then included.", registry=own
            ),
        )
        put(
            "recent_alarms",
            Gauge("tocsin_alarms_last_ten_minutes", "Alarms annunciated in the last ten minutes.", registry=own),
        )

    def _of_the_engines_state(self) -> None:
        own, put = self.registry, self._put
        put("snapshots", Counter("tocsin_engine_snapshots", "Snapshots of the engine written.", registry=own))
        put(
            "rebuilt",
            Gauge(
                "tocsin_engine_rebuilt_timestamp_seconds",
                "When the engine's lost state was put together from the tables; 0: not since the start.",
                registry=own,
            ),
        )
        put(
            "unconfirmed",
            Gauge(
                "tocsin_alarms_unconfirmed",
                "Alarms that stand as the tables had them when the engine's state was lost, and not read of since.",
                registry=own,
            ),
        )

    def _of_deciding_gateways(self) -> None:
        own, put = self.registry, self._put
        for name, text in (
            ("repeated", "Alarm journal entries of a gateway that came again and were taken in already."),
            ("lost", "Gaps in a gateway's alarm journal that nothing fills, and entries that cannot be read."),
            ("unheeded", "Alarm journal entries of a gateway that move no alarm here, and are history alone."),
            ("forgotten", "Alarms unknown here that a gateway told of and that are too many to be remembered."),
            ("gaps", "Messages of a gateway's alarm journal that came before earlier ones, and wait to come again."),
        ):
            put(f"journal_{name}", Counter(f"tocsin_journal_{name}", text, ["gateway"], registry=own))
        put(
            "orders_waiting",
            Gauge("tocsin_orders_waiting", "Commands that a gateway has not answered yet.", registry=own),
        )
        put(
            "disagreements",
            Gauge(
                "tocsin_disagreements",
                "Alarms that a gateway decides and on which the readings here have long said otherwise.",
                ["gateway"],
                registry=own,
            ),
        )
