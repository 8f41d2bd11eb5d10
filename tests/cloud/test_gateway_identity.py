"""Certificates of gateways on the real nats-server: each says and hears what is its own; the opposite is tried."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiomqtt
import nats
import pytest
from cryptography import x509
from nats.errors import Error as NatsError
from prometheus_client import CollectorRegistry

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.rig import HOST
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_cloud.adapters.authority import CA_FILE, Authority, Made
from tocsin_cloud.adapters.enrolment import Enrolment, EnrolmentError, identity, moment
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.own_certificates import cloud_context, secured
from tocsin_cloud.adapters.permissions import Users
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import SystemClock

CLOCK = SystemClock()
YEAR = timedelta(days=365)
# Dots are in the ids on purpose: NATS parts its subjects with them.
SITE, OURS, THEIRS = "s.1", "gw.1", "gw.2"
OWN = f"spBv1.0/{SITE}/NDATA/{OURS}"


@dataclass
class Secured:
    """A broker that asks for certificates, and what the cloud side hears of it."""

    folder: Path
    server: NatsServer
    mqtt: Address
    registry: CollectorRegistry
    enrolment: Enrolment
    enrolled: dict[str, ssl.SSLContext] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)

    def refused(self, reason: str) -> float:
        """How often the broker refused something for this reason, as the figures say."""
        return self.registry.get_sample_value("tocsin_broker_refused_total", {"reason": reason}) or 0.0

    def refused_more(self, reason: str, before: float) -> bool:
        """Whether more was refused for this reason than before."""
        return self.refused(reason) > before

    def context(self, made: Made) -> ssl.SSLContext:
        """With what the owner of a certificate connects."""
        path = self.folder / f"{made.serial}.pem"
        path.write_bytes(made.certificate + made.key)
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(str(path))
        return context

    def client(
        self, context: ssl.SSLContext | None, name: str, will: str | None = None, patience_s: float = 30.0
    ) -> aiomqtt.Client:
        """An MQTT client, its last will on the topic `will`."""
        last = None if will is None else aiomqtt.Will(will, b"", qos=1)
        return aiomqtt.Client(*self.mqtt, identifier=name, tls_context=context, will=last, timeout=patience_s)

    async def is_cut(self, client: aiomqtt.Client, meanwhile: Callable[[], Awaitable[None]]) -> bool:
        """Whether the broker ends a connection within a while after what is done meanwhile."""
        try:
            async with client:
                await meanwhile()
                async with asyncio.timeout(PATIENCE_S):
                    async for _ in client.messages:
                        pass
        except aiomqtt.MqttError:
            return True
        return False

    async def let_in(self, context: ssl.SSLContext | None) -> bool:
        """Whether who shows this is let in."""
        try:
            # Who is refused is not told so, and would wait all the time.
            async with self.client(context, "somebody", patience_s=1.0):
                return True
        except aiomqtt.MqttError:
            return False


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Secured]:
    """Run the broker as the cloud side does for two gateways, and hear all of Sparkplug and Tocsin's own subjects."""
    authority, now = folder / "authority", moment(CLOCK.now_ns())
    enrolment = Enrolment(authority)
    made = {gateway: enrolment.enroll(SITE, gateway, now, YEAR) for gateway in (OURS, THEIRS)}
    tls, users = secured(authority, [], CLOCK)
    mqtt = Address(HOST, free_port())
    settings = BrokerSettings(folder=folder / "nats", nats=Address(HOST, free_port()), mqtt=mqtt, tls=tls)
    server, registry = await NatsServer.start(settings, CLOCK, users), CollectorRegistry()
    context = cloud_context(authority, CLOCK)
    around = Secured(authority, server, mqtt, registry, enrolment)
    around.enrolled = {gateway: around.context(each) for gateway, each in made.items()}

    async def hear(cloud: aiomqtt.Client) -> None:
        async for message in cloud.messages:
            around.heard.append(str(message.topic))

    tasks = [asyncio.create_task(server.keep_users(WatchMetrics(registry).broker_refused))]
    try:
        async with around.client(context, "cloud") as cloud:
            await cloud.subscribe([("spBv1.0/#", 0), ("tocsin/#", 0)])
            tasks.append(asyncio.create_task(hear(cloud)))
            yield around
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    finally:
        await server.stop()


