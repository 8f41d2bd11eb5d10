"""The password of the host on a broker without certificates, whose STATE nobody else may tell: given, or kept there."""

import os
import secrets
from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.whole_file import write_whole

VARIABLE: Final = "TOCSIN_MQTT_PASSWORD"
FILE: Final = "host.password"


def given_or_kept(folder: Path) -> str | None:
    """The password that the environment gives, or that a broker in `folder` keeps; None where neither does.

    Raises:
        OSError: it cannot be read.
    """
    kept = folder / FILE
    return os.environ.get(VARIABLE) or (kept.read_text(encoding="utf-8") if kept.is_file() else None)


def given_or_made(folder: Path) -> str:
    """The same for the broker in `folder` itself, which makes one where there is none.

    Raises:
        OSError: it cannot be read or kept.
    """
    password = given_or_kept(folder)
    if password is None:
        password = secrets.token_urlsafe(24)
        write_whole(folder / FILE, password.encode())
    return password
