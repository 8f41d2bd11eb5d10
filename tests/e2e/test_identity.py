"""An enrolled gateway on a cloud side that takes nobody without a certificate, by the commands that the pages name."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.cli.in_process import tocsin
from tests.cloud.rig import HOST, CloudProcess
from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.settings import Address


@pytest.mark.timeout(300)
def test_a_gateway_is_enrolled_heard_and_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its readings are committed and the acknowledgement reaches it; revoked, it is disconnected and shown as such."""
    mqtt, data, box = free_port(), tmp_path / "cloud", tmp_path / "box"

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            folder = str(plant(tmp_path / "plant", mqtt, {"A": modbus_device("A", slave.port)}))
            words = (folder, "--gateway", "gw", "--data", str(data))
            files = box / "gateways" / "gw"
            # A verb runs an event loop of its own.
            enrolled = await asyncio.to_thread(
                tocsin, monkeypatch, "gateway", "enroll", *words, "--out", str(files), "--json"
            )
            assert enrolled == 0
            told = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert {path.name for path in files.iterdir()} == {"ca.pem", "gateway.pem", "uplink.yaml"}
            cloud = CloudProcess(Path(folder), data, "", Address(HOST, mqtt), more=("--mqtt-tls",))
            gateway = Gateway(Path(folder), box)
            cloud.start()
            gateway.start()
            try:
                await cloud.until_ready()
                await eventually_async(lambda: gateway.counters().get("readings_committed", 0) > 0, 60)

                async def online() -> bool:
                    (shown,) = await cloud.get("gateways")
                    return bool(shown["state"] == "online")

                # Who stores readings may be ahead of who tells the state.
                await eventually_async(online, 60)
                (shown,) = await cloud.get("gateways")
                assert (shown["state"], shown["skewed"], abs(shown["skew_s"]) < 30) == ("online", False, True)
                assert shown["certificate_ends"].startswith(told["ends"][:19])
                assert await asyncio.to_thread(tocsin, monkeypatch, "gateway", "revoke", *words, "--json") == 0
                assert f'"revoked": ["{told["serial"]}"]' in capsys.readouterr().out

                async def offline() -> bool:
                    return not await online()

                await eventually_async(offline, 60)
            finally:
                gateway.stop()
                cloud.end(signal.SIGKILL)

    asyncio.run(story())
