"""What of the uplink belongs to the box and not to the plant file: certificates, and the host that it waits for."""

import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tocsin_edge.adapters.certificate_end import end_of

FILE_NAME: Final = "uplink.yaml"
NS_PER_S: Final = 1_000_000_000


class UplinkSettingsError(ValueError):
    """`uplink.yaml` is there and cannot be obeyed: connecting without it would be less than was asked for."""


class _AtOnce(ssl.SSLContext):
    """Shakes hands as soon as a socket is wrapped, and so closes it if that fails; the MQTT library leaves it open."""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401 - handed on as they come
        """Wrap a socket that is connected."""
        return super().wrap_socket(*args, **(kwargs | {"do_handshake_on_connect": True}))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class _Tls(_Strict):
    ca: str = Field(description="Certificate of the authority that signed the broker's.")
    certificate: str | None = Field(None, description="The gateway's own certificate with those between it and the CA.")
    key: str | None = Field(None, description="Its private key, without a password.")


class _File(_Strict):
    tls: _Tls | None = None
    primary_host: str | None = Field(None, pattern=r"^[^+#/\s]+$")


@dataclass(frozen=True, slots=True)
class Tls:
    """The PEM files of an encrypted uplink; `certificate` and `key` are what the gateway shows of itself."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Make the context from the files as they are now, so that a renewed certificate is used at the next connect.

        TLS 1.2 at least; the broker's certificate and its host name are checked.

        Raises:
            OSError: a file is missing, is no PEM, or certificate and key do not match.
        """
        context = _AtOnce(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(str(self.ca))
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate), None if self.key is None else str(self.key))
        return context


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """`tls`: encrypt, and never connect without; `primary_host`: say nothing while that host is not online."""

    tls: Tls | None = None
    primary_host: str | None = None

    def ended(self, now_ns: int) -> str:
        """Say when the gateway's own certificate ended, if it has by a clock of `now_ns`; else nothing.

        Whom a broker lets in no more it does not tell why: to the gateway that looks like a link that is lost.
        """
        shown = None if self.tls is None else self.tls.certificate
        try:
            end = None if shown is None else end_of(shown)
        except (OSError, ValueError):
            # That it cannot be used shows where it is to be used.
            return ""
        if end is None or now_ns < round(end.timestamp()) * NS_PER_S:
            return ""
        return f"the gateway's certificate ended at {end:%Y-%m-%d %H:%M} UTC"

    def client_id(self, site: str, gateway: str) -> str:
        """The MQTT client id of a gateway: the same at each connect, of characters that every broker takes.

        A broker ends the connection of whoever had the id before: with a certificate it comes of the secret key, so
        that no other gateway can guess it.

        Raises:
            OSError: the key cannot be read.
        """
        held = None if self.tls is None else self.tls.key or self.tls.certificate
        secret = b"" if held is None else held.read_bytes()
        mark = hashlib.blake2s(f"{site}/{gateway}".encode(), key=hashlib.sha256(secret).digest(), digest_size=8)
        return f"{re.sub('[^A-Za-z0-9]', '-', f'{site}-{gateway}')}-{mark.hexdigest()}"


def read_uplink_settings(folder: Path) -> UplinkSettings:
    """Read `uplink.yaml` of a gateway's data folder, the paths in it relative to the folder; without one all is plain.

    Raises:
        UplinkSettingsError: the file does not say what it may say, or a file that it names cannot be used.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return UplinkSettings()
    from ruamel.yaml import YAML  # noqa: PLC0415 -- what most gateways do without
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        # Without round trips there is nothing to keep but the values.
        held = _File.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {})
        found = held.tls
        tls = None if found is None else Tls(folder / found.ca, _in(folder, found.certificate), _in(folder, found.key))
        if tls is not None:
            tls.context()
    except ValidationError as error:
        first = error.errors()[0]
        raise UplinkSettingsError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UplinkSettingsError(f"{path}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UplinkSettingsError(f"{path}: a certificate or key cannot be used: {error}") from error
    return UplinkSettings(tls, held.primary_host)


def _in(folder: Path, name: str | None) -> Path | None:
    return None if name is None else folder / name
