"""The embedded nats-server's process: it comes back, it never runs twice on one store, it does not outlive us."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiomqtt
import psutil
import pytest
from structlog.testing import capture_logs

from tests.cloud.rig import HOST, broker
from tests.support.ports import free_port
from tests.support.small_disk import on_small_disk
from tests.support.wait import eventually, eventually_async
from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.nats_config import config_text, server_files
from tocsin_cloud.adapters.nats_server import BrokerError, NatsServer, server_name_at
from tocsin_cloud.adapters.permissions import HOST as HOST_USER
from tocsin_cloud.settings import Address, BrokerSettings, BrokerTls
from tocsin_core.clock import SystemClock


def settings(folder: Path, **more: float) -> BrokerSettings:
    """Settings of a server on free ports."""
    nats, mqtt = Address(HOST, free_port()), Address(HOST, free_port())
    return BrokerSettings(folder=folder, nats=nats, mqtt=mqtt, **more)  # type: ignore[arg-type]  # seconds only


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"identifier": "a.b"}, "[code:133]"),
        ({"identifier": "a", "username": ""}, "[code:134]"),
        ({"protocol": aiomqtt.ProtocolVersion.V5}, "[code:132]"),
        ({}, ""),
    ],
)
def test_what_the_mqtt_listener_refuses(tmp_path: Path, asked: dict[str, object], refusal: str) -> None:
    """As docs/third-parties.md tells it: a client id with a dot, an empty user name, MQTT 5; none at all is welcome."""

    async def story() -> None:
        async with broker(tmp_path) as (_, config):
            told = ""
            try:
                async with aiomqtt.Client(*config.mqtt, **asked):  # type: ignore[arg-type]  # names of its own arguments
                    pass
            except aiomqtt.MqttError as error:
                told = str(error)
            assert told.partition(" ")[0] == refusal

    asyncio.run(story())


def test_after_a_full_disk_the_server_takes_messages_again(tmp_path: Path) -> None:
    """As soon as there is room, and with what it had: left to itself it would refuse everything for ever."""
    found = on_small_disk("60m", tmp_path, "tests.cloud.broker_on_full_disk")
    assert found == {"kept": True, "before": 0, "restarts": 1}


def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """Killed, it answers again on the same address."""

    async def story() -> None:
        async with broker(tmp_path) as (server, config):
            first = server.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await eventually_async(lambda: server.pid != first)

            async def answers() -> bool:
                return await server_name_at(config.nats) == config.server_name

            await eventually_async(answers)
        assert await server_name_at(config.nats) is None

    asyncio.run(story())


def test_one_store_has_one_server(tmp_path: Path) -> None:
    """A second server on the same folder waits for the first one's end, and gives up with the reason."""

    async def story() -> None:
        async with broker(tmp_path):
            with pytest.raises(BrokerError, match="another nats-server"):
                await NatsServer.start(settings(tmp_path, ready_timeout_s=0.3), SystemClock())

    asyncio.run(story())


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The server's own reason is in the error."""

    async def story() -> None:
        async with broker(tmp_path / "one") as (_, config):
            twice = BrokerSettings(folder=tmp_path / "two", nats=Address(HOST, free_port()), mqtt=config.mqtt)
            with pytest.raises(BrokerError, match="address already in use"):
                await NatsServer.start(twice, SystemClock())

    asyncio.run(story())


@pytest.mark.parametrize(
    ("host", "tls", "warnings"),
    [
        ("192.0.2.1", None, 2),
        ("tocsin.invalid", None, 2),
        ("192.0.2.1", server_files(Path("nowhere")), 0),
        ("::1", None, 0),
        ("localhost", None, 0),
    ],
)
def test_a_listener_for_everybody_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, tls: BrokerTls | None, warnings: int
) -> None:
    """Before it listens: without TLS, at an address that is not this machine's own."""
    monkeypatch.setattr("tocsin_cloud.adapters.nats_server.program", lambda: "false")
    opened = Address(host, 1883)
    config = BrokerSettings(folder=tmp_path, nats=opened, mqtt=opened, tls=tls)
    with capture_logs() as logs, pytest.raises(BrokerError):
        asyncio.run(NatsServer.start(config, SystemClock()))
    assert [line["listens"] for line in logs if line["log_level"] == "warning"] == [str(opened)] * warnings


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """After kill -9 of `tocsin broker` no server is left, and the next one starts on the same store."""
    config = settings(tmp_path / "nats")
    arguments = ["broker", "--data", str(tmp_path), "--mqtt", str(config.mqtt), "--nats", str(config.nats)]

    def start() -> tuple[subprocess.Popen[bytes], psutil.Process]:
        parent = subprocess.Popen([sys.executable, "-m", "tocsin_cli", *arguments], stderr=subprocess.DEVNULL)
        eventually(lambda: asyncio.run(server_name_at(config.nats)) == config.server_name)
        return parent, eventually(lambda: psutil.Process(parent.pid).children())[0]

    parent, child = start()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    parent, child = start()
    parent.terminate()
    assert parent.wait(30) == 0
    assert not child.is_running()


def test_a_password_lets_its_host_in_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chinese, quotes, braces, and what the server's configuration takes for a variable or a comment."""
    password = '12密码 "quoted" \\n $HOME } # //'
    monkeypatch.setenv(VARIABLE, password)

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            async with aiomqtt.Client(*settings.mqtt, username=HOST_USER, password=password):
                pass
            with pytest.raises(aiomqtt.MqttError):
                async with aiomqtt.Client(*settings.mqtt, username=HOST_USER, password="12"):
                    pass

    asyncio.run(story())


@pytest.mark.parametrize("password", ["$2a$10$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4", "a\x07b", "\udcff"])
def test_a_password_that_the_server_would_misread_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """A hash, or control codes: said in one line, without the password."""
    monkeypatch.setenv(VARIABLE, password)
    with pytest.raises(BrokerError, match=VARIABLE) as refused:
        asyncio.run(NatsServer.start(settings(tmp_path), SystemClock()))
    assert password not in str(refused.value)


def test_odd_characters_in_the_folder_are_quoted(tmp_path: Path) -> None:
    """A folder with quotes, braces and spaces in its name cannot break out of the configuration."""
    text = config_text(settings(tmp_path / 'a "b" } c'))
    assert '\\"b\\" } c' in text
