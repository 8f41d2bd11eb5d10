"""What others sent: JSON of any bytes, and text that can be written down, or a ValueError."""

import json
from typing import Any, Final

LONGEST_TEXT: Final = 4096
"""Characters; more than any form of the console or command of the gateway takes."""


def parsed(body: bytes | str) -> Any:  # noqa: ANN401 -- anything JSON has
    """The value that is written in `body`.

    Raises:
        ValueError: it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("no JSON: nested too deeply") from error


def is_writable(text: str) -> bool:
    """Whether `text` can be put on any disk and into any database: it is UTF-8, without NUL, and not endless."""
    return len(text) <= LONGEST_TEXT and "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)
