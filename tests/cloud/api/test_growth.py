"""The looks at our counters go on whatever comes of one."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from tests.cloud.api.stand_ins import HandClock
from tests.support.wait import eventually_async
from tocsin_cloud.api import growth
from tocsin_cloud.api.growth import Growth, keep_looking


class Figures(Collector):
    """A counter that goes up by one with each look, and a look now and then that fails."""

    def __init__(self) -> None:
        """Nobody has looked yet."""
        self.looks = 0

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Count, or fail."""
        self.looks += 1
        if self.looks % 2:
            raise RuntimeError("dictionary changed size during iteration")
        return [CounterMetricFamily("tocsin_looks", "Looks.", value=self.looks)]


def test_a_look_that_fails_is_logged_and_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of other processes change while they are read: the page does not end for that."""
    monkeypatch.setattr(growth, "LOOK_S", 0.0)
    registry, figures, grown = CollectorRegistry(), Figures(), Growth()
    registry.register(figures)

    async def story() -> None:
        looking = asyncio.create_task(keep_looking(grown, registry, HandClock()))
        await eventually_async(lambda: figures.looks > 6, interval_s=0)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    with capture_logs() as logs:
        asyncio.run(story())
    assert {entry["event"] for entry in logs} == {"counters not looked at"}
    assert sum(grown.of_late("looks_total", 300, 0.0).values()) >= 4
