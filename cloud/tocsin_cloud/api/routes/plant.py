"""Route of the plant: the site, its hazard sources with their worst state, its gateways."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tocsin_cloud.api import model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.plant_figures import limit_figures, point_counts, source_figures, text_of
from tocsin_cloud.api.present import flood, name, plain_name
from tocsin_cloud.api.security import Reader
from tocsin_cloud.api.standing import Pending, pending_alarms, ticket_counts
from tocsin_core.plant import Priority
from tocsin_core.plant.model import HazardSource

router = APIRouter(tags=["plant"])


@router.get("/plant")
async def plant(_account: Reader, api: Context) -> model.Plant:
    """The plant as a whole."""
    file = api.ports.plant.file
    pending = await pending_alarms(api)
    going_on = api.ports.live.flood()
    return model.Plant(
        site=model.Site(id=file.site.id, name=name(file.site.name), timezone=file.site.timezone),
        hazard_sources=[
            _source(source, [row for row in pending if row.source == source.id]) for source in file.hazard_sources
        ],
        gateways=[
            model.Named(id=gateway.id, name=plain_name(gateway.id) if gateway.name is None else name(gateway.name))
            for gateway in file.gateways
        ],
        first_out=[model.Named(id=group.id, name=name(group.name)) for group in file.first_out],
        flood=None if going_on is None else flood(going_on),
        started_at=api.started_ns,
        version=api.version,
    )


@router.get("/plant/metrics", response_class=Response)
async def plant_metrics(_account: Reader, api: Context) -> Response:
    """What stands on each hazard source, in the Prometheus text format: for a scrape every some seconds."""
    ports = api.ports
    families = source_figures(ports.plant, await pending_alarms(api), await ticket_counts(api))
    families += point_counts(ports.plant, await ports.live.latest(), api.points.allowed_ns, ports.clock.now_ns())
    return Response(text_of(families), media_type=CONTENT_TYPE_LATEST)


@router.get("/plant/limits", response_class=Response)
async def plant_limits(
    _account: Reader,
    api: Context,
    source: Annotated[str | None, Query(description="Of this hazard source alone.")] = None,
) -> Response:
    """The names, units and limits of the points, in the Prometheus text format: for a scrape every some minutes."""
    points = [point for point in api.ports.plant.points if source is None or point.source == source]
    return Response(await asyncio.to_thread(lambda: text_of(limit_figures(points))), media_type=CONTENT_TYPE_LATEST)


def _source(source: HazardSource, pending: list[Pending]) -> model.HazardSource:
    standing = [row for row in pending if row.standing]
    return model.HazardSource(
        id=source.id,
        name=name(source.name),
        level=source.level,
        worst=max((Priority(row.priority) for row in pending), key=lambda priority: priority.rank, default=None),
        active=sum(row.alarms for row in standing),
        unacknowledged=sum(row.alarms for row in pending if row.unanswered),
        early_warning=any(row.early for row in standing),
    )
