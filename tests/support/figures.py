"""Every figure that `GET /metrics` of the cloud side has, taken from the objects that the program makes."""

from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from tests.cloud.api.stand_ins import AlarmsWorker, Bus, HandClock, LiveTable, StoredTrend
from tests.support.need import ROOT
from tocsin_cloud.adapters.channels import Channels
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.api.build import build_api
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.remote import RemoteLive, WorkersMetrics
from tocsin_cloud.loops.notify import Notifier
from tocsin_core.plant import load_plant

DEMO_PLANT: Final = ROOT / "simulators" / "plants" / "ammonia-refrigeration"


class Figure(NamedTuple):
    """A family: its name as a query writes it (counters with `_total`), labels, type and text."""

    name: str
    labels: tuple[str, ...]
    kind: str
    text: str


async def _nobody(_kind: str, _body: object) -> None:
    """Tell nobody."""


async def every_figure(folder: Path) -> list[Figure]:
    """Wire what makes figures as the program does, over an empty plant, and say what there is, sorted by name."""
    metrics, clock, plant = Metrics(), HandClock(), load_plant(DEMO_PLANT)
    WatchMetrics(metrics.registry)
    database = Database.as_it_is(sqlite_url(folder / "none.sqlite"))
    lease = Lease(database, "notify", "nobody", clock)
    Notifier(database, lease, Channels(folder, metrics=metrics.registry), _nobody, plant, clock, metrics.registry)
    ports = ApiPorts(
        plant=plant,
        database=database,
        history=StoredTrend(0),
        live=LiveTable(),
        commands=AlarmsWorker(database, clock),
        events=Bus(),
        clock=clock,
        metrics=metrics.registry,
        ready=lambda: None,
    )
    transport = httpx.ASGITransport(build_api(ports))
    async with httpx.AsyncClient(transport=transport, base_url="http://tocsin") as client:
        (await client.get("/metrics")).raise_for_status()
    await database.close()
    told = WorkersMetrics(cast("RemoteLive", _NobodyAnswers())).collect()
    of_roles = [Figure(each.name, each._labelnames, each.type, each.documentation) for each in told]  # type: ignore[attr-defined]  # noqa: SLF001 -- as below
    return sorted([*_figures(metrics.registry), *of_roles])


class _NobodyAnswers:
    """What an interface of its own hears of the other processes: nothing."""

    def answers(self, _role: str) -> bool:
        return False

    def candidates(self) -> tuple[()]:
        return ()

    def metrics(self) -> dict[str, str]:
        return {}

    def processes(self) -> set[str]:
        return set()


def _figures(registry: CollectorRegistry) -> list[Figure]:
    labels: dict[str, tuple[str, ...]] = {}
    for collector in set(registry._names_to_collectors.values()):  # noqa: SLF001 -- the library tells labels nowhere else
        if isinstance(collector, MetricWrapperBase):
            made: Any = collector
            labels[made._name] = made._labelnames  # noqa: SLF001 -- as above
    return [
        Figure(
            found.name + ("_total" if found.type == "counter" else ""),
            labels.get(found.name, ()),
            found.type,
            found.documentation,
        )
        for found in registry.collect()
    ]
