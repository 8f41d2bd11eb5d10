"""When a certificate ends, read from its bytes: the library that knows all of them takes 10 MB."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# X.690: of which kind a field is (identifier octets).
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17


def end_of(file: Path) -> datetime:
    """Tell when the first certificate in a PEM file ends (RFC 5280, 4.1.2.5).

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no certificate in it.
    """
    text = file.read_text(encoding="ascii", errors="replace")
    begin, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    try:
        (_, certificate), *_ = _fields(ssl.PEM_cert_to_DER_cert(text[begin:end]))
        (_, signed), *_ = _fields(certificate)
        # Version, which may be left out, serial number, algorithm, issuer, validity.
        fields = [body for kind, body in _fields(signed) if kind != VERSION]
        _, (kind, until) = _fields(fields[3])
    except IndexError as error:
        raise ValueError(f"no certificate: {file}") from error
    # UTCTime has two digits of the year, and is for those before 2050.
    form = "%y%m%d%H%M%SZ" if kind == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(until.decode("ascii", errors="replace"), form).replace(tzinfo=UTC)


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each field of a sequence's content."""
    at = 0
    while at < len(der):
        kind, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        yield kind, der[at : at + length]
        at += length
