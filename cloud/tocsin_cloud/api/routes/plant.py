"""Route of the plant: the site, its hazard sources with their worst state, its gateways."""

from typing import NamedTuple

from fastapi import APIRouter
from sqlalchemy import func, select

from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.api import model
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.present import flood, name, plain_name
from tocsin_cloud.api.security import Reader
from tocsin_cloud.api.sorting import EARLY_KINDS, STANDING_TEXT, UNANSWERED_TEXT
from tocsin_core.lifecycle import Phase
from tocsin_core.plant import Priority
from tocsin_core.plant.model import HazardSource

router = APIRouter(tags=["plant"])


@router.get("/plant")
async def plant(_account: Reader, api: Context) -> model.Plant:
    """The plant as a whole."""
    file = api.ports.plant.file
    pending = await _pending(api)
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


class _Pending(NamedTuple):
    source: str | None
    kind: str
    priority: str
    phase: str
    alarms: int


async def _pending(api: Api) -> list[_Pending]:
    now = api.ports.clock.now_ns()
    groups = (Occurrence.source, Occurrence.kind, Occurrence.priority, Occurrence.phase)
    shelved = Occurrence.shelved_until_ns.is_not(None) & (Occurrence.shelved_until_ns > now)
    # A shelf whose time is up hides nothing, also where nobody is at work to say so.
    by_design = Occurrence.suppressed & Occurrence.shelved_until_ns.is_(None)
    query = (
        select(*groups, func.count())
        .where(Occurrence.phase != Phase.NORMAL.text, ~Occurrence.out_of_service, ~shelved, ~by_design)
        .group_by(*groups)
    )
    async with api.ports.database.read() as session:
        return [_Pending(*row) for row in (await session.execute(query))]


def _source(source: HazardSource, pending: list[_Pending]) -> model.HazardSource:
    standing = [row for row in pending if row.phase in STANDING_TEXT]
    return model.HazardSource(
        id=source.id,
        name=name(source.name),
        level=source.level,
        worst=max((Priority(row.priority) for row in pending), key=lambda priority: priority.rank, default=None),
        active=sum(row.alarms for row in standing),
        unacknowledged=sum(row.alarms for row in pending if row.phase in UNANSWERED_TEXT),
        early_warning=any(row.kind in EARLY_KINDS for row in standing),
    )
