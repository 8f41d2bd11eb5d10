"""The uplink under TLS with a client certificate, against a broker that asks for one; and files that cannot be used."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.nats import Broker as Running
from tests.support.need import ROOT
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.nats_server import program
from tocsin_core.clock import SystemClock
from tocsin_core.plant.model import Broker
from tocsin_core.sparkplug import HostSession, Message
from tocsin_edge.adapters.certificate_end import end_of
from tocsin_edge.adapters.spool_file import COUNTERS
from tocsin_edge.adapters.uplink import NotReachedError, Uplink, UplinkError
from tocsin_edge.adapters.uplink_settings import Tls, UplinkSettings, UplinkSettingsError, read_uplink_settings

# Made for these tests by openssl, good for a hundred years: an authority (its key is gone), a broker's and a gateway's
# certificate for 127.0.0.1, and a gateway's of another authority.
MADE: Final = Path(__file__).with_name("uplink_certificates")


@contextmanager
def tls_broker(folder: Path) -> Iterator[Running]:
    """Run a nats-server whose MQTT listener takes nobody without a certificate of the authority."""
    mqtt, client = free_port(), free_port()
    config = folder / "tls.conf"
    config.write_text(
        f"server_name: test\nlisten: 127.0.0.1:{client}\njetstream {{ store_dir: {str(folder / 'store')!r} }}\n"
        f"mqtt {{\nlisten: 127.0.0.1:{mqtt}\ntls {{\ncert_file: {str(MADE / 'broker.pem')!r}\n"
        f"key_file: {str(MADE / 'broker.key')!r}\nca_file: {str(MADE / 'ca.pem')!r}\nverify: true\n}}\n}}\n",
        encoding="utf-8",
    )
    broker = Running([program(), "-c", str(config)], mqtt)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def connect(port: int, tls: Tls | None, host: str = "127.0.0.1") -> bool:
    """Connect an uplink, tell whether it was encrypted, and leave it."""
    broker, settings = Broker(host=host, port=port), UplinkSettings(tls)
    async with Uplink.connect(broker, ("site", "gw"), Message("will", b""), "command", settings) as uplink:
        await uplink.broker_has_all()
        return uplink.encrypted


def test_only_who_shows_a_certificate_of_the_authority_is_let_in(tmp_path: Path) -> None:
    """With it the uplink stands, encrypted; with none, with a stranger's, and without TLS it does not come about."""
    ours = Tls(MADE / "ca.pem", MADE / "gateway.pem", MADE / "gateway.key")
    stranger = Tls(MADE / "ca.pem", MADE / "stranger" / "gateway.pem", MADE / "stranger" / "gateway.key")

    async def story(port: int) -> None:
        assert await connect(port, ours)
        for refused in (Tls(MADE / "ca.pem"), stranger, None):
            with pytest.raises(UplinkError):
                await connect(port, refused)

    with tls_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def test_a_broker_of_another_authority_is_never_told_anything(tmp_path: Path) -> None:
    """A server whose certificate the gateway's authority did not sign gets no CONNECT, and so no will and no data."""
    wrong = Tls(MADE / "stranger" / "ca.pem", MADE / "gateway.pem", MADE / "gateway.key")

    async def story(port: int) -> None:
        with pytest.raises(NotReachedError, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(port, wrong)

    with tls_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def test_a_broker_whose_certificate_is_for_another_name_is_never_told_anything(tmp_path: Path) -> None:
    """Signed by the gateway's authority as it is: whoever else has a certificate of it is not the broker."""
    ours = Tls(MADE / "ca.pem", MADE / "gateway.pem", MADE / "gateway.key")

    async def story(port: int) -> None:
        with pytest.raises(NotReachedError, match="Hostname mismatch"):
            await connect(port, ours, "localhost")

    with tls_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2126])
def test_when_a_certificate_ends_is_read_as_the_library_reads_it(tmp_path: Path, year: int) -> None:
    """Also behind 2049, from which on it is written otherwise; the key may be in the same file, before or behind it."""
    end = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    made = x509.CertificateBuilder(name, name, key.public_key(), 2**150, datetime(2020, 1, 1, tzinfo=UTC), end)
    certificate = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for number, content in enumerate((certificate, certificate + secret, secret + certificate)):
        file = tmp_path / f"{number}.pem"
        file.write_bytes(content)
        assert end_of(file) == end
        settings, end_ns = UplinkSettings(Tls(file, file)), round(end.timestamp()) * 10**9
        assert settings.ended(end_ns - 1) == ""
        assert settings.ended(end_ns) == f"the gateway's certificate ended at {year}-03-04 05:06 UTC"


