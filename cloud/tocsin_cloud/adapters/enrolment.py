"""Which certificates gateways were given and which of them still count: a file that the command line changes."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.authority import Authority, Made, new_serial
from tocsin_cloud.adapters.whole_file import write_whole

FILE: Final = "certificates.json"
FORMAT: Final = 1
WARN_BEFORE: Final = timedelta(days=30)
"""So long before its last certificate ends a gateway is shown as one to renew."""


class EnrolmentError(ValueError):
    """What is asked does not fit what was issued."""


class EnrolmentFileError(OSError):
    """The file is there and says nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a gateway; times are RFC 3339. From `ends` on it counts no longer, whatever it says itself."""

    site: str
    gateway: str
    serial: str
    issued: str
    not_after: str
    ends: str
    revoked: bool = False

    @property
    def user(self) -> str:
        """What the certificate calls itself in its alternative name, and whom the broker knows it as."""
        return identity(self.site, self.gateway, self.serial)

    @property
    def end(self) -> datetime:
        """When it counts no longer."""
        return datetime.fromisoformat(self.ends)

    def counts(self, now: datetime) -> bool:
        """Whether the broker lets it in at `now`."""
        return not self.revoked and now < self.end


def moment(now_ns: int) -> datetime:
    """The time as certificates count it: to the second."""
    return datetime.fromtimestamp(now_ns // 1_000_000_000, tz=UTC)


def identity(site: str, gateway: str, serial: str) -> str:
    """The URI by which a certificate names a gateway and itself: another one of the same gateway is another user."""
    return f"tocsin:{site}/{gateway}/{serial}"


class Enrolment:
    """The authority's folder as the command line and the cloud side see it."""

    def __init__(self, folder: Path) -> None:
        """Work in `folder`; nothing is read yet."""
        self._folder = folder

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / FILE

    def certificates(self) -> tuple[Certificate, ...]:
        """All that were ever issued, the oldest first.

        Raises:
            EnrolmentFileError: the file is something else.
            OSError: it cannot be read.
        """
        if not self.path.exists():
            return ()
        try:
            content = json.loads(self.path.read_bytes())
            if content["format"] != FORMAT:
                raise EnrolmentFileError(f"{self.path} is of format {content['format']}, not {FORMAT}")
            return tuple(Certificate(**each) for each in content["certificates"])
        except (ValueError, KeyError, TypeError) as error:
            raise EnrolmentFileError(f"{self.path} tells no certificates: {error!r}") from error

    def enroll(self, site: str, gateway: str, now: datetime, valid: timedelta) -> Made:
        """Issue the first certificate of a gateway.

        Raises:
            EnrolmentError: it has one that counts.
            OSError: the disk does not take it; then it counts nowhere.
        """

        def known(held: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
            if _of(held, site, gateway, now):
                raise EnrolmentError(f"{gateway} is enrolled: renew or revoke its certificate")
            return held

        return self._issue(site, gateway, now, valid, known)

    def renew(self, site: str, gateway: str, now: datetime, valid: timedelta, overlap: timedelta) -> Made:
        """Issue another certificate; those that counted do so for `overlap` yet, but not longer than they would have.

        Raises:
            EnrolmentError: it has none that counts.
            OSError: the disk does not take it; then it counts nowhere.
        """

        def overlapping(held: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
            ours = _of(held, site, gateway, now)
            if not ours:
                raise EnrolmentError(f"{gateway} has no certificate that counts: enroll it")
            return tuple(_ending(each, now + overlap) if each in ours else each for each in held)

        return self._issue(site, gateway, now, valid, overlapping)

    def revoke(self, site: str, gateway: str, serial: str | None, now: datetime) -> tuple[Certificate, ...]:
        """Have all certificates of a gateway, or the one of this serial number, count no longer; returns them.

        Raises:
            EnrolmentError: there is none that counts.
            OSError: the disk does not take it; then nothing is revoked.
        """
        with self._changing() as held:
            gone = [each for each in _of(held, site, gateway, now) if serial in (None, each.serial)]
            if not gone:
                raise EnrolmentError(f"{gateway} has no such certificate that counts")
            self._write(tuple(replace(each, revoked=True) if each in gone else each for each in held))
        return tuple(gone)

    def _issue(
        self,
        site: str,
        gateway: str,
        now: datetime,
        valid: timedelta,
        change: Callable[[tuple[Certificate, ...]], tuple[Certificate, ...]],
    ) -> Made:
        authority = Authority.open(self._folder)
        with self._changing() as held:
            changed = change(held)
            serial = new_serial()
            uri = identity(site, gateway, f"{serial:x}")
            made = authority.client(f"{site}/{gateway}", uri, serial, now, valid)
            end = made.not_after.isoformat()
            given = Certificate(site, gateway, made.serial, now.isoformat(), end, end)
            self._write((*changed, given))
        return made

    @contextmanager
    def _changing(self) -> Iterator[tuple[Certificate, ...]]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / f"{FILE}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.certificates()

    def _write(self, held: tuple[Certificate, ...]) -> None:
        content = {"format": FORMAT, "certificates": [asdict(each) for each in held]}
        write_whole(self.path, json.dumps(content, indent=1).encode())


def _of(held: tuple[Certificate, ...], site: str, gateway: str, now: datetime) -> list[Certificate]:
    return [each for each in held if (each.site, each.gateway) == (site, gateway) and each.counts(now)]


def _ending(certificate: Certificate, latest: datetime) -> Certificate:
    return replace(certificate, ends=min(certificate.end, latest).isoformat())
