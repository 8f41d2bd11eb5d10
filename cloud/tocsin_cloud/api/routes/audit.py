"""Route of the audit log."""

import json
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.audit import newest
from tocsin_cloud.adapters.audit_chain import Entry, Outcome, is_whole
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.api import model_accounts as model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.problem import documented
from tocsin_cloud.api.security import Needs
from tocsin_core.readings import LATEST_NS

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
    """Every command that was given or tried, the newest first; `tocsin audit verify` checks the chain of hashes.

    An entry that is not what was written has `broken`, and is shown as far as it can be.
    """
    async with api.ports.database.read() as session:
        return [_shown(entry, hashed) for entry, hashed in await newest(session, limit, before)]


def _shown(entry: Entry, hashed: str) -> model.AuditEntry:
    fields = {"broken": not is_whole(entry, hashed)} | {
        name: getattr(entry, name) for name in ("seq", "who", "role", "origin", "action", "target", "outcome")
    }
    if not fields["broken"]:
        detail = json.loads(entry.detail)
        return model.AuditEntry.model_validate({**fields, "at": entry.at_ns, "detail": detail, "hash": hashed})
    # Whatever somebody has put there: it is shown as far as it can be, and hides no other entry.
    told = {name: _legible(value) for name, value in fields.items() if name not in ("seq", "broken")}
    seq = entry.seq if type(entry.seq) is int else 0
    detail = {"text": _legible(entry.detail)}
    at_ns = entry.at_ns if type(entry.at_ns) is int and 0 <= entry.at_ns <= LATEST_NS else None
    known = told["outcome"] if told["outcome"] in list(Outcome) else None
    return model.AuditEntry.model_validate(
        {**fields, **told, "seq": seq, "outcome": known, "at": at_ns, "detail": detail, "hash": _legible(hashed)}
    )


def _legible(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "replace").decode()
