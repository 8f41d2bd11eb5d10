"""Device profiles: mistakes named by file and line, and the shipped maps against what their manuals print."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.support.need import ROOT
from tocsin_core.readings import BAD_COMM_FAILURE, quality_text
from tocsin_core.registers import (
    Profile,
    ProfileError,
    ReadPlan,
    Reply,
    StatusRule,
    Trust,
    compile_plan,
    parse_profile,
)

GOLDEN = ROOT / "tests" / "golden" / "registers"
DEVICES = ROOT / "firmware-configs" / "devices"
SHIPPED = sorted(file.name for file in DEVICES.glob("*.yaml"))
CASES = sorted(GOLDEN.glob("*.yaml"))

GOOD = """vendor: test
model: test
trust: documented
source: this test
values:
  gas: {address: 2, type: f32}
  state: {address: 5, type: u16}
status:
  - {value: state, bit: 5, quality: sensor-failure, affects: [gas]}
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("type: f32", "type: f31", "t.yaml:6: values.gas.type: "),
        ("address: 2", "address: 65535", "t.yaml:6: values.gas: address + size passes 65535"),
        ("address: 2", "adress: 2", "t.yaml:6: values.gas.adress: unknown key: is it address?"),
        (
            "address: 5, type: u16",
            "address: 5, type: u16, word_order: ABCD",
            "t.yaml:7: values.state: word_order is for",
        ),
        ("type: u16", "type: bool", "t.yaml:7: values.state: a bool in a register names its bit"),
        ("value: state", "value: stat", "t.yaml:9: status.0.value: stat is not an integer value"),
        ("affects: [gas]", "affects: [gas, gaz]", "t.yaml:9: status.0.affects: gaz is not a value"),
        ("bit: 5", "bit: 5, is_in: [3]", "t.yaml:9: status.0: give exactly one of"),
        ("trust: documented", "trust: hearsay", "t.yaml:3: trust: "),
        ("type: f32", "type: u32, bits: [0, 31]", "t.yaml:6: values.gas: bits are"),
        ("type: f32", "type: u32, bits: [5, 2]", "t.yaml:6: values.gas: bits are"),
        ("type: f32", "type: u32, bits: [5, 32]", "t.yaml:6: values.gas: bits are"),
        ("type: f32", "type: f32, bits: [0, 7]", "t.yaml:6: values.gas: bits are"),
        ("type: f32", "type: f32, word_order: BA", "t.yaml:6: values.gas: word_order is for"),
        ("type: f32", "type: string", "t.yaml:6: values.gas: a string names its characters"),
        ("type: f32", "type: f32, characters: 4", "t.yaml:6: values.gas: a string names its characters"),
        ("type: f32", "type: string, characters: 4, scale: 2", "t.yaml:6: values.gas: a string has no scale"),
        ("type: f32", "type: string, characters: 4, word_order: CDAB", "t.yaml:6: values.gas: word_order is for"),
        ("type: f32", "type: bool, bit: 1, invalid: {raw: [1]}", "t.yaml:6: values.gas: invalid is not for bool"),
        ("type: f32", "type: u32, invalid: {raw: [0.5]}", "t.yaml:6: values.gas: invalid.raw of an integer"),
        ("type: f32", "type: f32, decimals_from: gas", "t.yaml:6: values.gas.decimals_from: gas is not a 16-bit"),
        ("value: state", "value: gas", "t.yaml:9: status.0.value: gas is not an integer value"),
        ("source: this test", "sauce: this test", "t.yaml:4: sauce: unknown key: is it source?"),
        ("source: this test", "source: this test\nsource: that", "t.yaml:5: found duplicate key"),
        ("bit: 5", "bits: 5", "t.yaml:9: status.0.bits: unknown key: is it bit?"),
        (
            "source: this test",
            "source: this test\nlimits: {registers: 4, pause: 3}",
            "t.yaml:5: limits.pause: unknown key: is it pause_ms?",
        ),
        (
            "values:",
            "limits: {registers: 4}\nvalues:\n  name: {address: 9, type: string, characters: 9}",
            "t.yaml:7: values.name: takes 5 registers, limits.registers allows 4",
        ),
        ("source: this test\n", "", "t.yaml:1: source: is missing"),
        ("model: test", "model: [", "t.yaml:"),
        ("address: 2, type: f32", "address: 2, type: f32, repeat: {count: 3}", "t.yaml:6: values.gas: {n} in the name"),
        (
            "status:",
            "illegal: [{function: 3, first: 3, last: 4}]\nstatus:",
            "t.yaml:6: values.gas.address: lies in the",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, problem: str) -> None:
    """A broken profile says where and what, and gives nothing."""
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, "t.yaml")
    assert any(line.startswith(problem) for line in str(caught.value).splitlines()), str(caught.value)


