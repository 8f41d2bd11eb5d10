"""`tocsin profile check` as a user runs it, and the page on device profiles as a user follows it."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.cli.command import started, tocsin
from tests.core.test_registers_profile import scenes_of
from tests.support.need import ROOT
from tocsin_core.registers import StatusQuality, Trust, parse_profile
from tocsin_core.registers.profile import (
    WORDS,
    IllegalRange,
    Invalid,
    Limits,
    Profile,
    RegisterValue,
    Repeat,
    StatusRule,
)

PAGE: Final = ROOT / "docs" / "profiles.md"
DEVICES: Final = ROOT / "firmware-configs" / "devices"
GOOD: Final = """\
vendor: test
model: test
trust: documented
source: this test
values:
  gas_{n}: {address: 2, type: f32, unit: ppm, repeat: {count: 3, step: 4}}
  state: {function: 4, address: 9999, type: u16}
status:
  - {value: state, bit: 5, quality: sensor-failure, affects: ["gas_{n}"]}
"""


def blocks() -> list[str]:
    """Return the fenced blocks of the page, without their fences."""
    return re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_a_sound_profile_is_shown(tmp_path: Path) -> None:
    """Addresses, printed numbers, types and units are there; repeated values take one line, and so do their rules."""
    file = tmp_path / "p.yaml"
    file.write_text(GOOD, encoding="utf-8")
    done = tocsin("profile", "check", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{file}: test test",
        "  documented: this test",
        "  limits: 125 registers or 2000 bits a request",
        "  value       fc  address  printed  type  order  unit  number  description",
        "  gas_{1..3}   3  2-11     40003    f32   ABCD   ppm",
        "  state        4  9999     310000   u16",
        "  sensor-failure when state has bit 5: gas_1",
        "  values 4, requests to read them all 2",
    ]


def test_every_mistake_has_file_and_line(tmp_path: Path) -> None:
    """All files are looked at, all mistakes told, and the exit code is 1."""
    broken, other = tmp_path / "broken.yaml", tmp_path / "other.yaml"
    broken.write_text(GOOD.replace("f32", "f31").replace("source", "sauce"), encoding="utf-8")
    other.write_bytes(b"\xff")
    done = tocsin("profile", "check", str(broken), str(other), str(DEVICES / "keller-33x.yaml"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"{broken}:1: source: is missing"
    assert lines[1] == f"{broken}:4: sauce: unknown key: is it source?"
    assert lines[2].startswith(f"{broken}:6: values.gas_{{n}}.type: should be 'bool', 'u16'")
    assert lines[3] == f"{other}:1: not UTF-8: invalid start byte at byte 0"
    assert lines[4] == f"{DEVICES / 'keller-33x.yaml'}: Keller 33X / 35X (series 30)"


def test_what_no_register_can_hold_is_told(tmp_path: Path) -> None:
    """A bit or a code that never comes is a failed instrument read as good; 0x8000 of a signed register does come."""
    file = tmp_path / "p.yaml"
    rules = (
        "  - {value: state, bit: 16, quality: bad, affects: [t]}",
        "  - {value: state, bit: 15, quality: bad, affects: [t]}",
        "  - {value: state, is_in: [70000, 65535], quality: bad, affects: [t]}",
        "  - {value: state, mask: 0xF0, is_in: [0x10, 0x01], quality: bad, affects: [t]}",
    )
    more = "  t: {address: 0, type: s16, invalid: {raw: [0x8000, -32768, 65536]}}\n"
    file.write_text(GOOD.replace("status:", f"{more}status:") + "\n".join(rules) + "\n", encoding="utf-8")
    told = [line for line in tocsin("profile", "check", str(file)).stdout.splitlines() if "never" in line]
    never = ["t is 65536", "state has bit 16", "state is 70000", "state & 0xF0 is 1"]
    assert told == [f"  never: {what}" for what in never]
    (profile,) = json.loads(tocsin("profile", "check", str(file), "--json").stdout.splitlines()[-1])["profiles"]
    assert profile["never"] == never


def test_what_a_register_of_any_form_can_hold_is_not_told(tmp_path: Path) -> None:
    """The largest of each form is a code that may come, the one after it is not; of a float any may."""
    file = tmp_path / "p.yaml"
    more = (
        "  b: {address: 20, type: bcd16, invalid: {raw: [9999, 10000, -1]}}\n"
        "  p: {address: 21, type: u16, bits: [0, 7], invalid: {raw: [255, 256]}}\n"
        "  f: {address: 22, type: f32, invalid: {raw: [99999999999]}}\n"
        "  o: {function: 1, address: 24, type: bool}\n"
    )
    rules = "  - {value: o, is_in: [1, 2], quality: bad, affects: [b]}\n"
    file.write_text(GOOD.replace("status:", f"{more}status:") + rules, encoding="utf-8")
    done = tocsin("profile", "check", str(file))
    told = [line for line in done.stdout.splitlines() if "never" in line]
    assert told == [f"  never: {what}" for what in ("b is 10000", "b is -1", "p is 256", "o is 2")], done.stdout


def test_the_result_is_one_object(tmp_path: Path) -> None:
    """With --json the last line says the same to a program."""
    file = tmp_path / "p.yaml"
    file.write_text(GOOD, encoding="utf-8")
    broken = tmp_path / "broken.yaml"
    broken.write_text(GOOD.replace("f32", "f31"), encoding="utf-8")
    done = tocsin("profile", "check", str(file), str(broken), "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ok"] is False
    sound, wrong = result["profiles"]
    assert sound["ok"] is True
    assert sound["values"]["gas_3"] == {"address": 10, "type": "f32", "unit": "ppm", "printed": "40011"}
    assert sound["requests"] == [
        {"function": 3, "address": 2, "count": 10}, {"function": 4, "address": 9999, "count": 1},
    ]  # fmt: skip
    assert [(problem["line"], problem["path"]) for problem in wrong["problems"]] == [(6, "values.gas_{n}.type")]


def test_all_that_is_shipped_passes() -> None:
    """The command holds every profile that comes with Tocsin."""
    done = started("profile", "check", *map(str, sorted(DEVICES.glob("*.yaml"))), "--json")
    assert done.returncode == 0, done.stderr
    assert not any(profile["never"] for profile in json.loads(done.stdout.splitlines()[-1])["profiles"])


@pytest.mark.parametrize("words", [["profile", "check", "nowhere.yaml"], ["profile", "check"]])
def test_wrong_words_get_one_line(words: list[str]) -> None:
    """A file that is not there is a wrong argument."""
    done = tocsin(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_page_shows_what_the_program_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's profile passes as printed, and the registers beside it give the readings beside them."""
    _, example, shown, golden = blocks()
    (tmp_path / "example-ex-1.yaml").write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = tocsin("profile", "check", "example-ex-1.yaml")
    assert done.stdout == shown
    found = scenes_of(golden)
    assert len(found) == 4
    for scene in found:
        assert scene.read(parse_profile(example, "x")) == (scene.expect, scene.text), scene.name


def test_the_page_names_every_key_type_and_word() -> None:
    """Nothing that a profile can say is missing from the page."""
    page = PAGE.read_text(encoding="utf-8")
    models = (Profile, Limits, IllegalRange, RegisterValue, Invalid, Repeat, StatusRule)
    keys = {name for model in models for name in model.model_fields}
    words = {*keys, *WORDS, "string", *Trust, *StatusQuality}
    named = set(re.findall(r"[a-z0-9_-]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    assert sorted(words - named) == []
