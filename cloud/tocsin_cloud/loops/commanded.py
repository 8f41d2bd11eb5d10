"""The audit log's entries of what was commanded at gateways: push-buttons, `tocsin gateway`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Actor, Deed, Outcome
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import Event, Verb
from tocsin_core.rules import NS

# A button answers all alarms of its gateway; the alarms' own steps tell of each, and the log's entries stay small.
NAMED: Final = 20


async def note_commands(session: AsyncSession, gateway: str, entries: Iterable[Entry], at_ns: int) -> None:
    """Append what people asked for at `gateway`, the steps `entries` of its journal, in the transaction of `session`.

    What one command did to many alarms is one entry of the log for each message that tells of it, so that a flood that
    one press answers is no flood of entries.
    """
    alarms: dict[tuple[Event, str, str, int], list[str]] = {}
    for each in entries:
        if each.event is not None:
            alarms.setdefault((each.event, each.who, each.reason, each.time_ns), []).append(each.alarm)
    for (event, who, reason, time_ns), names in alarms.items():
        verb = Verb.ACKNOWLEDGE if event is Event.ACKNOWLEDGE else event.text
        more = {"reason": reason} if reason else {}
        detail: dict[str, str | int] = {
            "alarms": ", ".join(names[:NAMED]),
            "count": len(names),
            "commanded_at": datetime.fromtimestamp(time_ns / NS, UTC).isoformat(timespec="milliseconds"),
            **more,
        }
        await append(session, at_ns, Actor(who, "", "gateway"), Deed(f"alarm.{verb}", gateway, Outcome.DONE, detail))
