"""Our own certificate authority (X.509, ECDSA on P-256): made at the first use, it signs for gateways and servers."""

import fcntl
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tocsin_cloud.adapters.whole_file import write_whole

CA_FILE: Final = "ca.pem"
CA_KEY: Final = "ca.key"
# A box without a battery for its clock starts years behind: what it has to believe must be valid by then already. Nor
# shall what was made by a clock that was ahead wait for its time to come.
SINCE_EVER: Final = datetime(2020, 1, 1, tzinfo=UTC)
CA_YEARS: Final = 30
YEAR: Final = timedelta(days=365)


class AuthorityError(OSError):
    """The authority's files are there and cannot be used; another authority would be one that no gateway trusts."""


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes
    serial: str
    not_after: datetime


class Authority:
    """The authority in a folder: it signs, and keeps no list of what it signed."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        """Use `open`."""
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the authority in `folder`, made if there is none; its key is for the owner alone.

        Raises:
            AuthorityError: its files cannot be used.
            OSError: they cannot be read or made.
        """
        if not (folder / CA_FILE).exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (folder / f"{CA_FILE}.lock").open("a") as lock:
                # Two first uses at once would mix two pairs of keys, which nothing could open ever after.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (folder / CA_FILE).exists():
                    _make(folder)
        try:
            certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
            key = load_pem_private_key((folder / CA_KEY).read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise AuthorityError(f"{folder}: {CA_FILE} or {CA_KEY} is no PEM") from error
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise AuthorityError(f"{folder}: {CA_KEY} is not the key of {CA_FILE}")
        return cls(certificate, key)

    def client(self, name: str, uri: str, serial: int, now: datetime, valid: timedelta) -> Made:
        """Sign for a client that is known by `uri`, until `valid` after `now`."""
        subject = _name(name)
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        return self._signed(subject, alternative, [ExtendedKeyUsageOID.CLIENT_AUTH], serial, now + valid)

    def server(self, hosts: Iterable[str], now: datetime, valid: timedelta) -> Made:
        """Sign for a server that is reached by `hosts` (names or addresses), which also calls its neighbours."""
        names = list(dict.fromkeys(hosts))
        alternative = x509.SubjectAlternativeName([_host(each) for each in names])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._signed(_name(names[0]), alternative, uses, new_serial(), now + valid)

    def _signed(
        self,
        subject: x509.Name,
        alternative: x509.SubjectAlternativeName,
        uses: list[x509.ObjectIdentifier],
        serial: int,
        end: datetime,
    ) -> Made:
        key = generate_private_key(SECP256R1())
        issuer = self._certificate
        end = min(end, issuer.not_valid_after_utc)
        signed = (
            x509.CertificateBuilder(issuer.subject, subject, key.public_key(), serial, SINCE_EVER, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(alternative, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_issued_by(issuer), critical=False)
            .sign(self._key, SHA256())
        )
        return Made(signed.public_bytes(Encoding.PEM), _pem(key), f"{serial:x}", end)


def new_serial() -> int:
    """A serial number that nobody can guess (RFC 5280, 4.1.2.2: positive, at most 20 octets)."""
    return x509.random_serial_number()


def ends_at(certificate: Path) -> datetime:
    """When a certificate in a PEM file ends.

    Raises:
        AuthorityError: it is no certificate.
        OSError: it cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError as error:
        raise AuthorityError(f"{certificate}: no certificate in PEM") from error


def _make(folder: Path) -> None:
    key = generate_private_key(SECP256R1())
    subject = _name(f"Tocsin {os.urandom(4).hex()}")
    end = SINCE_EVER + CA_YEARS * YEAR
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), new_serial(), SINCE_EVER, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    # The certificate comes last: where it lies, the authority is whole.
    write_whole(folder / CA_KEY, _pem(key))
    write_whole(folder / CA_FILE, certificate.public_bytes(Encoding.PEM))


def _usage(*, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    held = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(held)


def _name(common: str) -> x509.Name:
    # RFC 5280, upper bounds: a common name has at most 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
