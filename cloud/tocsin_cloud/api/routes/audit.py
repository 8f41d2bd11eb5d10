"""Route of the audit log."""

import json
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.adapters.sql.models import Audit
from tocsin_cloud.api import model_accounts as model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.problem import documented
from tocsin_cloud.api.security import Needs

router = APIRouter(tags=["audit"])

MOST_ENTRIES: Final = 1000
# What a BIGINT holds.
MOST_SEQ: Final = 2**63 - 1


@router.get("/audit", responses=documented(HTTPStatus.FORBIDDEN))
async def audit(
    _account: Annotated[Account, Depends(Needs(Permission.READ_AUDIT))],
    api: Context,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 200,
    before: Annotated[int | None, Query(ge=1, le=MOST_SEQ, description="Only entries with a lower number.")] = None,
) -> list[model.AuditEntry]:
    """Every command that was given or tried, the newest first; `tocsin audit verify` checks the chain of hashes."""
    query = select(Audit).order_by(Audit.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(Audit.seq < before)
    async with api.ports.database.read() as session:
        return [_entry(row) for row in await session.scalars(query)]


def _entry(row: Audit) -> model.AuditEntry:
    return model.AuditEntry.model_validate(
        {
            "seq": row.seq,
            "at": row.at_ns,
            "who": row.who,
            "role": row.role,
            "origin": row.origin,
            "action": row.action,
            "target": row.target,
            "outcome": row.outcome,
            "detail": json.loads(row.detail),
            "hash": row.hash,
        }
    )
