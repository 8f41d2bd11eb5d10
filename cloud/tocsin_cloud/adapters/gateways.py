"""Commands to gateways, as Sparkplug NCMD through the stream's server: acknowledgements, slices, asking for births."""

from collections.abc import Sequence

from nats.aio.client import Client

from tocsin_cloud.adapters.stream import to_subject
from tocsin_core.journal import Naming, encode_naming
from tocsin_core.managed import parts_of
from tocsin_core.sparkplug import Topic, committed, journal_committed, orders, rebirth, slice_part

NS_PER_MS = 1_000_000
# Of about a hundred bytes each in one message.
MOST_KNOWN = 500


async def send_committed(client: Client, group: str, node: str, batch: int, now_ns: int) -> None:
    """Tell the gateway that every batch up to `batch` is in the database."""
    await client.publish(_subject(group, node), committed(batch, now_ns // NS_PER_MS))


async def ask_rebirth(client: Client, group: str, node: str, now_ns: int) -> None:
    """Ask the edge node to publish its births again (Sparkplug 3.0, 6.4.21)."""
    await client.publish(_subject(group, node), rebirth(now_ns // NS_PER_MS))


async def send_slice(client: Client, group: str, node: str, sealed: bytes, now_ns: int) -> None:
    """Send the gateway a slice of the plant that is sealed for it."""
    for part in parts_of(sealed):
        await client.publish(_subject(group, node), slice_part(part, now_ns // NS_PER_MS))


async def send_journal_committed(
    client: Client, group: str, node: str, number: int, known_as: Sequence[Naming], now_ns: int
) -> None:
    """Tell the gateway that what came of its journal up to entry `number` is in the database, and as what it is known.

    It is told so in every message of several, where there are too many to go into one.
    """
    for first in range(0, max(1, len(known_as)), MOST_KNOWN):
        bodies = [encode_naming(each) for each in known_as[first : first + MOST_KNOWN]]
        await client.publish(_subject(group, node), journal_committed(number, now_ns // NS_PER_MS, bodies))


async def send_orders(client: Client, group: str, node: str, bodies: Sequence[bytes], now_ns: int) -> None:
    """Hand people's orders to the gateway that decides their alarms, in this order."""
    await client.publish(_subject(group, node), orders(bodies, now_ns // NS_PER_MS))


def _subject(group: str, node: str) -> str:
    return to_subject(str(Topic(group, "NCMD", node)))
