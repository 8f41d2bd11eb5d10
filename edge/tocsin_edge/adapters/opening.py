"""A sealed slice opened whole, its signature first: what that takes is imported here, and only by who opens one."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tocsin_core.managed import Offer, OfferError, Refusal, unseal
from tocsin_core.plant import PlantError
from tocsin_core.plant.slice import hash_of, load_slice
from tocsin_edge.settings import EdgeSettings, compile_settings, folder_of


class Here(NamedTuple):
    """Which gateway this is, where it keeps its files, and where its broker is if the plant file is not to say."""

    site: str
    gateway: str
    data: Path
    uplink: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A slice that holds: its version, its hash, and the settings under it."""

    version: int
    hash: str
    settings: EdgeSettings


@dataclass(frozen=True, slots=True)
class Refused:
    """A slice that does not: as `OfferError`, and as a value, for it comes from another process."""

    refusal: Refusal
    detail: str
    version: int

    def error(self) -> OfferError:
        """The same as an error."""
        return OfferError(self.refusal, self.detail, self.version)


def hold_key(here: Here) -> None:
    """Look whether the key that is pinned in the gateway's folder is one.

    Raises:
        TrustError: it is none.
    """
    from tocsin_edge.adapters.trust import read_key  # noqa: PLC0415 -- 10 MB

    read_key(folder_of(here.data, here.gateway))


def open_sealed(sealed: bytes, here: Here, newest: int) -> Opened | Refused:
    """Open a sealed slice that is to be newer than version `newest`.

    Raises:
        TrustError: the pinned key is none.
    """
    from tocsin_edge.adapters.trust import read_key  # noqa: PLC0415 -- 10 MB

    verify = read_key(folder_of(here.data, here.gateway))
    try:
        offer = unseal(sealed, verify, here.site, here.gateway)
        return _opened(offer, here, newest)
    except OfferError as error:
        return Refused(error.refusal, error.detail, error.version)


def _opened(offer: Offer, here: Here, newest: int) -> Opened:
    version = offer.version
    if version <= newest:
        raise OfferError(Refusal.OLD, f"version {version} is not newer than {newest}", version)
    try:
        plant = load_slice(offer.data)
        settings = compile_settings(plant, here.gateway, here.data, here.uplink)
    except PlantError as error:
        more = len(error.problems) - 1
        detail = f"{error.problems[0]}" + (f" and {more} more" if more else "")
        raise OfferError(Refusal.INVALID, detail, version) from error
    except ValueError as error:
        raise OfferError(Refusal.INVALID, str(error), version) from error
    if settings.site != here.site:
        raise OfferError(Refusal.NOT_MINE, f"the plant in it is {settings.site}", version)
    return Opened(version, hash_of(offer.data), settings)
