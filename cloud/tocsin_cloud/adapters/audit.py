"""The audit log in SQL: entries appended under one lock, read in order, and the chain walked from end to end."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.audit_chain import (
    START,
    Actor,
    Break,
    BreakKind,
    Deed,
    Entry,
    Link,
    flaw,
    following,
    moved,
)
from tocsin_cloud.adapters.sql import models as sql

CHUNK: Final = 2000
_COLUMNS: Final = tuple(field.name for field in fields(Entry))
# As rows and not as objects, which are only made of what is as it should be.
_KEPT: Final = select(*(getattr(sql.Audit, name) for name in _COLUMNS), sql.Audit.hash)


async def append(session: AsyncSession, at_ns: int, actor: Actor, deed: Deed) -> Link:
    """Append an entry in the writing transaction of `session`, and return its link.

    The row of the chain's head is locked until the transaction ends (SQLite: the one writer is alone anyway), so that
    no two entries follow the same one; an entry and what it tells of are committed together or not at all.
    """
    head = (await session.execute(select(sql.AuditHead).with_for_update())).scalar_one()
    entry, link = following(Link(head.seq, head.hash), at_ns, actor, deed)
    session.add(sql.Audit(**{name: getattr(entry, name) for name in _COLUMNS}, hash=link.hash))
    head.seq, head.hash = link
    await session.flush()
    return link


async def newest(session: AsyncSession, limit: int, before: int | None) -> list[tuple[Entry, str]]:
    """The last `limit` entries before number `before`, the newest first, each with the hash that is kept of it."""
    query = _KEPT.order_by(sql.Audit.seq.desc()).limit(limit)
    await _take_any_bytes(session)
    try:
        rows = (await session.execute(query if before is None else query.where(sql.Audit.seq < before))).all()
    finally:
        # The connection serves others afterwards, who would read more slowly.
        await _read_texts(session, str)
    return [(Entry(*values), hashed) for *values, hashed in rows]


async def entries(session: AsyncSession, after: int | None = None) -> AsyncIterator[tuple[Entry, str]]:
    """Every entry, or every one after number `after`, in order, with the hash that is kept of it."""
    await _take_any_bytes(session)
    query = _KEPT.order_by(sql.Audit.seq).limit(CHUNK)
    while True:
        rows = (await session.execute(query if after is None else query.where(sql.Audit.seq > after))).all()
        for *values, hashed in rows:
            yield Entry(*values), hashed
        if len(rows) < CHUNK:
            return
        after = rows[-1][0]


async def _take_any_bytes(session: AsyncSession) -> None:
    """Let a text whose bytes are no UTF-8 be read too: SQLite keeps it, and an entry that has one must be named."""
    await _read_texts(session, partial(str, encoding="utf-8", errors="surrogateescape"))


async def _read_texts(session: AsyncSession, as_text: Callable[[bytes], str]) -> None:
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None  # noqa: S101 -- it was used just now
        driver.text_factory = as_text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk found: how many entries hold, the link of the last of them, and the first break."""

    entries: int
    last: Link
    broken: Break | None


async def head(session: AsyncSession) -> Link | None:
    """The link of the last entry that was appended; None where somebody has spoilt what says so."""
    rows = (await session.execute(select(sql.AuditHead.seq, sql.AuditHead.hash))).all()
    found = Link(*rows[0]) if len(rows) == 1 else None
    return None if found is None or (type(found.seq), type(found.hash)) != (int, str) else found


async def verify(session: AsyncSession, checkpoint: Link | None, progress: Callable[[int, int], None]) -> Verdict:
    """Walk the chain from its first entry.

    `checkpoint` is a link that was written down earlier, out of reach of whoever can write to this database: without
    one, a chain that was made anew from some entry on, or cut with its head, cannot be told from a sound one.
    `progress` is told how many entries are walked and how many there should be.
    """
    await _take_any_bytes(session)
    before = await head(session)
    written = 0 if before is None else before.seq
    last, walked = START, 0
    async for entry, hashed in entries(session):
        broken = flaw(last, entry, hashed)
        if broken is not None:
            return Verdict(walked, last, await _moved(session, last) or broken)
        last, walked = Link(entry.seq, hashed), walked + 1
        if checkpoint is not None and last.seq == checkpoint.seq and last.hash != checkpoint.hash:
            told = f"entry {last.seq} is another than when the checkpoint was taken: it or one before it was rewritten"
            return Verdict(walked, last, Break(BreakKind.REWRITTEN, last.seq, told))
        if walked % CHUNK == 0:
            progress(walked, written)
    progress(walked, written)
    return Verdict(walked, last, _ending(last, before, await head(session), checkpoint))


async def _moved(session: AsyncSession, last: Link) -> Break | None:
    for *values, hashed in await session.execute(_KEPT.where(sql.Audit.previous == last.hash)):
        found = moved(last, Entry(*values), hashed)
        if found is not None:
            return found
    return None


def _ending(last: Link, before: Link | None, after: Link | None, checkpoint: Link | None) -> Break | None:
    """What is wrong with the end; the head moves on while others write, so it is looked at before and after."""
    if before is None or after is None:
        told = (
            f"what says which entry was written last is gone or spoilt: whether that is entry {last.seq} is not known"
        )
        return Break(BreakKind.TRUNCATED, last.seq + 1, told)
    known = max((before, checkpoint or START))
    if last.seq < known.seq:
        told = f"the log ends with entry {last.seq}, but {known.seq} were written: its end was cut off"
        return Break(BreakKind.TRUNCATED, last.seq + 1, told)
    if last.seq > after.seq:
        told = f"entry {after.seq + 1} and what follows did not come in by the log's own way"
        return Break(BreakKind.FOREIGN, after.seq + 1, told)
    if last.seq == after.seq and last.hash != after.hash:
        told = f"entry {last.seq} is not the one that was written last"
        return Break(BreakKind.REPLACED, last.seq, told)
    return None