def test_a_gateway_says_what_is_its_own_and_nothing_else(tmp_path: Path) -> None:
    """Of all that it publishes its own data and its own last will arrive; each of the others is counted."""
    forbidden = [
        f"spBv1.0/{SITE}/NDATA/{THEIRS}",
        f"spBv1.0/{SITE}/DDATA/{THEIRS}/{OURS}",
        f"spBv1.0/{SITE}/NCMD/{OURS}",
        f"spBv1.0/{SITE}/NCMD/{THEIRS}",
        f"spBv1.0/other/NDATA/{OURS}",
        "spBv1.0/STATE/tocsin",
        f"tocsin/command/{SITE}",
        f"tocsin/computed/{SITE}",
        "$JS/API/STREAM/PURGE/READINGS",
        "$MQTT/msgs/x",
        # What would be its own if a dot parted a topic.
        f"spBv1.0/{SITE}/NDATA/gw/1",
    ]

    async def story() -> None:
        async with running(tmp_path) as broker:
            ours = broker.enrolled[OURS]
            async with broker.client(ours, "gw") as gateway:
                for topic in forbidden:
                    for qos in (0, 1):
                        await gateway.publish(topic, b"x", qos=qos)
                await gateway.publish(f"spBv1.0/{SITE}/DBIRTH/{OURS}/d.1", b"x", qos=1)
                await gateway.publish(OWN, b"x", qos=0)
            for will in (f"spBv1.0/{SITE}/NDEATH/{THEIRS}", f"spBv1.0/{SITE}/NDEATH/{OURS}"):
                dying = broker.client(ours, "gw", will)
                await dying.__aenter__()
                dying._client._sock_close()  # noqa: SLF001 -- a connection that breaks says no goodbye
            own = [f"spBv1.0/{SITE}/DBIRTH/{OURS}/d.1", OWN, f"spBv1.0/{SITE}/NDEATH/{OURS}"]
            await eventually_async(lambda: broker.heard[-1:] == own[-1:])
            assert broker.heard == own
            await eventually_async(lambda: broker.refused("publish") == 2 * len(forbidden) + 1)

    asyncio.run(story())


def test_a_gateway_hears_its_own_commands_and_nothing_else(tmp_path: Path) -> None:
    """Sparkplug's subscriptions are granted; another's commands, everybody's data and the server's own are refused."""
    allowed = [f"spBv1.0/{SITE}/NCMD/{OURS}", f"spBv1.0/{SITE}/DCMD/{OURS}/+", "spBv1.0/STATE/tocsin"]
    forbidden = [f"spBv1.0/{SITE}/NCMD/{THEIRS}", f"spBv1.0/{SITE}/NCMD/+", "spBv1.0/#", "#", "+/#", "tocsin/#"]
    forbidden += ["$MQTT/sub/#", "$MQTT/#", "$JS/#", "$SYS/#"]

    async def story() -> None:
        async with running(tmp_path) as broker:
            ours = broker.enrolled[OURS]
            cloud = cloud_context(broker.folder, CLOCK)
            async with broker.client(ours, "gw") as gateway, broker.client(cloud, "host") as host:
                granted = await gateway.subscribe([(topic, 1) for topic in allowed])
                assert [str(code) for code in granted] == ["Granted QoS 1"] * 3
                for qos in (0, 1):
                    refused = await gateway.subscribe([(topic, qos) for topic in forbidden])
                    assert {str(code) for code in refused} == {"Unspecified error"}
                for topic in (f"spBv1.0/{SITE}/NCMD/{THEIRS}", *allowed[::2]):
                    await host.publish(topic, b"x", qos=1)
                heard = [str((await anext(gateway.messages)).topic) for _ in range(2)]
                assert heard == allowed[::2]
            await eventually_async(lambda: broker.refused("subscribe") > 0)

    asyncio.run(story())


def test_who_shows_nothing_that_counts_is_not_let_in(tmp_path: Path) -> None:
    """No certificate, another authority's, one that ended, one of nobody we know; and a gateway at the other port."""

    async def story() -> None:
        async with running(tmp_path) as broker:
            ours = broker.enrolled[OURS]
            anybody = ssl.create_default_context(cafile=str(broker.folder / "ca.pem"))
            now = moment(CLOCK.now_ns())
            foreign = Authority.open(tmp_path / "foreign").client("x", identity(SITE, OURS, "1"), 1, now, YEAR)
            unknown = Authority.open(broker.folder).client("x", identity(SITE, OURS, "1"), 1, now, YEAR)
            ended = broker.enrolment.enroll(SITE, "ended", now, timedelta(seconds=-1))
            others = [broker.context(made) for made in (foreign, unknown, ended)]
            for each in (anybody, *others):
                before = broker.refused("certificate")
                assert not await broker.let_in(each)
                await eventually_async(partial(broker.refused_more, "certificate", before))
            # Without TLS there is nothing that the server would note.
            assert not await broker.let_in(None)
            # Its certificate is good, but for a gateway's port alone.
            with pytest.raises(NatsError, match="Authorization Violation"):
                await nats.connect(broker.server.url, tls=ours, allow_reconnect=False)
            await eventually_async(lambda: broker.let_in(ours))

    asyncio.run(story())