CHANNELS = """\
vendor: nobody
model: test
trust: reported
source: this test
illegal: [{function: 4, first: 99, last: 65535}]
values:
  level_{n}: {function: 4, address: 0, type: u16, repeat: {count: 8}}
  state_{n}: {function: 4, address: 40, type: u16, repeat: {count: 50}}
status:
  - {value: "state_{n}", bit: 1, quality: bad, affects: ["level_{n}"]}
"""


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ("count: 50", "count: 64", [
            "t.yaml:8: values.state_{n}.address: state_60 lies in the illegal range 99-65535",
            "t.yaml:10: status.0.affects: level_9 is not a value of this profile",
        ]),
        ("", "", ["t.yaml:10: status.0.affects: level_9 is not a value of this profile"]),
        ("count: 50", "count: 4", [
            "t.yaml:10: status.0.value: state_5 is not an integer value or a bool of this profile",
        ]),
        ('["level_{n}"]', '[x, "y_{n}"]', [
            "t.yaml:10: status.0.affects: x is not a value of this profile",
            "t.yaml:10: status.0.affects: y_1 is not a value of this profile",
        ]),
    ],
)  # fmt: skip
def test_a_mistake_that_each_channel_repeats_is_named_once(old: str, new: str, problems: list[str]) -> None:
    """At the rule or value as it is written, with the first channel that is wrong: 64 lines would hide the rest."""
    with pytest.raises(ProfileError) as caught:
        parse_profile(CHANNELS.replace(old, new), "t.yaml")
    assert str(caught.value).splitlines() == problems


def test_all_mistakes_are_named_at_once() -> None:
    """Two mistakes make two lines, in the order of the file."""
    with pytest.raises(ProfileError) as caught:
        parse_profile(GOOD.replace("f32", "f31").replace("u16", "u17"), "t.yaml")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["t.yaml:6", "t.yaml:7"]


def test_channels_are_written_out() -> None:
    """A repeated value becomes one a channel, each under its own status."""
    text = (
        GOOD.replace("  gas:", "  gas_{n}:")
        .replace("  state:", "  state_{n}:")
        .replace("value: state", 'value: "state_{n}"')
    )
    text = text.replace("[gas]", '["gas_{n}"]').replace("type: f32", "type: f32, repeat: {count: 3, step: 4}")
    text = text.replace("type: u16", "type: u16, repeat: {count: 3, step: 4}")
    profile = parse_profile(text, "t.yaml")
    assert [value.address for value in profile.values.values()] == [2, 6, 10, 5, 9, 13]
    assert [(rule.value, rule.affects) for rule in profile.status] == [(f"state_{n}", (f"gas_{n}",)) for n in (1, 2, 3)]


def test_each_channel_has_its_own_decimals() -> None:
    """Where the number of decimals is repeated, each channel is scaled by its own."""
    values = """  gas_{n}: {address: 101, type: s16, decimals_from: "places_{n}", repeat: {count: 2, step: 100}}
  places_{n}: {address: 102, type: u16, bits: [8, 15], repeat: {count: 2, step: 100}}
"""
    text = GOOD[: GOOD.index("  gas:")] + values
    profile = parse_profile(text, "t.yaml")
    assert [profile.values[f"gas_{n}"].decimals_from for n in (1, 2)] == ["places_1", "places_2"]


BOMB = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9))


@pytest.mark.parametrize("text", ["[" * 5000, BOMB], ids=["deep", "aliases of aliases"])
def test_a_hostile_file_costs_a_message(text: str) -> None:
    """Neither depth nor aliases that multiply stop the program or fill its memory."""
    with pytest.raises(ProfileError, match=r"^t\.yaml:1: nested too deeply, or an alias repeats itself$"):
        parse_profile(text, "t.yaml")


def shipped(name: str) -> Profile:
    """Return a shipped profile."""
    return parse_profile((DEVICES / name).read_text(encoding="utf-8"), name)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_holds_and_can_be_read(name: str) -> None:
    """Every shipped map parses, and all of its values can be planned for together."""
    profile = shipped(name)
    wanted = list(profile.values)
    plan = compile_plan(profile, wanted)
    assert len(plan.decode([BAD_COMM_FAILURE] * len(plan.requests)).value) == len(wanted)


