"""Which version of its slice each gateway was given last, kept in a file: no version is ever given out twice."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from tocsin_cloud.adapters.whole_file import write_whole

FILE: Final = "slices.json"
FORMAT: Final = 1


class IssuedError(OSError):
    """The file is there and says nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A version, and the hash of the slice that bears it."""

    version: int
    hash: str


class IssuedFile:
    """The file, and what is in it."""

    def __init__(self, path: Path, held: dict[str, Issued]) -> None:
        """Use `open`."""
        self._path = path
        self._held = held

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the file in `folder`; without one nothing was given out.

        Raises:
            IssuedError: it is something else.
            OSError: it cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return cls(path, {})
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise IssuedError(f"{path} is of format {content['format']}, not {FORMAT}")
            return cls(path, {gateway: Issued(**each) for gateway, each in content["gateways"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IssuedError(f"{path} tells no versions: {error!r}") from error

    def last(self, gateway: str) -> Issued | None:
        """What the gateway was given last."""
        return self._held.get(gateway)

    def note(self, gateway: str, issued: Issued) -> None:
        """Note what a gateway will be given, on disk before this returns.

        Raises:
            OSError: the disk does not take it; then it must not be given.
        """
        held = self._held | {gateway: issued}
        content = {"format": FORMAT, "gateways": {name: asdict(each) for name, each in held.items()}}
        write_whole(self._path, json.dumps(content, indent=1).encode())
        self._held = held