def test_a_revoked_gateway_is_disconnected_and_no_other(tmp_path: Path) -> None:
    """The broker ends its connection within seconds and lets it in no more; the neighbour's stands on unharmed."""

    async def story() -> None:
        async with running(tmp_path) as broker:
            ours, theirs = broker.enrolled[OURS], broker.enrolled[THEIRS]
            own = await connect(broker.server.url, "cloud", cloud_context(broker.folder, CLOCK))
            async with broker.client(theirs, "theirs") as neighbour:
                gateway = broker.client(ours, "ours", f"spBv1.0/{SITE}/NDEATH/{OURS}")

                async def revoke() -> None:
                    broker.enrolment.revoke(SITE, OURS, None, moment(CLOCK.now_ns()))

                assert await broker.is_cut(gateway, revoke)
                # Its death is told, so that its points turn bad.
                await eventually_async(lambda: f"spBv1.0/{SITE}/NDEATH/{OURS}" in broker.heard)
                assert not await broker.let_in(ours)
                await eventually_async(lambda: broker.refused("certificate") >= 1)
                await neighbour.publish(f"spBv1.0/{SITE}/NDATA/{THEIRS}", b"x", qos=1)
                await eventually_async(lambda: f"spBv1.0/{SITE}/NDATA/{THEIRS}" in broker.heard)
            assert own.is_connected
            assert own.stats["reconnects"] == 0
            await own.close()

    asyncio.run(story())


def test_a_renewed_gateway_never_has_no_certificate(tmp_path: Path) -> None:
    """Both count for as long as was asked; then the old one ends, connection and all, and the new one stands."""

    async def story() -> None:
        async with running(tmp_path) as broker:
            old = broker.enrolled[OURS]
            overlap = timedelta(seconds=3)
            new = broker.context(broker.enrolment.renew(SITE, OURS, moment(CLOCK.now_ns()), YEAR, overlap))

            async def both_count() -> None:
                await eventually_async(lambda: broker.let_in(new))

            assert await broker.is_cut(broker.client(old, "old"), both_count)
            assert not await broker.let_in(old)
            await eventually_async(lambda: broker.let_in(new))

    asyncio.run(story())


def test_a_clock_that_was_ahead_for_a_while_shuts_out_nobody_for_good(tmp_path: Path) -> None:
    """Certificates had ended by it, and what was made by it begins in time."""
    hands = HandClock()
    enrolment, right = Enrolment(tmp_path), hands.now_ns()
    enrolment.enroll(SITE, OURS, moment(right), YEAR)
    users = Users(enrolment, hands)
    before = users.text()
    assert OURS in before
    hands.move(2 * YEAR.total_seconds())
    assert OURS not in users.text()
    made = enrolment.enroll(SITE, THEIRS, moment(hands.now_ns()), YEAR)
    assert THEIRS in users.text()
    hands.set_back(2 * YEAR.total_seconds())
    assert OURS in users.text()
    assert x509.load_pem_x509_certificate(made.certificate).not_valid_before_utc < moment(right)


def test_two_first_uses_at_once_make_one_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes when the first has written its key and not yet its certificate: both use the first one's."""
    with ThreadPoolExecutor() as pool:
        second: list[Future[Authority]] = []

        def write(path: Path, content: bytes) -> None:
            if path.name == CA_FILE and not second:
                second.append(pool.submit(Authority.open, tmp_path))
                wait(second, 0.3)
            write_whole(path, content)

        monkeypatch.setattr("tocsin_cloud.adapters.authority.write_whole", write)
        Authority.open(tmp_path)
        held = (tmp_path / CA_FILE).read_bytes()
        second[0].result(5)
    Authority.open(tmp_path)
    assert (tmp_path / CA_FILE).read_bytes() == held


def test_what_does_not_fit_what_was_issued_is_refused(tmp_path: Path) -> None:
    """No second first certificate, no renewal without one, no revoking of what is not there; the old ends are kept."""
    enrolment, now = Enrolment(tmp_path), moment(CLOCK.now_ns())
    with pytest.raises(EnrolmentError, match="enroll it"):
        enrolment.renew(SITE, OURS, now, YEAR, YEAR)
    first = enrolment.enroll(SITE, OURS, now, YEAR)
    with pytest.raises(EnrolmentError, match="is enrolled"):
        enrolment.enroll(SITE, OURS, now, YEAR)
    with pytest.raises(EnrolmentError, match="no such certificate"):
        enrolment.revoke(SITE, OURS, "12", now)
    second = enrolment.renew(SITE, OURS, now, 2 * YEAR, 3 * YEAR)
    # An overlap never lengthens the life of what is replaced.
    assert [(each.serial, each.end) for each in enrolment.certificates()] == [
        (first.serial, now + YEAR),
        (second.serial, now + 2 * YEAR),
    ]
    assert [each.serial for each in enrolment.revoke(SITE, OURS, first.serial, now)] == [first.serial]
    assert [each.counts(now) for each in enrolment.certificates()] == [False, True]
    for name in ("ca.key", "certificates.json"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
