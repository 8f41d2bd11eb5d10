"""Entries of the audit log to write, for processes that import nothing else."""

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Actor, Deed, Outcome
from tocsin_cloud.adapters.sql.engine import Database

WANG = Actor("wang", "operator", "10.0.0.7")


def deed(number: int) -> Deed:
    """The numbered one of many acknowledgements."""
    return Deed("alarm.ack", f"occurrence {number}", Outcome.DONE, {"reason": "看过", "number": number})


async def write(database: Database, count: int) -> None:
    """Write `count` entries, each in its transaction."""
    for number in range(1, count + 1):
        async with database.write() as session:
            await append(session, 1_000 + number, WANG, deed(number))
