"""Who is a witness that the gateway's work goes on, and when one stands still."""

from dataclasses import dataclass, field

from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.loops.watchdog import Progress, Watchdog, Witness


@dataclass
class HandClock:
    """A clock that is moved by hand."""

    s: float = 0.0

    def now_ns(self) -> int:
        """Wall clock, ns."""
        return int(self.s * 1e9)

    def monotonic(self) -> float:
        """Monotonic clock, s."""
        return self.s


@dataclass
class Heard(ServiceManager):
    """A manager that keeps what it is told."""

    words: list[str] = field(default_factory=list)

    @property
    def listens(self) -> bool:
        """It does."""
        return True

    def feed(self) -> None:
        """Note it."""
        self.words.append("fed")

    def status(self, text: str) -> None:
        """Note it."""
        self.words.append(text)


def test_one_that_stands_still_starves_the_watchdog_until_it_goes_on() -> None:
    """Each has its own patience; what has nothing to do never stands still."""
    clock, counts = HandClock(), {"line": 1, "spool": 1}
    busy: list[int | None] = [None]
    progress = Progress(
        [
            Witness("line", lambda: counts["line"], 60.0),
            Witness("spool", lambda: counts["spool"], 300.0),
            Witness("keeping", lambda: busy[0], 10.0),
        ],
        clock,
    )
    heard = Heard()
    watchdog = Watchdog(heard, progress, lambda: "well")
    clock.s = 60.0
    watchdog.look()
    assert heard.words == ["fed", "well"]
    clock.s = 60.5
    heard.words.clear()
    watchdog.look()
    assert heard.words == ["standing still: line"]
    counts["line"] = 2
    clock.s = 61.0
    heard.words.clear()
    watchdog.look()
    assert heard.words == ["fed", "well"]
    busy[0] = 5
    progress.idle_s()
    clock.s = 71.5
    assert progress.stalled() == ("keeping",)
    clock.s = 301.0
    assert progress.stalled() == ("line", "spool", "keeping")
    assert progress.idle_s() == {"line": 240.0, "spool": 301.0, "keeping": 240.0}
