"""Where a value lies in a JSON payload: the small syntax of paths, and the way along one."""

import re
from typing import Final

# A text is a key (or, of digits only, a place in a list where there is one); a number is a place in a list.
Path = tuple[str | int, ...]

MISSING: Final = object()
MOST_STEPS: Final = 32
_KEY: Final = re.compile(r"[^.\[\]\"']+")
_INDEX: Final = re.compile(r"\[(-?\d{1,6})\]")
_QUOTED: Final = re.compile(r"\[(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)')\]")


class PathError(ValueError):
    """A text that is no path; the message says where and why."""


def parse_path(text: str) -> Path:
    r"""Read a path: keys with dots between, `[0]` a place in a list, `["a.b"]` a key with signs of its own.

    `[-1]` is the last place; in quotes `\` stands before a quote or another `\`. A key of digits (`a.0`) is also a
    place, where it meets a list. The empty text is the payload itself.

    Raises:
        PathError: the text is none of this.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        if text[at] == "[":
            step, at = _bracket(text, at)
        else:
            step, at = _key(text, at, first=not steps)
        steps.append(step)
    if len(steps) > MOST_STEPS:
        raise PathError(f"more than {MOST_STEPS} steps")
    return tuple(steps)


def _bracket(text: str, at: int) -> tuple[str | int, int]:
    index = _INDEX.match(text, at)
    if index is not None:
        return int(index[1]), index.end()
    quoted = _QUOTED.match(text, at)
    if quoted is None:
        raise PathError(f"sign {at + 1}: in brackets stands a whole number or a key in quotes")
    return re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2]), quoted.end()


def _key(text: str, at: int, *, first: bool) -> tuple[str, int]:
    start = at
    if not first:
        if text[at] != ".":
            raise PathError(f"sign {at + 1}: a dot or a bracket has to stand here")
        start += 1
    key = _KEY.match(text, start)
    if key is None:
        raise PathError(f'sign {start + 1}: a key has to stand here; one with dots or brackets as ["…"]')
    return key[0], key.end()


def find(content: object, path: Path) -> object:
    """Give what lies at `path` of decoded JSON, or MISSING."""
    for step in path:
        if isinstance(content, dict):
            content = content.get(step, MISSING) if isinstance(step, str) else MISSING
        elif isinstance(content, list):
            place = step if isinstance(step, int) else int(step) if _is_place(step) else len(content)
            content = content[place] if -len(content) <= place < len(content) else MISSING
        else:
            return MISSING
    return content


def _is_place(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) <= len("999999")
