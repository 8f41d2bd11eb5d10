"""Whom a gateway trusts: the cloud side's public key, put into its folder by hand (Ed25519, PEM)."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tocsin_core.managed import KEY_FILE, Verify


class TrustError(ValueError):
    """There is a key file and it holds no key: to go on as if there were none would be less than was asked for."""


def read_key(folder: Path) -> Verify:
    """Read the key that is pinned in a gateway's folder; gives the function that tells its signatures.

    Raises:
        TrustError: the file cannot be read, or holds no Ed25519 public key.
    """
    path = folder / KEY_FILE
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise TrustError(f"{path}: {error.strerror or error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path}: no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(f"{path}: not an Ed25519 key")

    def verify(signature: bytes, content: bytes) -> bool:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    return verify
