"""A historian that begins again behind a moment at which the clock of the NATS server was set back."""

import asyncio
import json
from pathlib import Path

from nats.aio.client import Client

from tests.cloud.rig import DEVICE, GATEWAY, SITE, SpoolingGateway, columns, now_ms
from tests.cloud.test_computed import Plant, running, surroundings
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.stream import STREAM, to_subject
from tocsin_cloud.loops.historian import Historian
from tocsin_core.rules import NS


def test_what_came_before_a_step_back_of_the_servers_clock_is_no_news_after_a_restart(tmp_path: Path) -> None:
    """A birth of before has a later time than the last message that is stored: it begins no ledger anew."""

    async def story() -> None:
        async with surroundings(tmp_path) as (plant, gateway):
            born, last = await _stored_within_a_millisecond(plant, gateway)
            state = dict(plant.history.state)
            held = json.loads(state["position"])
            # As if the clock had been set back behind the birth.
            held["position"] = [last, await _taken_ns(plant.client, born) - 1000]
            state["position"] = json.dumps(held).encode()
            parts = plant.historian_parts()
            again = Historian(parts, state)
            async with running(asyncio.create_task(again.run())):
                await gateway.send({0: 2.0})
                await eventually_async(lambda: again.position.sequence > last)
            assert parts.metrics.registry.get_sample_value("tocsin_spools_anew_total") == 0
            stored = parts.live.stored[SITE, GATEWAY]
            assert (stored.batch, stored.committed) == (gateway.newest, gateway.newest)

    asyncio.run(story())


async def _stored_within_a_millisecond(plant: Plant, gateway: SpoolingGateway) -> tuple[int, int]:
    """Have a birth and a batch stored that came so soon after one another; returns the numbers of both messages."""
    # In the stream there is nothing but the gateway's births.
    keeper = plant.historian()
    async with running(asyncio.create_task(keeper.run())):
        # What is remembered of the stream is kept before the birth: it is read again.
        last = 2
        await _reached(keeper, last)
        while True:
            gateway.newest += 1
            before, session = gateway.newest - 1, gateway.session
            calm = columns({0: 0.0, 1: 0.0}, now_ms() - 60_000)
            births = session.nbirth(before, 1, now_ms()), session.dbirth(DEVICE, calm, before, now_ms())
            batch = session.ddata(DEVICE, columns({0: 1.0}, now_ms()), gateway.newest, now_ms(), historical=False)
            for message in (*births, batch):
                await plant.client.publish(to_subject(message.topic), message.payload)
            last += 3
            await _reached(keeper, last)
            if await _taken_ns(plant.client, last) - await _taken_ns(plant.client, last - 2) < NS // 1250:
                return last - 2, last


async def _reached(keeper: Historian, number: int) -> None:
    await eventually_async(lambda: keeper.position.sequence == number)


async def _taken_ns(client: Client, number: int) -> int:
    """When the stream took a message, to 1 µs."""
    taken = (await client.jsm().get_msg(STREAM, seq=number)).time
    assert taken is not None
    return round(taken.timestamp() * 1e6) * 1000
