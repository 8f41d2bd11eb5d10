"""`tocsin gateway enroll|renew|revoke|list`: the certificates of gateways, on the cloud side's machine."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from tocsin_cli.cloud_data import Data, Json, known_authority, note
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.authority import CA_FILE, Made
from tocsin_cloud.adapters.enrolment import WARN_BEFORE, Certificate, Enrolment, EnrolmentError, moment
from tocsin_cloud.adapters.signing import signing_key
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.settings import AUTHORITY, ENROLLED
from tocsin_core.clock import SystemClock
from tocsin_core.managed import KEY_FILE
from tocsin_core.plant import load_plant

T = TypeVar("T")
VALID_DAYS: Final = 730
OVERLAP_DAYS: Final = 30
CERTIFICATE_FILE: Final = "gateway.pem"
UPLINK: Final = f"tls: {{ca: {CA_FILE}, certificate: {CERTIFICATE_FILE}}}\n"

PlantFolder = Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)]
Which = Annotated[str, typer.Option(help="The gateway, by its id in the plant file.")]
Days = Annotated[int, typer.Option(min=1, help="For how long the certificate is valid.")]
Out = Annotated[Path | None, typer.Option(help="Folder for what the gateway's box gets; DATA/enrolled/ID if left out.")]


def enroll(
    plant: PlantFolder,
    gateway: Which,
    data: Data = Path("var"),
    *,
    days: Days = VALID_DAYS,
    out: Out = None,
    managed: Annotated[
        bool, typer.Option("--managed", help="Also the key by which it takes its plant file from the cloud side.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Issue a gateway's certificate, and put all that its box needs into one folder."""
    site, folder, now = _site(plant, gateway), out or data / ENROLLED / gateway, _now()
    made = _doing(data, lambda held: _written(held.enroll(site, gateway, now, timedelta(days=days)), data, folder))
    write_whole(folder / "uplink.yaml", UPLINK.encode())
    if managed:
        signing_key(data)
        shutil.copyfile(data / KEY_FILE, folder / KEY_FILE)
    _note(data, "enroll", gateway, made.serial)
    _say(gateway, made, folder, as_json=as_json)


def renew(
    plant: PlantFolder,
    gateway: Which,
    data: Data = Path("var"),
    *,
    days: Days = VALID_DAYS,
    overlap: Annotated[int, typer.Option(min=0, help="For so many days the old one counts too.")] = OVERLAP_DAYS,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Issue a gateway's next certificate; the old one counts for a while yet, so that it never has none."""
    known_authority(data)
    site, folder, now = _site(plant, gateway), out or data / ENROLLED / gateway, _now()
    valid, both = timedelta(days=days), timedelta(days=overlap)
    made = _doing(data, lambda held: _written(held.renew(site, gateway, now, valid, both), data, folder))
    _note(data, "renew", gateway, made.serial)
    _say(gateway, made, folder, as_json=as_json)


def revoke(
    plant: PlantFolder,
    gateway: Which,
    data: Data = Path("var"),
    *,
    serial: Annotated[str | None, typer.Option(help="Only the certificate of this serial number.")] = None,
    as_json: Json = False,
) -> None:
    """Have a gateway's certificates count no longer; a connection that stands on one is ended."""
    known_authority(data)
    site, now = load_plant(plant).site.id, _now()
    gone = _doing(data, lambda held: held.revoke(site, gateway, serial, now))
    _note(data, "revoke", gateway, *(each.serial for each in gone))
    if as_json:
        typer.echo(json.dumps({"gateway": gateway, "revoked": [each.serial for each in gone]}))
    else:
        typer.echo(f"{gateway}: revoked {', '.join(each.serial for each in gone)}")


def list_certificates(data: Data = Path("var"), *, as_json: Json = False) -> None:
    """List the certificates of gateways, when they end, and which of them need renewing."""
    now = _now()
    rows = [(each, _state(each, now)) for each in _doing(data, Enrolment.certificates)]
    if as_json:
        found = [
            {"site": each.site, "gateway": each.gateway, "serial": each.serial, "ends": each.ends, "state": state}
            for each, state in rows
        ]
        typer.echo(json.dumps({"certificates": found}))
        return
    for each, state in rows:
        typer.echo(f"{each.site}/{each.gateway}  {each.serial}  until {each.end:%Y-%m-%d}  {state}")


def _state(certificate: Certificate, now: datetime) -> str:
    if certificate.revoked:
        return "revoked"
    if not certificate.counts(now):
        return "expired"
    return "ends soon" if certificate.end - now < WARN_BEFORE else "valid"


def _site(plant: Path, gateway: str) -> str:
    loaded = load_plant(plant)
    try:
        loaded.gateway(gateway)
    except KeyError as error:
        raise typer.BadParameter(f"the plant file has no gateway {gateway!r}") from error
    return loaded.site.id


def _written(made: Made, data: Path, folder: Path) -> Made:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / CERTIFICATE_FILE, made.certificate + made.key)
    write_whole(folder / CA_FILE, (data / AUTHORITY / CA_FILE).read_bytes())
    return made


def _doing(data: Path, work: Callable[[Enrolment], T]) -> T:
    try:
        return work(Enrolment(data / AUTHORITY))
    except (EnrolmentError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def _note(data: Path, verb: str, gateway: str, *serials: str) -> None:
    note(data, Deed(f"gateway.{verb}", gateway, Outcome.DONE, {"serial": ", ".join(serials)}))


def _say(gateway: str, made: Made, folder: Path, *, as_json: bool) -> None:
    if as_json:
        told = {"gateway": gateway, "serial": made.serial, "ends": made.not_after.isoformat(), "folder": str(folder)}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo(f"{gateway}: certificate {made.serial} until {made.not_after:%Y-%m-%d}; copy {folder} to its box")


def _now() -> datetime:
    return moment(SystemClock().now_ns())
