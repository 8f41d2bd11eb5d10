"""The key with which the cloud side signs what it sends to gateways: made at the first start, Ed25519 (RFC 8032)."""

from pathlib import Path
from typing import Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_core.managed import KEY_FILE, Sign

PRIVATE_FILE: Final = "cloud.key"

log = structlog.get_logger()


class KeyFileError(OSError):
    """The key is there and cannot be used; another one would be one that no gateway trusts."""


def signing_key(folder: Path) -> Sign:
    """Open the private key in `folder`, made if there is none; beside it lies the public one, for the gateways.

    Raises:
        KeyFileError: the file holds no Ed25519 private key.
        OSError: the files cannot be read or made.
    """
    path = folder / PRIVATE_FILE
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        write_whole(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        log.info("key made for signing what gateways are sent", public=str(folder / KEY_FILE))
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key")
    public = folder / KEY_FILE
    written = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not public.exists() or public.read_bytes() != written:
        write_whole(public, written)
    return key.sign
