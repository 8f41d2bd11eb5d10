"""Commands to gateways: acknowledgements and requests for a rebirth, as Sparkplug NCMD through the stream's server."""

from nats.aio.client import Client

from tocsin_cloud.adapters.stream import to_subject
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_core.sparkplug.topics import Topic


async def send_committed(client: Client, group: str, node: str, batch: int, now_ns: int) -> None:
    """Tell the gateway that every batch up to `batch` is in the database."""
    payload = Payload(timestamp=now_ns // codec.NS_PER_MS)
    metric = payload.metrics.add(name=codec.COMMITTED, timestamp=payload.timestamp, datatype=DataType.UINT64)
    metric.long_value = batch
    await _send(client, group, node, payload)


async def ask_rebirth(client: Client, group: str, node: str, now_ns: int) -> None:
    """Ask the edge node to publish its births again (Sparkplug 3.0, 6.4.21)."""
    payload = Payload(timestamp=now_ns // codec.NS_PER_MS)
    metric = payload.metrics.add(name=codec.REBIRTH, timestamp=payload.timestamp, datatype=DataType.BOOLEAN)
    metric.boolean_value = True
    await _send(client, group, node, payload)


async def _send(client: Client, group: str, node: str, payload: Payload) -> None:
    await client.publish(to_subject(str(Topic(group, "NCMD", node))), payload.SerializeToString())
