"""Holds the cloud side's part in managed gateways to its promises: one key, versions that only go up, no flood."""

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from tests.cloud.rig import plant_folder
from tocsin_cloud.adapters.issued import Issued, IssuedError, IssuedFile
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.signing import KeyFileError, signing_key
from tocsin_cloud.loops.live import Known, LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.slices import AGAIN_FIRST_S, Slices
from tocsin_cloud.settings import StrangerSettings
from tocsin_core.managed import CUT_SHORT, KEY_FILE, Answer, Assembly, Offer, Outcome, Standing, unseal
from tocsin_core.plant import Plant, load_plant
from tocsin_core.plant.slice import hash_of, slice_of
from tocsin_core.sparkplug import EdgeSession, Fed, parse_command
from tocsin_core.sparkplug.host import HostSession

if TYPE_CHECKING:
    from nats.aio.client import Client

NOW_MS = 1_800_000_000_000


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        """Start at NOW_MS."""
        self.s = 0.0

    def now_ns(self) -> int:
        """UTC."""
        return NOW_MS * 1_000_000 + round(self.s * 1e9)

    def monotonic(self) -> float:
        """The same, from the start."""
        return self.s


class Bench:
    """The loop on a plant of one gateway, which says what the test wants; what it is sent is opened with its key."""

    def __init__(self, folder: Path, plant: Plant) -> None:
        """Begin with a gateway that is not there."""
        self.plant, self.clock, self.folder = plant, HandClock(), folder
        self.live = LiveView(PointTable(plant, StrangerSettings()))
        self.sent: list[Offer] = []
        self.metrics = Metrics()
        self.session = HostSession(lambda *_: None)
        self.node = EdgeSession("site", "gw", [])
        self.assembly = Assembly()
        self.start()

    def start(self) -> None:
        """Be a cloud side that has just started on this folder."""
        issued, sign = IssuedFile.open(self.folder), signing_key(self.folder)
        self.slices = Slices(cast("Client", self), self.plant, self.live, issued, sign, self.metrics, self.clock)
        public = load_pem_public_key((self.folder / KEY_FILE).read_bytes())
        assert isinstance(public, Ed25519PublicKey)
        self.verify = verifying(public)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Stand for the broker's client."""
        assert subject == "spBv1//0.site.NCMD.gw"
        for part in parse_command(payload).slice_parts:
            whole = self.assembly.take(part)
            if whole is not None:
                self.sent.append(unseal(whole, self.verify, "site", "gw"))

    def says(self, standing: Standing | None, kind: str = "NBIRTH") -> None:
        """Let the gateway tell where it stands."""
        text = None if standing is None else standing.to_text()
        message = self.node.nbirth(0, 1, NOW_MS, standing=text)
        if kind == "NDATA":
            message = self.node.standing(text or "", NOW_MS)
        self.live.hear(self.feed(message.topic, message.payload), self.clock.now_ns())

    def feed(self, topic: str, payload: bytes) -> Fed:
        """Let the host hear a message."""
        return self.session.feed(topic, payload, self.clock.now_ns())

    def look(self, after_s: float = 0.0) -> list[int]:
        """Let time pass and the loop look; gives the versions sent by then."""
        self.clock.s += after_s
        asyncio.run(self.slices.look())
        return [offer.version for offer in self.sent]


