"""Refused payloads: counted by reason, and the newest of them kept in SQL for people to look at."""

from collections import Counter, deque
from collections.abc import Mapping

import structlog
from sqlalchemy import delete, func, select

from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Quarantine as Row

log = structlog.get_logger()

HEAD_BYTES = 64
DETAIL_CHARACTERS = 500
TOPIC_CHARACTERS = 300


class Quarantine:
    """Takes refused payloads at any rate in bounded memory; `flush` writes what is kept."""

    def __init__(self, database: Database, metrics: Metrics, kept: int) -> None:
        """Keep the newest `kept`."""
        self._database = database
        self._metrics = metrics
        self._kept = kept
        self._waiting: deque[dict[str, object]] = deque(maxlen=kept)
        self._counts: Counter[str] = Counter()
        metrics.quarantine_waiting.set_function(lambda: len(self._waiting))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many by reason since the process started."""
        return self._counts

    def add(self, topic: str, payload: bytes, reason: str, detail: str, at_ns: int, count: int = 1) -> None:
        """Note that `payload` on `topic`, or `count` parts of it, was refused."""
        self.count(reason, count)
        if len(self._waiting) == self._kept:
            self._metrics.quarantine_dropped.inc()
        self._waiting.append(
            {
                "at_ns": at_ns,
                "topic": topic[:TOPIC_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}"),
                "reason": reason,
                "detail": detail[:DETAIL_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}"),
                "size": len(payload),
                "head": payload[:HEAD_BYTES],
            }
        )

    def count(self, reason: str, count: int = 1) -> None:
        """Note that something was refused, without keeping any of it."""
        self._counts[reason] += count
        self._metrics.quarantined.labels(reason).inc(count)

    async def flush(self) -> None:
        """Write what came since the last time and drop what is beyond the bound.

        Raises:
            DatabaseAwayError: the rows are still waiting, or what is beyond the bound is still there.
        """
        if not self._waiting:
            return
        # Some may come while these are written: where there are more than are kept they must not be taken for these.
        rows, self._waiting = self._waiting, deque(maxlen=self._kept)
        try:
            async with self._database.write() as session:
                await put(session, Row, rows)
        except BaseException:
            self._metrics.quarantine_dropped.inc(max(0, len(rows) + len(self._waiting) - self._kept))
            self._waiting = deque((*rows, *self._waiting), maxlen=self._kept)
            raise
        newest = select(func.max(Row.id)).scalar_subquery()
        # Apart from the rows: nobody else writes before a transaction's last statement, and this may be a busy process.
        await self._database.change(delete(Row).where(Row.id <= newest - self._kept))

    async def close(self) -> None:
        """Write what came since the last time; where the database is away, tell how much of it is lost."""
        try:
            await self.flush()
        except DatabaseAwayError as error:
            # It ends whoever is just ending, and must not be taken for the reason of that.
            log.error("quarantine lost", reason=error.reason, rows=len(self._waiting))  # noqa: TRY400 -- the message is the reason
