"""Workers and interface as two processes: the same answers as from one, and each outlives the other."""

import asyncio
import signal
from pathlib import Path

import httpx

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.support.wait import eventually_async


async def signed_in(client: httpx.AsyncClient) -> None:
    """Sign the client in as the administrator."""
    answer = await client.post("/api/v1/session", json={"user": "admin", "password": "a long test password"})
    client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"


def test_the_interface_runs_apart_from_the_workers(tmp_path: Path) -> None:
    """Live values, history, commands and metrics come through; while the workers are killed it says so and recovers."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant, data = plant_folder(tmp_path / "plant"), tmp_path / "data"
            workers = CloudProcess(plant, data, server.url, settings.mqtt, role="workers")
            page = CloudProcess(plant, data, server.url, settings.mqtt, role="api")
            try:
                page.start()
                workers.start()
                await eventually_async(page.ready, 40)
                async with (
                    httpx.AsyncClient(base_url=f"http://{page.http}", trust_env=False, timeout=20) as client,
                    SpoolingGateway(settings.mqtt).connected() as gateway,
                ):
                    await signed_in(client)
                    began = now_ms()
                    await gateway.send({0: 10.0}, time_ms=began)
                    await gateway.send({0: 90.0}, time_ms=began + 1)
                    await what_one_process_would_answer(client)
                    await outlives_the_workers(client, page, workers, gateway)
                assert page.end() == 0
                assert workers.end() == 0
            finally:
                page.end(signal.SIGKILL)
                workers.end(signal.SIGKILL)

    asyncio.run(story())


async def what_one_process_would_answer(client: httpx.AsyncClient) -> None:
    """Ask for a bit of everything that the workers know."""

    async def point() -> float | None:
        value: float | None = (await client.get("/api/v1/points/P1")).json()["value"]
        return value

    async def alarm() -> str | None:
        rows = (await client.get("/api/v1/alarms")).json()
        return rows[0]["id"] if rows else None

    async def history() -> list[float]:
        query = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
        found: list[float] = (await client.get("/api/v1/points/P1/readings", params=query)).json()["value"]
        return found if len(found) > 1 else []

    await eventually_async(point, 20)
    occurrence = await eventually_async(alarm, 20)

    async def newest() -> bool:
        return await point() == 90.0

    await eventually_async(newest, 20)
    assert (await eventually_async(history, 20))[-2:] == [10.0, 90.0]
    answer = await client.post(f"/api/v1/alarms/{occurrence}/ack", json={})
    assert (answer.status_code, answer.json()["phase"]) == (200, "acknowledged")
    (gateway, *_) = (await client.get("/api/v1/gateways")).json()
    assert (gateway["id"], gateway["state"]) == ("gw", "online")
    metrics = (await client.get("/metrics")).text
    assert "tocsin_" in metrics
    assert "tocsin_messages_total" in metrics
    assert "tocsin_alarm_flood 0.0" in metrics
    assert (await client.get("/api/v1/plant")).json()["flood"] is None
    (raised, *_) = (await client.get(f"/api/v1/alarms/{occurrence}/steps")).json()
    assert raised["event"] == "raise"
    taken_back = await client.post(f"/api/v1/alarms/{occurrence}/unacknowledge", json={})
    assert (taken_back.status_code, taken_back.json()["phase"]) == (200, "unacknowledged")
    assert (await client.get("/api/v1/kpi")).json()["alarm_system"]["alarms"] == 1


async def outlives_the_workers(
    client: httpx.AsyncClient, page: CloudProcess, workers: CloudProcess, gateway: SpoolingGateway
) -> None:
    """Without workers it is not ready, keeps no event stream open and still answers; with them it goes on."""
    workers.end(signal.SIGKILL)

    async def not_ready() -> bool:
        return not await page.ready()

    await eventually_async(not_ready, 15)
    assert (await client.get("/api/v1/points/P1")).json()["value"] == 90.0
    refused = await client.get("/api/v1/events")
    assert (refused.status_code, refused.json()["detail"]) == (503, "the alarms worker does not answer")
    workers.start()
    await eventually_async(page.ready, 40)
    await gateway.send({0: 20.0})

    async def news() -> bool:
        return bool((await client.get("/api/v1/points/P1")).json()["value"] == 20.0)

    await eventually_async(news, 20)
