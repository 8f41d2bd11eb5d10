"""The chain of the audit log: what an entry says, the bytes that are hashed, and what is wrong with a link."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, NamedTuple

LONGEST_TEXT: Final = 4000
GENESIS: Final = "0" * 64
"""What stands before the first entry in place of a hash."""


class Outcome(StrEnum):
    """How a command ended. A command to the alarms worker has two entries: `asked`, and what became of it."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who commands: user, role, and where from (an address, or the command line of this machine)."""

    who: str
    role: str
    origin: str


SYSTEM: Final = Actor("tocsin", "", "")


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done, or tried: `action` upon `target`; `detail` is whatever else must be known later."""

    action: str
    target: str
    outcome: Outcome
    detail: Mapping[str, str | int]


class Link(NamedTuple):
    """A place in the chain: the number of an entry, and its hash."""

    seq: int
    hash: str


START: Final = Link(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log, as it is kept; `detail` is the text of a JSON object; `previous` is the hash before it."""

    seq: int
    at_ns: int
    who: str
    role: str
    origin: str
    action: str
    target: str
    outcome: str
    detail: str
    previous: str

    def digest(self, seq: int | None = None) -> str:
        """Return the SHA-256 of the entry's canonical bytes, as it would be at place `seq`; its own if left out.

        The bytes are a JSON array of all fields in the order of this class, in UTF-8 without white space.
        """
        values = [
            self.seq if seq is None else seq, self.at_ns, self.who, self.role, self.origin, self.action, self.target,
            self.outcome, self.detail, self.previous,
        ]  # fmt: skip
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        # Where somebody put bytes that are no UTF-8 into a text, surrogates stand for them.
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def following(last: Link, at_ns: int, actor: Actor, deed: Deed) -> tuple[Entry, Link]:
    """Return the entry that follows `last`, and its link."""
    entry = Entry(
        seq=last.seq + 1,
        at_ns=at_ns,
        who=_kept(actor.who),
        role=_kept(actor.role),
        origin=_kept(actor.origin),
        action=deed.action,
        target=_kept(deed.target),
        outcome=str(deed.outcome),
        detail=json.dumps({key: _value(value) for key, value in deed.detail.items()}, ensure_ascii=False),
        previous=last.hash,
    )
    return entry, Link(entry.seq, entry.digest())


def _value(value: str | int) -> str | int:
    return _kept(value) if isinstance(value, str) else value


def _kept(text: str) -> str:
    # Strangers choose some of these texts: what no database or encoding takes must not keep an entry out of the log.
    return text[:LONGEST_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class BreakKind(StrEnum):
    """What happened to a chain that does not hold."""

    ALTERED = "altered"
    REPLACED = "replaced"
    MISSING = "missing"
    MOVED = "moved"
    TRUNCATED = "truncated"
    FOREIGN = "foreign"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Break:
    """The first place at which the chain does not hold, by the number of the entry, and what to say of it."""

    kind: BreakKind
    seq: int
    told: str


def _misfit(entry: Entry, hashed: str) -> str | None:
    """What is not of the type that the log's own way gives it; SQLite keeps anything in any column."""
    kept = {field.name: (getattr(entry, field.name), field.type) for field in fields(entry) if field.name != "seq"}
    return next((name for name, (value, of) in {**kept, "hash": (hashed, str)}.items() if type(value) is not of), None)


def is_whole(entry: Entry, hashed: str) -> bool:
    """Whether `entry`, kept with the hash `hashed`, is what was written; a walk shows whether it is in its place."""
    return type(entry.seq) is int and _misfit(entry, hashed) is None and entry.digest() == hashed


def flaw(last: Link, entry: Entry, hashed: str) -> Break | None:
    """Return what is wrong with `entry`, kept with the hash `hashed`, as the one that follows `last`."""
    if type(entry.seq) is not int:
        told = f"what stands behind entry {last.seq} has {entry.seq!r} in place of a number"
        return Break(BreakKind.FOREIGN, last.seq + 1, told)
    if entry.seq <= START.seq:
        told = f"entry {entry.seq} stands before the first: it did not come in by the log's own way"
        return Break(BreakKind.FOREIGN, entry.seq, told)
    if entry.seq != last.seq + 1:
        gone = (
            f"entry {last.seq + 1} is"
            if entry.seq == last.seq + 2
            else f"entries {last.seq + 1} to {entry.seq - 1} are"
        )
        return Break(BreakKind.MISSING, last.seq + 1, f"{gone} missing before entry {entry.seq}")
    misfit = _misfit(entry, hashed)
    if misfit is not None or entry.digest() != hashed:
        told = "not what its hash was made of" if misfit is None else f"altered: its {misfit} is of another type"
        return Break(BreakKind.ALTERED, entry.seq, f"entry {entry.seq} is {told}")
    if entry.previous != last.hash:
        told = f"entry {entry.seq} was written after another entry {last.seq} than the one that stands there"
        return Break(BreakKind.REPLACED, last.seq, told)
    return None


def moved(last: Link, found: Entry, hashed: str) -> Break | None:
    """Say whether `found`, which stands elsewhere, is the entry that was written after `last`."""
    place = last.seq + 1
    elsewhere = found.seq != place and found.previous == last.hash and _misfit(found, hashed) is None
    if not elsewhere or found.digest(place) != hashed:
        return None
    return Break(BreakKind.MOVED, place, f"entry {place} stands at place {found.seq!r}: the order was changed")
