"""What the engine says lay behind a raising: taken apart, and told in Chinese and English."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tocsin_core.plant import Text
from tocsin_core.plant.fields import name_of

_FIRST_OUT: Final = "first out of "
_VOTE: Final = re.compile(r"\d+oo\d+")
_SHARE: Final = re.compile(r"(\S+)(?: (\d+) %)?")


@dataclass(frozen=True, slots=True)
class Contribution:
    """A point that brought a computed one over its limit; `percent` of all, None where only the farthest is named."""

    point: str
    percent: int | None


@dataclass(frozen=True, slots=True)
class Because:
    """What lay behind a raising: groups (ids) in which it came first, a degraded vote, points that contribute most."""

    first_out: tuple[str, ...] = ()
    vote: str | None = None
    contributions: tuple[Contribution, ...] = ()


def because(reason: str | None) -> Because | None:
    """What `reason`, the engine's words of a raising, says; None where it says nothing of that kind."""
    first_out: list[str] = []
    vote: str | None = None
    contributions: list[Contribution] = []
    for part in filter(None, (reason or "").split("; ")):
        shares = [_SHARE.fullmatch(each) for each in part.split(", ")]
        if part.startswith(_FIRST_OUT):
            first_out.append(part.removeprefix(_FIRST_OUT))
        elif _VOTE.fullmatch(part):
            vote = part
        elif all(shares):
            found = [each.groups() for each in shares if each is not None]
            contributions += [Contribution(point, None if of is None else int(of)) for point, of in found]
    told = Because(tuple(first_out), vote, tuple(contributions))
    return None if told == Because() else told


def with_reasons(message: Text, told: Because | None, groups: Mapping[str, Text]) -> Text:
    """`message` with what lay behind it in brackets; `groups` are the names of first-out groups by id."""
    if told is None:
        return message
    parts: list[Text] = []
    if told.first_out:
        names = [groups.get(each) or name_of(each, each) for each in told.first_out]
        zh, en = "、".join(name.zh for name in names), ", ".join(name.en for name in names)
        parts.append(name_of(f"首出：{zh}", f"first out: {en}"))
    if told.vote is not None:
        parts.append(name_of(f"表决降级为 {told.vote}", f"vote degraded to {told.vote}"))
    shared = [each for each in told.contributions if each.percent is not None]
    alone = [each.point for each in told.contributions if each.percent is None]
    if shared:
        points = [f"{each.point} {each.percent} %" for each in shared]
        parts.append(name_of(f"主要贡献测点：{'、'.join(points)}", f"contributions: {', '.join(points)}"))
    if alone:
        parts.append(name_of(f"偏离最大的测点：{'、'.join(alone)}", f"farthest off: {', '.join(alone)}"))
    zh, en = "；".join(part.zh for part in parts), "; ".join(part.en for part in parts)
    return name_of(f"{message.zh}（{zh}）", f"{message.en} ({en})")
