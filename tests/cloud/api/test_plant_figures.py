"""The plant as figures for Prometheus: what stands on each hazard source, and the limits of each point."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import START_NS, occurrence, ticket

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, ...], float]


async def samples(bench: Bench, resource: str) -> Samples:
    """The samples of a resource by name and label values, labels in the order of their names."""
    async with bench.client("regulator") as client:
        answer = (await client.get(resource)).raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_what_stands_on_each_source(bench: Bench) -> None:
    """Alarms and tickets are counted by source and priority as the page counts them; what is hidden is left out."""
    bench.live.read(0, START_NS, 1.0)
    await bench.put(
        occurrence(1),
        occurrence(2, kind="time-to-limit", priority="medium", phase="acknowledged"),
        occurrence(3, priority="critical", out_of_service=True),
        occurrence(4, source=None, priority="critical", phase="returned-unacknowledged"),
        ticket(1),
        ticket(2, state="accepted"),
    )
    found = await samples(bench, "/plant/metrics")
    assert found["tocsin_alarms_active", "high", "tanks"] == 1
    assert found["tocsin_alarms_active", "medium", "tanks"] == 1
    assert found["tocsin_alarms_active", "critical", "tanks"] == 0
    assert found["tocsin_alarms_unacknowledged", "medium", "tanks"] == 0
    assert found["tocsin_alarms_unacknowledged", "critical", ""] == 1
    assert [found["tocsin_source_worst", source] for source in ("tanks", "hall", "")] == [3, 0, 4]
    assert [found["tocsin_source_early_warning", source] for source in ("tanks", "hall")] == [1, 0]
    assert found["tocsin_tickets_open", "tanks", "rectifying"] == 1
    assert found["tocsin_tickets_open", "tanks", "awaiting-acceptance"] == 0
    assert found["tocsin_source_info", "3", "Tank farm", "储罐区", "tanks"] == 1
    assert (found["tocsin_source_points", "tanks"], found["tocsin_source_points_dark", "tanks"]) == (2, 1)
    assert found["tocsin_source_points", "hall"] == 0


async def test_the_limits_of_each_point(bench: Bench) -> None:
    """Names, units and set points stand there; of one source alone where it is asked for."""
    found = await samples(bench, "/plant/limits")
    assert found["tocsin_point_info", "toxic-gas", "Ammonia", "氨浓度", "NH3-101", "tanks", "ppm"] == 1
    high = found["tocsin_point_limit", "H", "NH3-101", "high", "high", "tanks"]
    assert 0 < high < found["tocsin_point_limit", "HH", "NH3-101", "critical", "high", "tanks"]
    assert await samples(bench, "/plant/limits?source=hall") == {}


async def test_a_stranger_gets_no_figures_of_the_plant(bench: Bench) -> None:
    """Without a token there is nothing to see."""
    async with bench.client(None) as client:
        for resource in ("/plant/metrics", "/plant/limits"):
            assert (await client.get(resource)).status_code == 401
