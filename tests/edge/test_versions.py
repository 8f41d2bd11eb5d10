"""Holds the files of a managed gateway to their promises: which version is good, whatever was cut short."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tocsin_core.managed import KEY_FILE
from tocsin_edge.adapters.trust import TrustError, read_key
from tocsin_edge.adapters.versions import KEPT, Versions


def good(versions: Versions, *numbers: int) -> None:
    """Keep and confirm versions."""
    for number in numbers:
        versions.keep(number, b"%d" % number)
        versions.confirm(number)


def test_ten_good_versions_are_kept_and_the_newest_number_for_ever(tmp_path: Path) -> None:
    """Old good ones go, old rolled-back ones go, and the highest number that ever came is known over a restart."""
    versions = Versions(tmp_path)
    assert (versions.newest(), versions.good(), versions.on_trial()) == (0, [], [])
    good(versions, *range(1, 15))
    assert versions.good() == list(range(14, 4, -1))
    assert versions.read(14) == b"14"
    for number in range(15, 30):
        versions.keep(number, b"x")
        versions.reject(number, f"reason {number}")
    again = Versions(tmp_path)
    assert (again.newest(), again.good(), again.on_trial()) == (29, list(range(14, 4, -1)), [])
    assert (again.rolled_back(29), again.rolled_back(15)) == ("reason 29", None)
    assert len(list((tmp_path / "slices").iterdir())) == 2 * KEPT


def test_a_u64_is_held(tmp_path: Path) -> None:
    """The highest number that there is sorts above all others."""
    versions = Versions(tmp_path)
    good(versions, 9, 2**64 - 1, 10)
    assert versions.good() == [2**64 - 1, 10, 9]


@pytest.mark.parametrize("step", ["replace", "unlink", "fsync"])
@pytest.mark.parametrize("at", range(4))
def test_cut_short_anywhere_a_version_is_on_trial_or_what_it_became(
    step: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails at each step in turn: a good version is good before and after, and no trial becomes good alone."""
    versions = Versions(tmp_path)
    good(versions, *range(1, KEPT + 1))
    calls = 0

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls > at:
                raise OSError(errno.EIO, "the disk fails")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        target = os if step == "fsync" else Path
        patch.setattr(target, step, failing(getattr(target, step)))
        try:
            versions.keep(11, b"11")
            versions.confirm(11)
            done = True
        except OSError:
            done = False
    after = Versions(tmp_path)
    assert set(range(2, KEPT + 1)) <= set(after.good())
    assert (11 in after.good()) <= (done or step == "fsync")
    for number in after.on_trial():
        after.reject(number, "cut short")
    assert after.on_trial() == []
    if not done and 11 in after.good():
        after.reject(11, "cut short")
        assert 11 not in after.good()


def test_a_key_file_that_holds_no_key_is_not_passed_over(tmp_path: Path) -> None:
    """Garbage, a key of another kind, a folder in its place: each is refused with the file's name."""
    path = tmp_path / KEY_FILE
    other = generate_private_key(SECP256R1()).public_key()
    for content in (b"", b"no key", other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        path.write_bytes(content)
        with pytest.raises(TrustError, match=str(path)):
            read_key(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TrustError, match=str(path)):
        read_key(tmp_path)


def test_the_pinned_key_tells_its_own_signatures(tmp_path: Path) -> None:
    """A signature of the key holds, over these bytes alone; another key's does not."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (tmp_path / KEY_FILE).write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    verify = read_key(tmp_path)
    assert verify(key.sign(b"bytes"), b"bytes")
    assert not verify(key.sign(b"bytes"), b"other")
    assert not verify(other.sign(b"bytes"), b"bytes")
    assert not verify(b"", b"bytes")


def test_why_a_version_was_rolled_back_may_be_damaged(tmp_path: Path) -> None:
    """That it was is known all the same, and the gateway starts."""
    versions = Versions(tmp_path)
    versions.keep(3, b"3")
    versions.reject(3, "because")
    (file,) = (tmp_path / "slices").iterdir()
    file.write_bytes(b"beca\xffuse")
    assert versions.rolled_back(3) == "beca\ufffduse"
    file.unlink()
    file.mkdir()
    assert (versions.rolled_back(3) or "").startswith("why is not known any more")
