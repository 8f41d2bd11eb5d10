"""The roles in processes of their own: the same answers as from one, and each outlives the others."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.support.wait import eventually_async
from tocsin_cloud.settings import ALL, WORKERS, Role, name_of, parse_roles

# The start of a process takes long on a machine that does much else.
MOST_S = 120


async def signed_in(client: httpx.AsyncClient) -> None:
    """Sign the client in as the administrator."""
    answer = await client.post("/api/v1/session", json={"user": "admin", "password": "a long test password"})
    client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"


def test_roles_are_read_as_they_are_written() -> None:
    """By a name for several, or with commas between them; one that is none is refused with what there is."""
    assert [parse_roles(text) for text in ("all", "workers")] == [ALL, WORKERS]
    assert parse_roles("alarms,api") == {Role.ALARMS, Role.API}
    for text in ("all", "workers", "alarms,api", "notify"):
        assert name_of(parse_roles(text)) == text
    for text in ("", "alarms,king", "alarms, api"):
        with pytest.raises(ValueError, match="is not all, workers, or some of historian,alarms,notify,api"):
            parse_roles(text)


@pytest.mark.timeout(600)
def test_the_roles_run_apart(tmp_path: Path) -> None:
    """Three processes answer as one; alarms are raised and told while the historian stands still; each outlives all."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant, data = plant_folder(tmp_path / "plant"), tmp_path / "data"
            alarms, historian, page = (
                CloudProcess(plant, data, server.url, settings.mqtt, role=role)
                for role in ("alarms", "historian", "notify,api")
            )
            try:
                for process in (alarms, historian, page):
                    process.start()
                await eventually_async(page.ready, MOST_S)
                async with (
                    # No connection is kept: the server ends one that was idle, perhaps just when it is used again.
                    httpx.AsyncClient(
                        base_url=f"http://{page.http}",
                        trust_env=False,
                        timeout=20,
                        limits=httpx.Limits(max_keepalive_connections=0),
                    ) as client,
                    SpoolingGateway(settings.mqtt).connected() as gateway,
                ):
                    await signed_in(client)
                    await alarms_do_not_wait_for_history(client, page, historian, gateway)
                    await what_one_process_would_answer(client)
                    await outlives_the_others(client, page, alarms, historian, gateway)
                assert [process.end() for process in (page, alarms, historian)] == [0, 0, 0]
            finally:
                for process in (page, alarms, historian):
                    process.end(signal.SIGKILL)

    asyncio.run(story())


async def alarms_do_not_wait_for_history(
    client: httpx.AsyncClient, page: CloudProcess, historian: CloudProcess, gateway: SpoolingGateway
) -> None:
    """While the historian stands still an alarm is raised and told, nothing is acknowledged; then all is stored."""
    began = now_ms()
    await gateway.send({0: 10.0}, time_ms=began)
    await eventually_async(lambda: gateway.committed == 1, MOST_S)
    await historian.stand_still()
    await gateway.send({0: 90.0}, time_ms=began + 1)
    await eventually_async(lambda: page.rows("SELECT state FROM message WHERE repeat = 0") == [("delivered",)], MOST_S)
    assert await page.ready()
    assert gateway.committed == 1
    assert historian.process is not None
    historian.process.send_signal(signal.SIGCONT)
    await eventually_async(lambda: gateway.committed == 2, MOST_S)

    async def heard() -> bool:
        return 'tocsin_role_answers{role="historian"} 1.0' in (await client.get("/metrics")).text

    await eventually_async(heard, MOST_S)


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

    await eventually_async(point, MOST_S)
    occurrence = await eventually_async(alarm, MOST_S)

    async def newest() -> bool:
        return await point() == 90.0

    await eventually_async(newest, MOST_S)
    assert (await eventually_async(history, MOST_S))[-2:] == [10.0, 90.0]
    answer = await client.post(f"/api/v1/alarms/{occurrence}/ack", json={})
    assert (answer.status_code, answer.json()["phase"]) == (200, "acknowledged")
    (gateway, *_) = (await client.get("/api/v1/gateways")).json()
    assert (gateway["id"], gateway["state"]) == ("gw", "online")

    async def figures() -> bool:
        # Each role's are passed on as it answers, and a busy one answers late.
        metrics = (await client.get("/metrics")).text
        return "tocsin_messages_total" in metrics and "tocsin_alarm_flood 0.0" in metrics

    await eventually_async(figures, MOST_S)
    assert (await client.get("/api/v1/plant")).json()["flood"] is None

    async def both_work() -> bool:
        # What a role has committed last is among its figures, and these are made anew only every few seconds.
        report = (await client.get("/api/v1/health")).json()
        troubles = [trouble["subject"] for trouble in report["troubles"]]
        return [role["works"] for role in report["roles"]] == [True, True] and troubles == ["theirs"]

    await eventually_async(both_work, MOST_S)
    (raised, *_) = (await client.get(f"/api/v1/alarms/{occurrence}/steps")).json()
    assert raised["event"] == "raise"
    taken_back = await client.post(f"/api/v1/alarms/{occurrence}/unacknowledge", json={})
    assert (taken_back.status_code, taken_back.json()["phase"]) == (200, "unacknowledged")
    assert (await client.get("/api/v1/kpi")).json()["alarm_system"]["alarms"] == 1


async def outlives_the_others(
    client: httpx.AsyncClient,
    page: CloudProcess,
    alarms: CloudProcess,
    historian: CloudProcess,
    gateway: SpoolingGateway,
) -> None:
    """Without the others it is not ready, keeps no event stream open and still answers; with them it goes on."""
    alarms.end(signal.SIGKILL)
    historian.end(signal.SIGKILL)

    async def not_ready() -> bool:
        return not await page.ready()

    await eventually_async(not_ready, MOST_S)
    assert (await client.get("/api/v1/points/P1")).json()["value"] == 90.0
    # The notifier's process, which no longer has anybody to look at the broker, still reaches it.
    assert not any(each["kind"] == "broker" for each in (await client.get("/api/v1/health")).json()["troubles"])
    refused = await client.get("/api/v1/events")
    assert (refused.status_code, refused.json()["detail"]) == (503, "the alarms worker does not answer")
    alarms.start()
    historian.start()
    await eventually_async(page.ready, MOST_S)
    await gateway.send({0: 20.0})

    async def news() -> bool:
        return bool((await client.get("/api/v1/points/P1")).json()["value"] == 20.0)

    await eventually_async(news, MOST_S)