@pytest.mark.parametrize("name", ["detcon-1000", "igd-toc-635", "scientific-instruments-si7000"])
def test_a_late_answer_is_told_apart_by_a_question_that_the_device_may_be_asked(name: str) -> None:
    """Whichever value is the only one that is wanted, also the last before what is illegal."""
    profile = shipped(f"{name}.yaml")
    last = {value.function: each for each, value in sorted(profile.values.items(), key=lambda item: item[1].address)}
    for each in {next(iter(profile.values)), *last.values()}:
        plan = compile_plan(profile, [each])
        for request in plan.requests:
            other = plan.apart_from(request)
            stop = 0 if other is None else other.address + other.count
            assert other is None or not any(
                bad.function == other.function and other.address <= bad.last and bad.first < stop
                for bad in profile.illegal
            )


def test_real_instruments_are_shipped_each_with_golden_answers() -> None:
    """At least 12 of them, each under its source and label, and with what it does not know said in words."""
    instruments = {name: shipped(name) for name in SHIPPED if not name.startswith("tocsin-")}
    assert len(instruments) >= 12
    assert {Path(name).stem for name in instruments} == {case.stem for case in CASES}
    for name, profile in instruments.items():
        assert profile.trust in (Trust.DOCUMENTED, Trust.REPORTED), f"{name}: nobody here has read the device"
        assert profile.caveats, f"{name}: no map is known without a doubt"


@dataclass(frozen=True)
class Scene:
    """A register image, and what is read from it: a number, words for bad, or a number with words."""

    name: str
    registers: Mapping[str | int, int]
    expect: Mapping[str, object]
    text: Mapping[str, str]

    def replies(self, plan: ReadPlan) -> list[Reply]:
        """Return what the device answers; registers that the scene does not name are 0."""
        found: list[Reply] = []
        for request in plan.requests:
            addresses = range(request.address, request.address + request.count)
            keys = [f"{request.function}:{address}" for address in addresses]
            words = [
                self.registers.get(key, self.registers.get(at, 0)) for key, at in zip(keys, addresses, strict=True)
            ]
            found.append(np.array(words, dtype=np.uint16))
        return found

    def read(self, profile: Profile) -> tuple[dict[str, object], dict[str, str]]:
        """Return what is read, in the form of `expect` and `text`."""
        plan = compile_plan(profile, list(self.expect))
        decoded = plan.decode(self.replies(plan))
        found: dict[str, object] = {}
        for name, value, quality in zip(plan.names, decoded.value.tolist(), decoded.quality.tolist(), strict=True):
            words, number = quality_text(quality), round(value, 6)
            found[name] = words if isnan(value) else number if words == "good" else [number, words]
        return found, dict(decoded.text)


def scenes_of(text: str) -> list[Scene]:
    """Return the scenes of a golden text."""
    return [
        Scene(scene["name"], scene["registers"], scene["expect"], scene.get("text", {}))
        for scene in YAML(typ="safe", pure=True).load(text)["scenes"]
    ]


def scenes(case: Path) -> tuple[Profile, list[Scene]]:
    """Return the profile and the scenes of a golden file, which are called the same."""
    return shipped(case.name), scenes_of(case.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_registers_as_the_manual_prints_them_give_these_values(case: Path) -> None:
    """The golden answers of each device, register by register, give exactly these values and qualities."""
    profile, of_device = scenes(case)
    for scene in of_device:
        assert scene.read(profile) == (scene.expect, scene.text), scene.name


def form_of(rule: StatusRule) -> str:
    """Return the rule in words, the same for each channel of a repeated one."""
    said = rule.model_copy(update={"description": ""}).model_dump_json()
    return re.sub(r"_\d{1,3}(?=\")", "_n", said) if rule.value[-1].isdigit() else said


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_fault_of_a_device_is_seen_in_a_scene(case: Path) -> None:
    """Without any one of a profile's status rules or codes for "no value" some scene would read otherwise."""
    profile, of_device = scenes(case)
    read = {value for scene in of_device for value in scene.expect}
    idle: dict[str, bool] = {}
    for index, rule in enumerate(profile.status):
        if read.intersection(rule.affects):
            rest = profile.model_copy(update={"status": (*profile.status[:index], *profile.status[index + 1 :])})
            used = any(scene.read(rest)[0] != scene.expect for scene in of_device)
            idle[form_of(rule)] = idle.get(form_of(rule), True) and not used
    for value, spec in profile.values.items():
        if spec.invalid:
            without = {**profile.values, value: spec.model_copy(update={"invalid": None})}
            rest = profile.model_copy(update={"values": without})
            idle[f"{value}.invalid"] = all(scene.read(rest)[0] == scene.expect for scene in of_device)
    assert [rule for rule, silent in idle.items() if silent] == []
    assert len(idle) >= len({form_of(rule) for rule in profile.status})