@pytest.mark.parametrize("cut", [0, 1, 30, 200, 400])
def test_of_what_is_no_certificate_no_end_is_told(tmp_path: Path, cut: int) -> None:
    """Nor is anything else of it an error here."""
    whole = ssl.PEM_cert_to_DER_cert((MADE / "gateway.pem").read_text(encoding="ascii"))
    torn = ssl.DER_cert_to_PEM_cert(whole[:cut])
    for number, content in enumerate((torn, torn[: len(torn) // 2], "")):
        file = tmp_path / f"{number}.pem"
        file.write_text(content, encoding="ascii")
        assert UplinkSettings(Tls(file, file)).ended(2**62) == ""
    assert UplinkSettings(Tls(MADE / "ca.pem", tmp_path / "none")).ended(2**62) == ""
    assert UplinkSettings().ended(2**62) == ""


def settings_file(data: Path) -> None:
    """Write `uplink.yaml` of gateway `gw`, its files beside it."""
    folder = data / "gateways" / "gw"
    folder.mkdir(parents=True)
    for name in ("ca.pem", "gateway.pem", "gateway.key"):
        (folder / name).write_bytes((MADE / name).read_bytes())
    (folder / "uplink.yaml").write_text(
        "tls: {ca: ca.pem, certificate: gateway.pem, key: gateway.key}\n", encoding="utf-8"
    )


def test_a_gateway_sends_its_readings_through_tls(tmp_path: Path) -> None:
    """A real gateway with `uplink.yaml` beside its spool is born and sends data over the encrypted listener."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    settings_file(tmp_path / "data")
    context = Tls(MADE / "ca.pem", MADE / "gateway.pem", MADE / "gateway.key").context()
    values: list[float] = []

    async def story(port: int) -> None:
        host = HostSession(lambda _group, _node, _device, _metric: 0)

        async def hear() -> None:
            async for message in client.messages:
                fed = host.feed(str(message.topic), message.payload, SystemClock().now_ns())
                values.extend(fed.frame.value.tolist())

        async with (
            Slave({1: 1.5}).serve() as slave,
            aiomqtt.Client("127.0.0.1", port, tls_context=context) as client,
            asyncio.TaskGroup() as tasks,
        ):
            await client.subscribe("spBv1.0/#")
            hearing = tasks.create_task(hear())
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            gateway.start()
            await eventually_async(lambda: '"tls": true' in gateway.log.read_text(encoding="utf-8"))
            await eventually_async(lambda: len(values) > 3)
            hearing.cancel()

    try:
        with tls_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls: {certificate: a.pem}\n", "tls.ca"),
        ("tls: {ca: missing.pem}\n", "cannot be used"),
        ("tls: {ca: noise.pem}\n", "cannot be used"),
        ("tsl: {}\n", "tsl"),
        ("primary_host: a/b\n", "primary_host"),
        ("- 1\n", "uplink.yaml"),
        ("tls: {\n", "uplink.yaml"),
    ],
)
def test_settings_that_cannot_be_obeyed_stop_the_start(tmp_path: Path, text: str, said: str) -> None:
    """A gateway never falls back to an open link because of a slip in a file."""
    (tmp_path / "noise.pem").write_text("noise", encoding="utf-8")
    (tmp_path / "uplink.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UplinkSettingsError, match=said):
        read_uplink_settings(tmp_path)


def test_without_the_file_the_uplink_is_plain(tmp_path: Path) -> None:
    """What is not there asks for nothing; an empty file neither."""
    assert read_uplink_settings(tmp_path) == UplinkSettings()
    (tmp_path / "uplink.yaml").write_text("", encoding="utf-8")
    assert read_uplink_settings(tmp_path) == UplinkSettings()


def test_the_page_shows_a_file_that_is_obeyed(tmp_path: Path) -> None:
    """The example in docs/uplink.md is read as it stands, and the counters that it names are the spool's."""
    page = (ROOT / "docs" / "uplink.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "uplink.yaml").write_text(example, encoding="utf-8")
    for there, here in (("ca.pem", "ca.pem"), ("gateway.pem", "gw.pem"), ("gateway.key", "gw.key")):
        (tmp_path / here).write_bytes((MADE / there).read_bytes())
    read = read_uplink_settings(tmp_path)
    assert read == UplinkSettings(Tls(tmp_path / "ca.pem", tmp_path / "gw.pem", tmp_path / "gw.key"), "scada")
    assert set(re.findall(r"`((?:readings|files|journal)_\w+)`", page)) <= set(COUNTERS)


def test_the_client_id_fits_every_broker_and_cannot_be_guessed() -> None:
    """No dot, which nats-server refuses; the same at each connect; with a key it is not the one made without."""
    plain = UplinkSettings().client_id("s.1", "gw.1")
    assert re.fullmatch(r"s-1-gw-1-[0-9a-f]{16}", plain)
    assert UplinkSettings().client_id("s.1", "gw-1") != plain
    ours = UplinkSettings(Tls(MADE / "ca.pem", MADE / "gateway.pem", MADE / "gateway.key"))
    assert ours.client_id("s.1", "gw.1") == ours.client_id("s.1", "gw.1") != plain
