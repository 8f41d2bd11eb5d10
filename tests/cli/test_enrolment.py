"""`tocsin gateway enroll|renew|revoke|list` as an administrator runs it on the cloud side's machine."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.in_process import tocsin
from tests.cli.test_check import GOOD, plant
from tocsin_cloud.adapters.sql.engine import migrate, sqlite_url
from tocsin_cloud.settings import SQL_FILE
from tocsin_core.managed import KEY_FILE
from tocsin_edge.adapters.uplink_settings import read_uplink_settings


class Office:
    """The administrator's desk: a plant, a data folder, the command line."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        """Nobody is enrolled yet."""
        self.plant, self.data = plant(folder, GOOD), folder / "data"
        self._patch, self._capture = patch, capture

    def ask(self, verb: str, *words: str, gateway: str = "gw") -> Any:  # noqa: ANN401 -- whatever JSON is answered
        """Give an order about a gateway of the plant; what is answered, or the one line with which it is refused."""
        named = () if verb == "list" else (self.plant, "--gateway", gateway)
        code = tocsin(self._patch, "gateway", verb, *named, "--data", str(self.data), *words, "--json")
        told = self._capture.readouterr()
        if code:
            assert (code, told.out, told.err.count("\n")) == (2, "", 1)
            return told.err
        return json.loads(told.out.splitlines()[-1])

    def states(self) -> list[str]:
        """The state of each certificate, the oldest first."""
        return [each["state"] for each in self.ask("list")["certificates"]]


def test_a_certificate_from_its_issue_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the box gets can be used as it is and is for one reader; the list tells each state; revoking ends it."""
    office = Office(tmp_path, monkeypatch, capsys)
    assert "no certificate was ever issued" in office.ask("renew")
    assert "no gateway 'other'" in office.ask("enroll", gateway="other")
    first = office.ask("enroll", "--managed", "--days", "20")
    box = Path(first["folder"])
    assert {path.name for path in box.iterdir()} == {"ca.pem", "gateway.pem", "uplink.yaml", KEY_FILE}
    assert [path.stat().st_mode & 0o077 for path in (box, box / "gateway.pem")] == [0, 0]
    tls = read_uplink_settings(box).tls
    assert tls is not None
    assert (tls.ca, tls.certificate) == (box / "ca.pem", box / "gateway.pem")
    assert "is enrolled" in office.ask("enroll")
    assert office.states() == ["ends soon"]
    (box / "uplink.yaml").unlink()
    second = office.ask("renew")
    # What the box was told beside its certificate is its own business by now.
    assert not (box / "uplink.yaml").exists()
    assert office.states() == ["ends soon", "valid"]
    assert office.ask("revoke", "--serial", first["serial"]) == {"gateway": "gw", "revoked": [first["serial"]]}
    assert office.ask("revoke")["revoked"] == [second["serial"]]
    assert "no such certificate" in office.ask("revoke")
    assert "enroll it" in office.ask("renew")
    assert office.states() == ["revoked", "revoked"]
    assert (office.data / "authority" / "ca.key").stat().st_mode & 0o077 == 0


def test_what_was_issued_and_revoked_is_in_the_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with the serial numbers that it is about; what was refused is no deed."""
    office = Office(tmp_path, monkeypatch, capsys)
    office.data.mkdir()
    migrate(sqlite_url(office.data / SQL_FILE))
    first, second = office.ask("enroll")["serial"], office.ask("renew")["serial"]
    assert "is enrolled" in office.ask("enroll")
    office.ask("revoke")
    with closing(sqlite3.connect(office.data / SQL_FILE)) as tables:
        entries = tables.execute("SELECT action, target, origin, detail FROM audit ORDER BY seq").fetchall()
    told = [("enroll", first), ("renew", second), ("revoke", f"{first}, {second}")]
    assert [(*entry, json.loads(detail)) for *entry, detail in entries] == [
        (f"gateway.{verb}", "gw", "command line", {"serial": serials}) for verb, serials in told
    ]