def verifying(key: Ed25519PublicKey) -> Callable[[bytes, bytes], bool]:
    """Give the function that tells a key's signatures, or raises."""

    def verify(signature: bytes, content: bytes) -> bool:
        key.verify(signature, content)
        return True

    return verify


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench on the small plant."""
    return Bench(tmp_path, load_plant(plant_folder(tmp_path / "plant")))


def test_a_gateway_that_runs_on_what_it_should_is_sent_nothing(bench: Bench) -> None:
    """Nor is one that is not managed, or not there; the interface tells which."""
    wanted = hash_of(slice_of(bench.plant, "gw"))
    assert bench.look() == []
    bench.says(None)
    assert bench.look() == []
    bench.says(Standing(0, wanted))
    assert bench.look() == []
    known = bench.live.gateways["site", "gw"]
    assert (known.standing, known.wanted) == (Standing(0, wanted), wanted)
    figure = bench.metrics.gateway_slice.labels("gw")
    assert next(iter(figure.collect())).samples[0].value == 1
    bench.says(Standing(0, "other"), "NDATA")
    bench.look()
    assert next(iter(figure.collect())).samples[0].value == 0


def test_another_slice_is_sent_once_and_again_ever_more_rarely_until_it_is_answered(bench: Bench) -> None:
    """The same version each time; an answer ends it."""
    bench.says(Standing(0, "other"))
    assert bench.look() == [NOW_MS]
    assert bench.sent[0].data == slice_of(bench.plant, "gw")
    assert bench.look(AGAIN_FIRST_S - 1) == [NOW_MS]
    assert bench.look(2) == [NOW_MS] * 2
    assert bench.look(AGAIN_FIRST_S) == [NOW_MS] * 2
    assert bench.look(AGAIN_FIRST_S) == [NOW_MS] * 3
    bench.says(Standing(0, "other", Answer(NOW_MS, Outcome.ON_TRIAL)), "NDATA")
    assert bench.look(7200) == [NOW_MS] * 3
    bench.says(Standing(NOW_MS, hash_of(bench.sent[0].data), Answer(NOW_MS, Outcome.APPLIED)), "NDATA")
    assert bench.look(7200) == [NOW_MS] * 3


@pytest.mark.parametrize(
    "answer",
    [
        (Outcome.ROLLED_BACK, "A: A bad"),
        (Outcome.REFUSED, "invalid plant: x"),
        (Outcome.REFUSED, "not for this gateway: x"),
    ],
)
def test_what_a_gateway_would_not_have_comes_again_only_after_a_start_or_a_change(
    bench: Bench, answer: tuple[Outcome, str]
) -> None:
    """Under a higher number each time, that is on disk before it is sent."""
    bench.says(Standing(3, "other"))
    assert bench.look() == [NOW_MS]
    bench.says(Standing(3, "other", Answer(NOW_MS, *answer)), "NDATA")
    assert bench.look(7200) == [NOW_MS]
    bench.start()
    (_, second) = bench.look()
    assert second == NOW_MS + 7_200_000
    assert json.loads((bench.folder / "slices.json").read_bytes())["gateways"]["gw"]["version"] == second
    bench.says(Standing(3, "other", Answer(second, *answer)), "NDATA")
    assert bench.look(7200) == [NOW_MS, second]


def test_a_trial_that_a_power_cut_ended_is_tried_once_more(bench: Bench) -> None:
    """Under a higher number, and not for ever: it may be the version that ends the gateway."""
    bench.says(Standing(3, "other"))
    assert bench.look() == [NOW_MS]
    bench.says(Standing(3, "other", Answer(NOW_MS, Outcome.ROLLED_BACK, CUT_SHORT)))
    (_, second) = bench.look(AGAIN_FIRST_S)
    assert second > NOW_MS
    bench.says(Standing(3, "other", Answer(second, Outcome.ROLLED_BACK, CUT_SHORT)))
    assert bench.look(7200) == [NOW_MS, second]


def test_a_damaged_or_misunderstood_sending_is_repeated(bench: Bench) -> None:
    """The same version for a signature that did not hold, a newer one where the gateway has had a newer one."""
    bench.says(Standing(3, "other"))
    bench.look()
    bench.says(Standing(3, "other", Answer(NOW_MS, Outcome.REFUSED, "signature: no")), "NDATA")
    assert bench.look(AGAIN_FIRST_S) == [NOW_MS] * 2
    bench.says(Standing(3, "other", Answer(0, Outcome.REFUSED, "damaged: no")), "NDATA")
    assert bench.look(2 * AGAIN_FIRST_S) == [NOW_MS] * 3
    bench.says(Standing(3, "other", Answer(NOW_MS, Outcome.REFUSED, "old version: no")), "NDATA")
    assert bench.look(4 * AGAIN_FIRST_S)[-1] > NOW_MS


def test_versions_go_up_whatever_the_clock_says(bench: Bench) -> None:
    """A gateway that has had a version of the future, and a file that says so, get a higher one."""
    far = NOW_MS * 2
    bench.says(Standing(far, "other"))
    assert bench.look() == [far + 1]
    IssuedFile.open(bench.folder).note("gw", Issued(far + 9, "another"))
    bench.start()
    assert bench.look(AGAIN_FIRST_S) == [far + 1, far + 10]


def test_what_a_gateway_says_outlives_a_restart(bench: Bench) -> None:
    """The live view is taken back with it; a snapshot of before had none; nonsense is none."""
    standing = Standing(3, "other", Answer(3, Outcome.APPLIED))
    bench.says(standing)
    held = bench.live.known()
    assert restored(bench, held) == standing
    held.gateways[:] = [row[:6] for row in held.gateways]
    assert restored(bench, held) is None
    message = bench.node.nbirth(0, 1, NOW_MS, standing="nonsense")
    bench.live.hear(bench.feed(message.topic, message.payload), NOW_MS)
    assert restored(bench, bench.live.known()) is None


def restored(bench: Bench, held: Known) -> Standing | None:
    """Where the gateway stands by what a restart takes back."""
    again = LiveView(PointTable(bench.plant, StrangerSettings()))
    again.restore(held)
    return again.gateways["site", "gw"].standing


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    """Mode 0600 from its first moment; a second start signs with the same; the public one lies beside it again."""
    first = signing_key(tmp_path)(b"x")
    private = tmp_path / "cloud.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    public = (tmp_path / KEY_FILE).read_bytes()
    (tmp_path / KEY_FILE).unlink()
    assert signing_key(tmp_path)(b"x") == first
    assert (tmp_path / KEY_FILE).read_bytes() == public


@pytest.mark.parametrize("content", [b"", b"no key", "other"])
def test_a_key_that_is_none_is_not_replaced(tmp_path: Path, content: bytes | str) -> None:
    """Another one would be one that no gateway trusts: the cloud side does not start."""
    if content == "other":
        made: Any = generate_private_key(SECP256R1())
        content = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert isinstance(content, bytes)
    (tmp_path / "cloud.key").write_bytes(content)
    with pytest.raises(KeyFileError, match=r"cloud\.key"):
        signing_key(tmp_path)
    assert (tmp_path / "cloud.key").read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "gateways": {"gw": {"x": 1}}}']
)
def test_a_file_of_versions_that_cannot_be_read_is_not_passed_over(tmp_path: Path, content: bytes) -> None:
    """To begin anew could give out a version twice."""
    (tmp_path / "slices.json").write_bytes(content)
    with pytest.raises(IssuedError, match=r"slices\.json"):
        IssuedFile.open(tmp_path)
