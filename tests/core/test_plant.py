"""Holds the plant file to its promises: each mistake named by file, line and path; the standards' values by kind."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tocsin_core.plant import (
    AlarmKind,
    Plant,
    PlantError,
    PlantPoint,
    PointKind,
    Priority,
    load_plant,
    shipped_profiles,
)
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import AlarmSetting, MinePlace, Point
from tocsin_core.plant.standards import EXPOSURE, defaults_of, early_of
from tocsin_core.plant.yaml_text import MOST_LEVELS, read_yaml
from tocsin_core.registers import parse_profile

PLANT: Final = """\
tocsin: 1
site: {id: site, name: {zh: 厂区, en: Site}, timezone: Asia/Shanghai}
hazard_sources:
  - {id: tank-farm, name: 罐区, level: 3}
people:
  - {id: li, name: Li, channels: ["outbox://li"]}
  - {id: wu, name: Wu, channels: ["outbox://wu", "mailto://wu"]}
rosters:
  - id: duty
    name: Duty
    shifts:
      - {from: "08:00", to: "20:00", people: [li]}
      - {from: "20:00", to: "08:00", people: [wu]}
notify:
  min_priority: high
  steps:
    - {after_s: 0, to: [duty]}
    - {after_s: 60, to: [wu]}
tickets: {liable: li}
gateways:
  - id: gw
    devices:
      - id: NH3-101
        profile: honeywell-sensepoint-xcd
        modbus: {host: 10.0.0.5, port: 502, unit: 1}
        source: tank-farm
        points:
          - id: NH3-101
            name: {zh: 氨, en: Ammonia}
            kind: toxic-gas
            register: gas_ppm
            cas: "7664-41-7"
            alarms:
              rate: {setpoint: 5}
          - {id: T-101, name: T, kind: temperature, register: temperature, alarms: {H: {setpoint: 60}}}
      - id: WIND
        mqtt: {topic: plant/wind}
        points:
          - {id: WIND-1, name: Wind, kind: generic, field: speed, range: [0, 60]}
  - id: other
    external: true
    devices:
      - id: PLC
        points:
          - {id: LT-1, name: L, kind: tank-level, metric: Tank/Level, alarms: {H: {setpoint: 80}, HH: {setpoint: 90}}}
"""
CSV: Final = """\
gateway,device,id,name_zh,name_en,kind,register,low,high,decimals,cas,HH,H,L,LL
gw,NH3-101,S-101,供电,Supply,generic,supply,0,32,1,,,28,18,
"""


def folder_of(tmp_path: Path, plant: str | bytes = PLANT, points: str | bytes | None = None) -> Path:
    """A plant folder with these texts."""
    for name, text in (("plant.yaml", plant), ("points.csv", points)):
        if text is not None:
            (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path


def problems_of(folder: Path) -> list[str]:
    """What `tocsin check` would print."""
    with pytest.raises(PlantError) as caught:
        load_plant(folder)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def test_a_good_plant_loads(tmp_path: Path) -> None:
    """Points are numbered in the order of the file, and inherit what they do not say."""
    plant = load_plant(folder_of(tmp_path, PLANT, CSV))
    assert [(point.index, point.id, point.unit, point.source) for point in plant.points] == [
        (0, "NH3-101", "ppm", "tank-farm"),
        (1, "T-101", "°C", "tank-farm"),
        (2, "S-101", "V", "tank-farm"),
        (3, "WIND-1", "", None),
        (4, "LT-1", "%", None),
    ]
    assert (plant.name, plant.site.id, plant.point_index["LT-1"]) == (tmp_path.name, "site", 4)
    assert (plant.points[0].metric, plant.points[4].metric) == ("NH3-101", "Tank/Level")
    assert (plant.points[2].low, plant.points[2].high, plant.points[2].decimals) == (0.0, 32.0, 1)
    assert list(plant.profiles) == ["honeywell-sensepoint-xcd"]
    assert plant.gateway("other").external
    with pytest.raises(KeyError, match="no gateway 'gw-9' in this plant; there are: gw, other"):
        plant.gateway("gw-9")


BROKEN: Final[dict[str, tuple[str, str, list[str]]]] = {
    "an unknown key": (
        "site: {id: site,",
        "site: {id: site, town: x,",
        [
            "plant.yaml:2: site.town: unknown key",
        ],
    ),
    "an unknown key far down": (
        "            register: gas_ppm",
        "            regster: gas_ppm",
        [
            "plant.yaml:31: gateways[0].devices[0].points[0].regster: unknown key",
        ],
    ),
    "a missing key": (
        "            kind: toxic-gas\n",
        "",
        [
            "plant.yaml:28: gateways[0].devices[0].points[0].kind: is missing",
        ],
    ),
    "a wrong version": (
        "tocsin: 1",
        "tocsin: 2",
        [
            "plant.yaml:1: tocsin: should be 1 (given: 2)",
        ],
    ),
    "text where a number belongs": (
        "port: 502",
        "port: five",
        [
            ("plant.yaml:25: gateways[0].devices[0].modbus.port: should be a valid integer (given: 'five')"),
        ],
    ),
    "a number out of its range": (
        "port: 502",
        "port: 70000",
        [
            ("plant.yaml:25: gateways[0].devices[0].modbus.port: should be less than or equal to 65535 (given: 70000)"),
        ],
    ),
    "a truth where a number belongs": (
        "unit: 1}",
        "unit: yes}",
        [
            ("plant.yaml:25: gateways[0].devices[0].modbus.unit: should be a valid integer (given: 'yes')"),
        ],
    ),
    "a fraction where a whole number belongs": (
        "unit: 1}",
        "unit: 1.5}",
        [
            ("plant.yaml:25: gateways[0].devices[0].modbus.unit: should be a valid integer (given: 1.5)"),
        ],
    ),
    "a number in quotes": (
        "after_s: 60",
        'after_s: "60"',
        [
            "plant.yaml:18: notify.steps[1].after_s: should be a valid number (given: '60')",
        ],
    ),
    "no number at all": (
        "after_s: 60",
        "after_s: .nan",
        [
            "plant.yaml:18: notify.steps[1].after_s: should be a finite number (given: nan)",
        ],
    ),
    "a word that is not among the kinds": (
        "kind: toxic-gas",
        "kind: toxic",
        [
            (
                "plant.yaml:30: gateways[0].devices[0].points[0].kind: "
                "should be 'toxic-gas', 'combustible-gas', 'oxygen', 'mine-methane', 'mine-co', "
                "'mine-wind', 'tank-level', 'pressure', 'temperature', 'flow', 'pond-level', 'beach-length', "
                "'freeboard', 'phreatic-line', 'displacement', 'generic' or 'status' "
                "(given: 'toxic')"
            ),
        ],
    ),
    "an alarm kind that does not exist": (
        "rate: {setpoint: 5}",
        "rates: {setpoint: 5}",
        [
            (
                "plant.yaml:34: gateways[0].devices[0].points[0].alarms.rates: "
                "should be 'HH', 'H', 'L', 'LL', 'red', 'orange', 'yellow', 'blue', 'rate', 'time-to-limit', "
                "'stel', 'twa', 'peaks', 'cusum', 'ewma', 'abnormal', 'loop', 'stuck', 'spike', 'bad' or "
                "'stale' (given: "
                "'rates')"
            ),
        ],
    ),
    "an alarm that is a number": (
        "rate: {setpoint: 5}",
        "rate: 5",
        [
            "plant.yaml:34: gateways[0].devices[0].points[0].alarms.rate: should be a mapping",
        ],
    ),
    "an alarm that is true": (
        "rate: {setpoint: 5}",
        "rate: true",
        [
            "plant.yaml:34: gateways[0].devices[0].points[0].alarms.rate: should be a mapping",
        ],
    ),
    "a list that is a word": (
        "people: [li]}",
        "people: li}",
        [
            "plant.yaml:12: rosters[0].shifts[0].people: should be a list",
        ],
    ),
    "an empty list": (
        "people: [li]}",
        "people: []}",
        [
            "plant.yaml:12: rosters[0].shifts[0].people: is empty",
        ],
    ),
    "a mapping that is a list": (
        "tickets: {liable: li}",
        "tickets: [li]",
        [
            "plant.yaml:19: tickets: should be a mapping",
        ],
    ),
    "nothing where something belongs": (
        "tickets: {liable: li}",
        "tickets:",
        [
            "plant.yaml:19: tickets: should be a mapping",
        ],
    ),
    "an id with a blank": (
        "id: gw\n",
        "id: gate way\n",
        [
            (
                "plant.yaml:21: gateways[0].id: "
                "should be letters, digits, `_`, `.` and `-`, beginning with a letter or digit, at "
                "most 64 (given: 'gate way')"
            ),
        ],
    ),
    "a time of day that is none": (
        'to: "20:00"',
        'to: "24:00"',
        [
            (
                "plant.yaml:12: rosters[0].shifts[0].to: "
                "should be a time of day in quotes, from 00:00 to 23:59 (given: '24:00')"
            ),
        ],
    ),
    "a channel that is no address": (
        '["outbox://li"]',
        '["13800138000"]',
        [
            (
                "plant.yaml:6: people[0].channels[0]: "
                "should be an Apprise address like mailto://… (given: '13800138000')"
            ),
        ],
    ),
    "a person without a channel": (
        '["outbox://li"]',
        "[]",
        [
            "plant.yaml:6: people[0].channels: is empty",
        ],
    ),
    "a key twice": (
        "tickets: {liable: li}",
        "tickets: {liable: li}\nnotify: {}",
        [
            "plant.yaml:20: notify: this key already stands in line 14",
        ],
    ),
    "a key that is a list": (
        "tickets: {liable: li}",
        "tickets: {liable: li}\n? [a, b]\n: 1",
        [
            "plant.yaml:20: a key is one word, not a list or a mapping",
        ],
    ),
    "a time zone that does not exist": (
        "Asia/Shanghai",
        "Asia/Beijing",
        [
            "plant.yaml:2: site.timezone: 'Asia/Beijing' is not an IANA time zone",
        ],
    ),
    "a time zone that is a folder": (
        "Asia/Shanghai",
        "Asia",
        [
            "plant.yaml:2: site.timezone: 'Asia' is not an IANA time zone",
        ],
    ),
    "a person twice": (
        "{id: wu, name: Wu",
        "{id: li, name: Wu",
        [
            "plant.yaml:7: people[1].id: person 'li' is already there (plant.yaml:6)",
            "plant.yaml:13: rosters[0].shifts[1].people[0]: no person 'wu'",
            "plant.yaml:18: notify.steps[1].to[0]: no person or roster 'wu'",
        ],
    ),
    "a roster called like a person": (
        "- id: duty\n    name: Duty",
        "- id: li\n    name: Duty",
        [
            "plant.yaml:9: rosters[0].id: 'li' is also a person",
            "plant.yaml:17: notify.steps[0].to[0]: no person or roster 'duty'",
        ],
    ),
    "a shift of nobody known": (
        "people: [wu]}",
        "people: [he]}",
        [
            "plant.yaml:13: rosters[0].shifts[1].people[0]: no person 'he'",
        ],
    ),
    "a step to nobody known": (
        "to: [wu]",
        "to: [he]",
        [
            "plant.yaml:18: notify.steps[1].to[0]: no person or roster 'he'",
        ],
    ),
    "a step before the one above it": (
        "after_s: 0,",
        "after_s: 90,",
        [
            "plant.yaml:18: notify.steps[1].after_s: comes before the step above it",
        ],
    ),
    "a step that reaches nobody at night": (
        'to: "08:00"',
        'to: "06:00"',
        [
            "plant.yaml:17: notify.steps[0].to: reaches nobody at 06:00",
        ],
    ),
    "somebody liable whom nobody knows": (
        "liable: li",
        "liable: he",
        [
            "plant.yaml:19: tickets.liable: no person 'he'",
        ],
    ),
    "a hazard source that does not exist": (
        "source: tank-farm",
        "source: tankfarm",
        [
            "plant.yaml:26: gateways[0].devices[0].source: no hazard source 'tankfarm'",
        ],
    ),
    "a device twice": (
        "- id: WIND\n",
        "- id: NH3-101\n",
        [
            ("plant.yaml:36: gateways[0].devices[1].id: device 'NH3-101' is already there (plant.yaml:23)"),
        ],
    ),
    "a gateway twice": (
        "- id: other\n",
        "- id: gw\n",
        [
            "plant.yaml:40: gateways[1].id: gateway 'gw' is already there (plant.yaml:21)",
        ],
    ),
    "a point twice": (
        "id: WIND-1",
        "id: T-101",
        [
            ("plant.yaml:39: gateways[0].devices[1].points[0].id: point 'T-101' is already there (plant.yaml:35)"),
        ],
    ),
    "a profile that does not exist": (
        "profile: honeywell-sensepoint-xcd",
        "profile: honeywell-xcd",
        [
            (
                "plant.yaml:24: gateways[0].devices[0].profile: "
                "no profile 'honeywell-xcd' (looked for profiles/honeywell-xcd.yaml in the plant and "
                "among the shipped ones)"
            ),
        ],
    ),
    "a profile outside of its folders": (
        "profile: honeywell-sensepoint-xcd",
        "profile: ../plant",
        [
            (
                "plant.yaml:24: gateways[0].devices[0].profile: "
                "should be letters, digits, `_`, `.` and `-`, beginning with a letter or digit, at "
                "most 64 (given: '../plant')"
            ),
        ],
    ),
    "a register that the profile has not": (
        "register: temperature",
        "register: temp",
        [
            (
                "plant.yaml:35: gateways[0].devices[0].points[1].register: "
                "no 'temp' in profile 'honeywell-sensepoint-xcd'; there are: "
                "temperature, temperature_f, state, identity, gas_ppm, gas_lel, gas_vol, fault_number, alarm_1, "
                "alarm_2, warning, mode and 12 more"
            ),
        ],
    ),
    "a modbus point without register": (
        "kind: temperature, register: temperature",
        "kind: temperature",
        [
            ("plant.yaml:35: gateways[0].devices[0].points[1]: a point of a modbus device names its register"),
        ],
    ),
    "a modbus device without profile": (
        "        profile: honeywell-sensepoint-xcd\n",
        "",
        [
            "plant.yaml:23: gateways[0].devices[0]: a modbus device names its profile",
        ],
    ),
    "two ways in": (
        "        mqtt: {topic: plant/wind}",
        "        mqtt: {topic: plant/wind}\n        modbus: {}",
        [
            "plant.yaml:36: gateways[0].devices[1]: give either modbus or mqtt, not both",
        ],
    ),
    "no way in": (
        "        mqtt: {topic: plant/wind}\n",
        "",
        [
            "plant.yaml:36: gateways[0].devices[1]: neither modbus nor mqtt: say how it is read",
            ("plant.yaml:38: gateways[0].devices[1].points[0].field: only points of MQTT sensors have a field"),
        ],
    ),
    "an address twice": (
        "        mqtt: {topic: plant/wind}",
        "        profile: keller-33x\n        modbus: {host: 10.0.0.5}",
        [
            "plant.yaml:38: gateways[0].devices[1].modbus: the same address as device 'NH3-101'",
            ("plant.yaml:40: gateways[0].devices[1].points[0]: a point of a modbus device names its register"),
        ],
    ),
    "a way into somebody else's gateway": (
        "      - id: PLC\n",
        "      - id: PLC\n        mqtt: {topic: a}\n",
        [
            (
                "plant.yaml:43: gateways[1].devices[0]: an external gateway reads its own devices: "
                "no modbus or mqtt here"
            ),
            ("plant.yaml:46: gateways[1].devices[0].points[0]: a point of an MQTT sensor names its field"),
        ],
    ),
    "a sensor's point without field": (
        "field: speed, ",
        "",
        [
            ("plant.yaml:39: gateways[0].devices[1].points[0]: a point of an MQTT sensor names its field"),
        ],
    ),
    "a field of a modbus point": (
        "            register: gas_ppm",
        "            register: gas_ppm\n            field: a",
        [
            ("plant.yaml:32: gateways[0].devices[0].points[0].field: only points of MQTT sensors have a field"),
        ],
    ),
    "a register of a sensor's point": (
        "field: speed",
        "field: speed, register: gas_ppm",
        [
            ("plant.yaml:39: gateways[0].devices[1].points[0].register: only points of modbus devices have a register"),
        ],
    ),
    "a range upside down": (
        "range: [0, 60]",
        "range: [60, 0]",
        [
            "plant.yaml:39: gateways[0].devices[1].points[0].range: 60 is not below 0",
        ],
    ),
    "a range of three": (
        "range: [0, 60]",
        "range: [0, 30, 60]",
        [
            "plant.yaml:39: gateways[0].devices[1].points[0].range: has too many items",
        ],
    ),
    "a toxic gas without name": (
        '            cas: "7664-41-7"\n',
        "",
        [
            "plant.yaml:28: gateways[0].devices[0].points[0]: a toxic gas names its cas number",
        ],
    ),
    "a toxic gas without limit": (
        "7664-41-7",
        "75-21-8",
        [
            (
                "plant.yaml:32: gateways[0].devices[0].points[0].cas: "
                "no exposure limit known for 75-21-8: give alarms.H a setpoint"
            ),
        ],
    ),
    "methane without place": (
        "kind: generic, field",
        "kind: mine-methane, field",
        [
            "plant.yaml:39: gateways[0].devices[1].points[0]: mine methane names its place",
        ],
    ),
    "a limit without set point": (
        "H: {setpoint: 60}",
        "H: {deadband: 1}",
        [
            "plant.yaml:35: gateways[0].devices[0].points[1].alarms.H: has no setpoint",
        ],
    ),
    "a rate without set point": (
        "rate: {setpoint: 5}",
        "rate: {window_s: 60}",
        [
            "plant.yaml:34: gateways[0].devices[0].points[0].alarms.rate: has no setpoint",
        ],
    ),
    "a rate of nothing": (
        "rate: {setpoint: 5}",
        "rate: {setpoint: 0}",
        [
            (
                "plant.yaml:34: gateways[0].devices[0].points[0].alarms.rate.setpoint: is not above 0: "
                "it is a size, whichever the direction"
            ),
        ],
    ),
    "a set point that is no limit of its own": (
        "{setpoint: 90}",
        "{setpoint: 70}",
        [
            "plant.yaml:45: gateways[1].devices[0].points[0].alarms.HH: HH 70 is not above H 80",
        ],
    ),
    "a set point out of range": (
        "H: {setpoint: 60}",
        "H: {setpoint: 151}",
        [
            (
                "plant.yaml:35: gateways[0].devices[0].points[1].alarms.H: "
                "setpoint 151 lies outside the range -50 to 150: it would never be seen"
            ),
        ],
    ),
    "a deadband from which no alarm returns": (
        "H: {setpoint: 60}",
        "H: {setpoint: 60, deadband: 110}",
        [
            (
                "plant.yaml:35: gateways[0].devices[0].points[1].alarms.H: "
                "the deadband 110 leaves the range -50 to 150: the alarm would never return"
            ),
        ],
    ),
    "a warning of nothing": (
        "field: speed",
        "field: speed, alarms: {time-to-limit: {}}",
        [
            (
                "plant.yaml:39: gateways[0].devices[1].points[0].alarms.time-to-limit: "
                "there is no limit that it could foresee"
            ),
        ],
    ),
    "a warning of a limit that is not there": (
        "H: {setpoint: 60}",
        "H: {setpoint: 60}, time-to-limit: {limit: L}",
        [
            (
                "plant.yaml:35: gateways[0].devices[0].points[1].alarms.time-to-limit: "
                "there is no limit that it could foresee"
            ),
        ],
    ),
    "a set point of an instrument alarm": (
        "H: {setpoint: 60}",
        "bad: {setpoint: 60}",
        [
            ("plant.yaml:35: gateways[0].devices[0].points[1].alarms.bad.setpoint: means nothing to bad"),
        ],
    ),
    "an on-delay of silence": (
        "H: {setpoint: 60}",
        "stale: {on_delay_s: 60}",
        [
            ("plant.yaml:35: gateways[0].devices[0].points[1].alarms.stale.on_delay_s: means nothing to stale"),
        ],
    ),
    "a window of a limit": (
        "H: {setpoint: 60}",
        "H: {setpoint: 60, window_s: 60}",
        [
            "plant.yaml:35: gateways[0].devices[0].points[1].alarms.H.window_s: means nothing to H",
        ],
    ),
    "a metric twice": (
        "        points:\n          - {id: LT-1",
        ("        points:\n          - {id: Tank, name: T, kind: status, metric: Tank/Level}\n          - {id: LT-1"),
        [
            (
                "plant.yaml:46: gateways[1].devices[0].points[1]: "
                "point 'Tank' of this device has the metric 'Tank/Level' too"
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_named_with_file_line_and_path(name: str, tmp_path: Path) -> None:
    """One change to a good plant gives exactly the lines that say what is wrong and where."""
    old, new, expected = BROKEN[name]
    assert PLANT.count(old) == 1
    assert problems_of(folder_of(tmp_path, PLANT.replace(old, new))) == expected


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """A person corrects a file once, not once for each mistake; plant file and instrument list together."""
    plant = PLANT.replace("port: 502", "port: 0").replace("level: 3", "level: 9").replace("\ntickets", "\nticket")
    points = CSV + "gw,NH3-999,X,,,generic,supply\n"
    assert problems_of(folder_of(tmp_path, plant, points)) == [
        "plant.yaml:4: hazard_sources[0].level: should be less than or equal to 4 (given: 9)",
        "plant.yaml:19: ticket: unknown key",
        "plant.yaml:25: gateways[0].devices[0].modbus.port: should be greater than or equal to 1 (given: 0)",
        "points.csv:3: device: no device 'NH3-999' on a gateway 'gw' in plant.yaml",
    ]


UNACCEPTABLE: Final = 'unacceptable character #x0001: special characters are not allowed in "<file>", position 3'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "plant.yaml:1: the file is empty"),
        ("~", "plant.yaml:1: the file is empty"),
        ("!", "plant.yaml:1: the file is empty"),
        ("a: {b", "plant.yaml:1: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("a: 1\nb:\tc: 2", "plant.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n--- 2", "plant.yaml:2: not YAML: but found another document"),
        ("a: *b", "plant.yaml:1: not YAML: found undefined alias 'b'"),
        ("a: &a [*a]", "plant.yaml:1: nested too deeply, or an alias repeats itself"),
        ("[" * 5000, "plant.yaml:1: nested too deeply, or an alias repeats itself"),
        ("a: \x01", f"plant.yaml:1: not YAML: {UNACCEPTABLE}"),
        ("- a", "plant.yaml:1: should be a mapping"),
        (b"\xc4\xe3\xba\xc3", "plant.yaml:1: not UTF-8: invalid continuation byte at byte 0"),
    ],
)  # fmt: skip
def test_what_is_no_plant_file_is_refused(text: str | bytes, expected: str, tmp_path: Path) -> None:
    """Other people's files, torn files and hostile ones cost one line."""
    assert problems_of(folder_of(tmp_path, text)) == [expected]


def test_an_empty_folder_is_no_plant(tmp_path: Path) -> None:
    """The message names the folder that was looked into."""
    assert problems_of(tmp_path) == [f"plant.yaml:1: no plant.yaml in {tmp_path}"]


def test_aliases_that_multiply_are_stopped() -> None:
    """Ten levels of ten aliases of aliases would be ten thousand million values."""
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11))]
    assert [str(problem) for problem in read_yaml("\n".join(lines), "p.yaml").problems] == [
        "p.yaml:1: more than 2,000,000 values, or an alias repeats itself: so many points belong into points.csv"
    ]


def test_as_deep_as_a_plant_goes_is_not_too_deep() -> None:
    """The bound on nesting lies far beyond what a plant file uses."""
    depth = MOST_LEVELS - 1
    assert read_yaml("[" * depth + "]" * depth, "p.yaml").problems == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("2027-01-15", "2027-01-15"),
        ("~", None),
        ("", None),
        ("'5'", "5"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """`no` is Norway and a word, 12:30 a time of day and not a number in base 60, 017 seventeen."""
    assert read_yaml(f"a: {text}", "p.yaml").data == {"a": value}


@pytest.mark.parametrize("text", ["+_", "0b_", "!!int abc", "!!float zz", "9" * 5000])
def test_what_only_looks_like_a_number_is_told(text: str) -> None:
    """Such a value is a problem at its place, not an exception."""
    (problem,) = read_yaml(f"a:\n  b: {text}", "p.yaml").problems
    assert (problem.line, problem.path) == (2, "a.b")
    assert problem.message.endswith("is not a number")
    assert len(problem.message) < 80


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Windows editors write one at the head of both files."""
    plant = load_plant(folder_of(tmp_path, "\ufeff" + PLANT, "\ufeff" + CSV))
    assert "S-101" in plant.point_index


HEAD_KNOWN: Final = (
    "gateway, device, name_zh, name_en, low, high, decimals,"
    " id, kind, register, field, metric, unit, source, cas, place, HH, H, L, LL, red, orange, yellow, blue"
)
KINDS: Final = (
    "'toxic-gas', 'combustible-gas', 'oxygen', 'mine-methane', 'mine-co', 'mine-wind', 'tank-level', 'pressure',"
    " 'temperature', 'flow', 'pond-level', 'beach-length', 'freeboard', 'phreatic-line', 'displacement', 'generic'"
    " or 'status'"
)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (CSV.replace("decimals", '"a\n"'), [r"points.csv:1: unknown columns: 'a\n'; known: " + HEAD_KNOWN]),
        (CSV.replace("decimals", "a" * 50), ["points.csv:1: unknown columns: " + "a" * 40 + "…; known: " + HEAD_KNOWN]),
        (CSV.replace(",decimals,", ",digits,"), ["points.csv:1: unknown columns: digits; known: " + HEAD_KNOWN]),
        ("gateway,id\n", ["points.csv:1: columns are missing: device, kind"]),
        ("", ["points.csv:1: columns are missing: gateway, device, id, kind"]),
        (CSV.replace("gateway,device", "gateway;device"), [
            "points.csv:1: unknown columns: gateway;device; known: " + HEAD_KNOWN,
            "points.csv:1: columns are missing: gateway, device",
        ]),
        (CSV.replace("28,18", "28 V,18"), ["points.csv:2: H: '28 V' is not a number"]),
        (CSV.replace("generic,supply,0,32,1,,,28", "toxic-gas,supply,0,32,1,75-21-8,,28 V"), [
            "points.csv:2: H: '28 V' is not a number"
        ]),
        (CSV.replace("28,18", "inf,18"), ["points.csv:2: H: 'inf' is not a number"]),
        (CSV.replace("0,32,1", "0,32,1.5"), [
            "points.csv:2: gateways[0].devices[0].points[2].decimals: should be a valid integer (given: 1.5)"
        ]),
        (CSV.replace("0,32,1", "0,,1"), ["points.csv:2: high: is missing: low and high come together"]),
        (CSV.replace("0,32,1", ",32,1"), ["points.csv:2: low: is missing: low and high come together"]),
        (CSV.replace("gw,NH3", "gv,NH3"), [
            "points.csv:2: device: no device 'NH3-101' on a gateway 'gv' in plant.yaml"
        ]),
        (CSV.replace("28,18,", "28,18,,,"), ["points.csv:2: more cells than columns"]),
        (CSV.replace("28,18", "18,28"), [
            "points.csv:2: gateways[0].devices[0].points[2].alarms.H: H 18 is not above L 28"
        ]),
        (CSV.replace("S-101", "T-101"), [
            "points.csv:2: gateways[0].devices[0].points[2].id: point 'T-101' is already there (plant.yaml:35)"
        ]),
        (CSV.replace("generic", "volts"), [
            "points.csv:2: gateways[0].devices[0].points[2].kind: should be " + KINDS + " (given: 'volts')"
        ]),
        (CSV + 'gw,NH3-101,"' + "x" * 200_000 + '"\n', [
            "points.csv:3: not CSV: field larger than field limit (131072)"
        ]),
        (CSV.encode() + b"\xb0\xb1\n", ["points.csv:1: not UTF-8: invalid start byte at byte 142"]),
    ],
)  # fmt: skip
def test_a_wrong_row_or_cell_is_named_by_its_line(points: str | bytes, expected: list[str], tmp_path: Path) -> None:
    """The instrument list is held to the same strictness as the plant file."""
    assert problems_of(folder_of(tmp_path, PLANT, points)) == expected


MANY_FAULTS: Final = """\
tocsin: 2
site: {id: site, name: Site, timezone: Asia/Beijing, town: x}
hazard_sources:
  - {id: tank-farm, name: 罐区, level: 9}
people:
  - {id: li, name: Li, channels: ["13800138000"]}
  - {id: wu, name: Wu, channels: ["outbox://wu"]}
  - {id: wu, name: Xu, channels: ["outbox://xu"]}
rosters:
  - id: duty
    name: Duty
    shifts:
      - {from: "08:00", to: "24:00", people: [li]}
      - {from: "20:00", to: "08:00", people: [he, wu]}
  - id: night
    name: Night
    shifts:
      - {from: "20:00", to: "08:00", people: [wu]}
notify:
  repeat_s: 5
  steps:
    - {after_s: 60, to: [duty, she]}
    - {after_s: soon, to: [li, they]}
    - {after_s: 0, to: [night]}
tickets: {liable: it, deadline_h: 0}
gateways:
  - id: gw
    uplink: {port: 0}
    devices:
      - id: A
        profile: honeywell-sensepoint-xcd
        modbus: {host: 10.0.0.5}
        source: tank-farm
        points:
          - {id: P-1, name: P, kind: toxic-gas, register: gas_ppm, cas: "7664-41-7", alarms: {H: {setpoint: 60}}}
          - {id: P-2, name: P, kind: temperature, register: temprature}
          - {id: P-3, name: P, kind: volts, register: nonsense}
      - id: B
        profile: honeywell-sensepoint-xcd
        modbus: {host: 10.0.0.5}
        source: tankfarm
      - id: A
        profile: honeywell-xcd
        modbus: {host: 10.0.0.6, port: five}
        points:
          - {id: P-1, name: P, kind: generic, source: farm, range: [60, 0]}
          - {id: P-3, name: P, kind: generic, register: nonsense, decimals: !!int x}
  - id: other
    external: true
    devices:
      - id: PLC
        mqtt: {topic: a}
        points:
          - {id: LT-1, name: L, kind: tank-level, field: l, alarms: {H: {setpoint: 90}, HH: {setpoint: 80}}}
"""
MANY_FAULTY_ROWS: Final = """\
gateway,device,id,kind,field,H,L
other,PLC,C-1,generic,c,1O,
other,PLC,C-2,generic,,20,30
other,PLD,C-3,generic,c,,
other,PLC,LT-1,pressur,c,,
"""
MANY_PROBLEMS: Final = [
    "plant.yaml:1: tocsin: should be 1 (given: 2)",
    "plant.yaml:2: site.town: unknown key",
    "plant.yaml:2: site.timezone: 'Asia/Beijing' is not an IANA time zone",
    "plant.yaml:4: hazard_sources[0].level: should be less than or equal to 4 (given: 9)",
    "plant.yaml:6: people[0].channels[0]: should be an Apprise address like mailto://… (given: '13800138000')",
    "plant.yaml:8: people[2].id: person 'wu' is already there (plant.yaml:7)",
    ("plant.yaml:13: rosters[0].shifts[0].to: should be a time of day in quotes, from 00:00 to 23:59 (given: '24:00')"),
    "plant.yaml:14: rosters[0].shifts[1].people[0]: no person 'he'",
    "plant.yaml:20: notify.repeat_s: should be greater than or equal to 30 (given: 5)",
    "plant.yaml:22: notify.steps[0].to[1]: no person or roster 'she'",
    "plant.yaml:23: notify.steps[1].after_s: should be a valid number (given: 'soon')",
    "plant.yaml:23: notify.steps[1].to[1]: no person or roster 'they'",
    "plant.yaml:24: notify.steps[2].after_s: comes before the step above it",
    "plant.yaml:24: notify.steps[2].to: reaches nobody at 08:00",
    "plant.yaml:25: tickets.deadline_h: should be greater than 0 (given: 0)",
    "plant.yaml:25: tickets.liable: no person 'it'",
    "plant.yaml:28: gateways[0].uplink.port: should be greater than or equal to 1 (given: 0)",
    "plant.yaml:35: gateways[0].devices[0].points[0].alarms.HH: HH 56 is not above H 60",
    (
        "plant.yaml:36: gateways[0].devices[0].points[1].register: no 'temprature' in profile "
        "'honeywell-sensepoint-xcd'; there are: temperature, temperature_f, state, identity, gas_ppm, gas_lel, "
        "gas_vol, fault_number, alarm_1, alarm_2, warning, mode and 12 more"
    ),
    "plant.yaml:37: gateways[0].devices[0].points[2].kind: should be " + KINDS + " (given: 'volts')",
    "plant.yaml:40: gateways[0].devices[1].modbus: the same address as device 'A'",
    "plant.yaml:41: gateways[0].devices[1].source: no hazard source 'tankfarm'",
    "plant.yaml:42: gateways[0].devices[2].id: device 'A' is already there (plant.yaml:30)",
    (
        "plant.yaml:43: gateways[0].devices[2].profile: no profile 'honeywell-xcd' (looked for "
        "profiles/honeywell-xcd.yaml in the plant and among the shipped ones)"
    ),
    "plant.yaml:44: gateways[0].devices[2].modbus.port: should be a valid integer (given: 'five')",
    "plant.yaml:46: gateways[0].devices[2].points[0].id: point 'P-1' is already there (plant.yaml:35)",
    "plant.yaml:46: gateways[0].devices[2].points[0].source: no hazard source 'farm'",
    "plant.yaml:46: gateways[0].devices[2].points[0].range: 60 is not below 0",
    "plant.yaml:47: gateways[0].devices[2].points[1].decimals: 'x' is not a number",
    "plant.yaml:47: gateways[0].devices[2].points[1].id: point 'P-3' is already there (plant.yaml:37)",
    "plant.yaml:51: gateways[1].devices[0]: an external gateway reads its own devices: no modbus or mqtt here",
    "plant.yaml:54: gateways[1].devices[0].points[0].alarms.HH: HH 80 is not above H 90",
    "points.csv:2: H: '1O' is not a number",
    "points.csv:3: gateways[1].devices[0].points[2]: a point of an MQTT sensor names its field",
    "points.csv:3: gateways[1].devices[0].points[2].alarms.H: H 20 is not above L 30",
    "points.csv:4: device: no device 'PLD' on a gateway 'other' in plant.yaml",
    "points.csv:5: gateways[1].devices[0].points[3].kind: should be " + KINDS + " (given: 'pressur')",
    "points.csv:5: gateways[1].devices[0].points[3].id: point 'LT-1' is already there (plant.yaml:54)",
]


def test_every_problem_of_every_sort_is_told_in_one_go(tmp_path: Path) -> None:
    """Malformed parts hide nothing in those that hold, and nobody is called unknown who is only malformed."""
    assert problems_of(folder_of(tmp_path, MANY_FAULTS, MANY_FAULTY_ROWS)) == MANY_PROBLEMS


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('{id: li, name: Li, channels: ["outbox://li"]}', "{id: li, nam: Li, channels: []}", [
            "plant.yaml:6: people[0].name: is missing",
            "plant.yaml:6: people[0].channels: is empty",
            "plant.yaml:6: people[0].nam: unknown key",
        ]),
        ("{id: li, name", "{ids: li, name", [
            "plant.yaml:6: people[0].id: is missing",
            "plant.yaml:6: people[0].ids: unknown key",
        ]),
        ("{id: li, name", "{id: lu, id: li, name", ["plant.yaml:6: people[0].id: this key already stands in line 6"]),
        ("people:\n", "people: []\npeople:\n", ["plant.yaml:6: people: this key already stands in line 5"]),
        ("    shifts:\n", '    shifts: [{from: "08:00", to: "20:00", people: [li]}]\n    shifts:\n', [
            "plant.yaml:12: rosters[0].shifts: this key already stands in line 11",
        ]),
        ("rosters:\n", "rosters: none\nroster:\n", [
            "plant.yaml:8: rosters: should be a list", "plant.yaml:9: roster: unknown key"
        ]),
        ("people:\n", "peple:\n", ["plant.yaml:5: peple: unknown key"]),
        ("name: 罐区, level: 3", "name: '', level: 3", [
            "plant.yaml:4: hazard_sources[0].name.zh: String should have at least 1 character (given: '')",
            "plant.yaml:4: hazard_sources[0].name.en: String should have at least 1 character (given: '')",
        ]),
        ('to: "08:00"', "to: 8", ["plant.yaml:13: rosters[0].shifts[1].to: should be a valid string (given: 8)"]),
        ("external: true", "external: maybe", [
            "plant.yaml:41: gateways[1].external: should be a valid boolean (given: 'maybe')",
        ]),
        ("port: 502", "port: !!int x", ["plant.yaml:25: gateways[0].devices[0].modbus.port: 'x' is not a number"]),
        ('cas: "7664-41-7"', "cas: !!int x", [
            "plant.yaml:32: gateways[0].devices[0].points[0].cas: 'x' is not a number",
        ]),
        ("setpoint: 60", "setpoint: !!float x", [
            "plant.yaml:35: gateways[0].devices[0].points[1].alarms.H.setpoint: 'x' is not a number"
        ]),
    ],
)  # fmt: skip
def test_what_is_only_malformed_is_told_once_and_has_no_consequences(
    old: str, new: str, expected: list[str], tmp_path: Path
) -> None:
    """No second problem comes from it: no unknown name, no missing register, no gap in a roster."""
    assert PLANT.count(old) == 1
    assert problems_of(folder_of(tmp_path, PLANT.replace(old, new))) == expected


def _values_of(profile: str) -> dict[str, object]:
    text = shipped_profiles().joinpath(f"{profile}.yaml").read_text(encoding="utf-8")
    return dict(parse_profile(text, profile).values)


def test_of_thousands_of_registers_the_closest_are_named(tmp_path: Path) -> None:
    """Twelve, the most likely first, and how many more there are."""
    text = PLANT.replace("profile: honeywell-sensepoint-xcd", "profile: igd-toc-635")
    (first, second) = problems_of(folder_of(tmp_path, text.replace("gas_ppm", "Gas_LEL-12")))
    assert first.startswith(
        "plant.yaml:31: gateways[0].devices[0].points[0].register: no 'Gas_LEL-12' in profile 'igd-toc-635'; there are:"
        " gas_lel_12, gas_lel_"
    )
    assert second.endswith(f" and {len(_values_of('igd-toc-635')) - 12} more")
    assert first.count(", ") == second.count(", ") == 11


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_spreadsheet_may_end_its_lines_and_pad_its_rows_as_it_likes(end: str, tmp_path: Path) -> None:
    """Whatever the line ends, and rows of nothing but commas are no rows; 1.0 is the whole number 1."""
    text = (CSV.replace("0,32,1,", "0,32,1.0,") + ",,,,,,,,,,,,,,\n\n").replace("\n", end)
    plant = load_plant(folder_of(tmp_path, PLANT, text))
    assert (plant.points[2].id, plant.points[2].decimals, len(plant.points)) == ("S-101", 1, 5)


def test_a_broken_profile_is_told_line_by_line(tmp_path: Path) -> None:
    """A plant's own profile goes before a shipped one, and each of its mistakes is one line of the answer."""
    (tmp_path / "profiles").mkdir()
    profile = tmp_path / "profiles" / "honeywell-sensepoint-xcd.yaml"
    profile.write_text("vendor: X\n", encoding="utf-8")
    lines = problems_of(folder_of(tmp_path))
    assert len(lines) > 1
    where = "plant.yaml:24: gateways[0].devices[0].profile: honeywell-sensepoint-xcd.yaml:"
    assert all(line.startswith(where) for line in lines)
    profile.write_bytes(b"vendor: \xff\n")
    assert problems_of(tmp_path)[0] == (
        "plant.yaml:24: gateways[0].devices[0].profile: honeywell-sensepoint-xcd.yaml is not UTF-8:"
        " invalid start byte at byte 8"
    )


def point_of(tmp_path: Path, text: str) -> PlantPoint:
    """The only point of a plant: `text` is what its mapping says besides id and name."""
    plant = f"""\
tocsin: 1
site: {{id: site, name: Site}}
gateways: [{{id: gw, devices: [{{id: d, mqtt: {{topic: t}}, points: [{{id: P, name: P, field: "", {text}}}]}}]}}]
"""
    return load_plant(folder_of(tmp_path, plant)).points[0]


def limits_of(point: PlantPoint) -> dict[str, tuple[float, float]]:
    """Set point and deadband of each limit."""
    limits = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)
    return {d.kind.value: (d.setpoint, round(d.deadband, 9)) for d in point.definitions if d.kind in limits}


@pytest.mark.parametrize(
    ("cas", "ppm"),
    [
        ("7783-06-4", 7.1),  # hydrogen sulfide, MAC 10 mg/m3
        ("7664-41-7", 28.0),  # ammonia, PC-TWA 20 mg/m3
        ("7782-50-5", 0.34),  # chlorine, MAC 1 mg/m3
        ("630-08-0", 17.0),  # carbon monoxide, PC-TWA 20 mg/m3
        ("71-43-2", 1.8),  # benzene, PC-TWA 6 mg/m3
        ("75-44-5", 0.12),  # phosgene, MAC 0.5 mg/m3
    ],
)
def test_a_toxic_gas_gets_the_levels_of_its_exposure_limit(cas: str, ppm: float, tmp_path: Path) -> None:
    """GB/T 50493-2019 5.5.2: level 1 at 100 % OEL, level 2 at 200 %; range 0 to 300 % (5.5.1); deadband 1 % of it."""
    point = point_of(tmp_path, f'kind: toxic-gas, cas: "{cas}"')
    assert limits_of(point) == {"HH": (2 * ppm, round(0.03 * ppm, 9)), "H": (ppm, round(0.03 * ppm, 9))}
    assert (point.unit, point.low, point.high) == ("ppm", 0.0, 3 * ppm)


def _brought() -> Iterator[AlarmSetting]:
    for kind in PointKind:
        places = MinePlace if kind is PointKind.MINE_METHANE else (None,)
        gases = EXPOSURE if kind is PointKind.TOXIC_GAS else (None,)
        for place, cas, unit in product(places, gases, ("ppm", "mg/m3", "LEL·m")):
            name = name_of("测点", "point")
            point = Point.model_construct(id="P", name=name, kind=kind, cas=cas, unit=unit, place=place)
            yield from (setting for setting, _ in defaults_of(point).alarms.values())
        yield early_of(kind)


def test_what_the_standards_bring_is_as_if_it_had_been_checked() -> None:
    """It never is, so that a start needs no checker: each setting is one that a plant file could give.

    Two ends that judge alike say so by how their definitions are written: 10 is not 10.0.
    """
    for setting in _brought():
        given = {name: getattr(setting, name) for name in setting.model_fields_set}
        assert repr(AlarmSetting.model_validate(given)) == repr(setting)


@pytest.mark.parametrize("unit", ["mg/m3", "mg/m³", "mg / m3", "MG/m3"])
def test_a_toxic_gas_may_be_measured_in_milligrams(unit: str, tmp_path: Path) -> None:
    """Then the limits are the standard's own numbers, however the unit is written."""
    point = point_of(tmp_path, f'kind: toxic-gas, cas: "7664-41-7", unit: {unit}')
    assert (point.unit, limits_of(point)["H"][0], limits_of(point)["HH"][0]) == (unit, 20.0, 40.0)
    means = {d.kind: d.setpoint for d in point.definitions if d.kind in (AlarmKind.TWA, AlarmKind.STEL)}
    assert means == {AlarmKind.TWA: 20.0, AlarmKind.STEL: 30.0}


@pytest.mark.parametrize("unit", ["ppm", "PPM", "μmol/mol", "ppmv"])
def test_a_millionth_is_one_however_it_is_written(unit: str, tmp_path: Path) -> None:
    """Its means are watched, too."""
    point = point_of(tmp_path, f'kind: toxic-gas, cas: "7664-41-7", unit: {unit}')
    found = {d.kind: d.setpoint for d in point.definitions}
    assert (found[AlarmKind.H], found[AlarmKind.TWA], found[AlarmKind.STEL]) == (28.0, 28.0, 42.0)


@pytest.mark.parametrize("unit", ["LEL·m", "lel·m", "LEL m", "LEL.m"])
def test_an_open_path_is_one_however_its_unit_is_written(unit: str, tmp_path: Path) -> None:
    """`check` says nothing of these, so they must not have the levels of a point detector."""
    point = point_of(tmp_path, f"kind: combustible-gas, unit: {unit}")
    assert (point.unit, limits_of(point)["H"][0], limits_of(point)["HH"][0]) == (unit, 1.0, 2.0)


def test_an_open_path_detector_goes_by_its_registers_unit(tmp_path: Path) -> None:
    """Its profile says LEL·m: 25 of those, a point detector's level 1, are five times what it can show."""
    plant = """\
tocsin: 1
site: {id: site, name: Site}
gateways:
  - id: gw
    devices:
      - id: d
        profile: honeywell-searchline-excel
        modbus: {host: 192.0.2.1}
        points: [{id: P, name: P, kind: combustible-gas, register: gas}]
"""
    point = load_plant(folder_of(tmp_path, plant)).points[0]
    early = next(d for d in point.definitions if d.kind is AlarmKind.TIME_TO_LIMIT)
    assert (point.unit, point.low, point.high, point.decimals) == ("LEL·m", 0.0, 5.0, 2)
    assert (limits_of(point), early.setpoint) == ({"HH": (2.0, 0.05), "H": (1.0, 0.05)}, 1.0)
    assert [d.clause.en for d in point.definitions if d.clause] == [
        "GB/T 50493-2019 5.5.2: open path, level 2 at 2 LEL·m",
        "GB/T 50493-2019 5.5.2: open path, level 1 at 1 LEL·m",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: combustible-gas", {"HH": (50.0, 1.0), "H": (25.0, 1.0)}),
        ("kind: combustible-gas, unit: LEL·m", {"HH": (2.0, 0.05), "H": (1.0, 0.05)}),
        ("kind: combustible-gas, unit: LEL.m", {"HH": (2.0, 0.05), "H": (1.0, 0.05)}),
        ("kind: oxygen", {"H": (23.5, 0.25), "L": (19.5, 0.25)}),
        ("kind: mine-co", {"H": (24.0, 5.0)}),
        ("kind: mine-wind", {"H": (4.0, 0.3), "L": (0.25, 0.3)}),
        ("kind: tank-level", {}),
        ("kind: status, alarms: {H: {setpoint: 1}}", {"H": (1.0, 0.0)}),
        ("kind: flow, range: [0, 40], alarms: {L: {setpoint: 10}}", {"L": (10.0, 2.0)}),
        ("kind: pressure, alarms: {H: {setpoint: 2}}", {"H": (2.0, 0.05)}),
        ("kind: oxygen, alarms: {H: false, L: {setpoint: 18}}", {"L": (18.0, 0.25)}),
    ],
)
def test_each_kind_brings_its_standards_limits(
    text: str, expected: dict[str, tuple[float, float]], tmp_path: Path
) -> None:
    """GB/T 50493, the coal mine regulation, and EEMUA 191's deadbands; the plant file goes before them."""
    assert limits_of(point_of(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("place", "alarm", "cut", "reset"),
    [
        (MinePlace.RETURN_CORNER, 1.0, 1.5, 1.0),
        (MinePlace.FACE, 1.0, 1.5, 1.0),
        (MinePlace.FACE_RETURN, 1.0, 1.0, 1.0),
        (MinePlace.INTAKE, 0.5, 0.5, 0.5),
        (MinePlace.MIDDLE_RETURN, 1.0, 1.0, 1.0),
        (MinePlace.HEADING, 1.0, 1.5, 1.0),
        (MinePlace.HEADING_RETURN, 1.0, 1.0, 1.0),
        (MinePlace.DISTRICT_RETURN, 1.0, 1.0, 1.0),
    ],
)
def test_methane_goes_by_its_place(place: MinePlace, alarm: float, cut: float, reset: float, tmp_path: Path) -> None:
    """AQ 1029 and the regulation's article 498: alarm, cut-off, reset below the given value; the 5 s are ours."""
    point = point_of(tmp_path, f"kind: mine-methane, place: {place}")
    assert limits_of(point) == {"HH": (cut, cut - reset), "H": (alarm, 0.0)}
    assert [(d.on_delay_s, d.off_delay_s) for d in point.definitions[:2]] == [(0.0, 5.0)] * 2


def test_the_total_return_is_not_cut_off(tmp_path: Path) -> None:
    """Nothing switches the whole mine off; it has an alarm alone."""
    assert limits_of(point_of(tmp_path, "kind: mine-methane, place: total-return")) == {"H": (0.75, 0.0)}


def definition_texts(point: PlantPoint) -> dict[str, tuple[float, float, float, float, str]]:
    """On-delay, off-delay, window or silence, horizon and priority of the definitions that are no limits."""
    return {
        d.kind.value: (d.on_delay_s, d.off_delay_s, d.window_s or d.after_s, d.horizon_s, d.priority.value)
        for d in point.definitions
        if d.kind in (AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT, AlarmKind.BAD, AlarmKind.STALE)
    }


def test_every_point_has_an_instrument_alarm_and_one_of_silence(tmp_path: Path) -> None:
    """Unless they are taken away; 1.5 periods of bad, ten minutes of uncertain, five of silence (at least 10 s)."""
    assert definition_texts(point_of(tmp_path, "kind: generic")) == {
        "bad": (1.5, 5.0, 600.0, 0.0, "low"),
        "stale": (0.0, 0.0, 10.0, 0.0, "low"),
    }
    assert definition_texts(point_of(tmp_path, "kind: generic, alarms: {bad: false, stale: false}")) == {}


@pytest.mark.parametrize("kind", list(PointKind))
def test_a_blind_gas_detector_is_not_the_least_of_alarms(kind: PointKind, tmp_path: Path) -> None:
    """Its instrument alarms have medium priority, those of others low; the plant file goes before either."""
    text = f'kind: {kind}, cas: "7664-41-7", place: face'
    gas = kind in ("toxic-gas", "combustible-gas", "oxygen", "mine-methane", "mine-co")
    found = {d.kind.value: d.priority.value for d in point_of(tmp_path, text).definitions}
    assert (found["bad"], found["stale"]) == (("medium",) * 2 if gas else ("low",) * 2)
    own = point_of(tmp_path, f"{text}, alarms: {{bad: {{priority: high}}, stale: {{priority: low}}}}")
    assert {d.kind.value: d.priority.value for d in own.definitions}.items() >= {("bad", "high"), ("stale", "low")}


def test_a_gas_is_foreseen_by_itself_and_a_level_where_it_has_a_high_limit(tmp_path: Path) -> None:
    """Gas: 5 min ahead over 30 s; tank: 15 min (API 2350), pressure: 3 min; others where they are asked to."""
    gas = definition_texts(point_of(tmp_path, 'kind: toxic-gas, cas: "7664-41-7"'))
    assert gas["time-to-limit"] == (2.0, 30.0, 30.0, 300.0, "medium")
    tank = point_of(tmp_path, "kind: tank-level, alarms: {HH: {setpoint: 95}}")
    early = next(d for d in tank.definitions if d.kind is AlarmKind.TIME_TO_LIMIT)
    assert (early.limit, early.setpoint, early.window_s, early.horizon_s) == (AlarmKind.HH, 95.0, 60.0, 900.0)
    assert early.clause is not None
    assert "API 2350" in early.clause.en
    for horizon_s, category in ((2700, 1), (1800, 2), (900, 3)):
        other = point_of(
            tmp_path, f"kind: tank-level, alarms: {{H: {{setpoint: 90}}, time-to-limit: {{horizon_s: {horizon_s}}}}}"
        )
        (clause,) = (d.clause for d in other.definitions if d.kind is AlarmKind.TIME_TO_LIMIT)
        assert clause is not None
        assert f"category {category} response time {horizon_s // 60} min" in clause.en
    for said in (
        "L: {setpoint: 5}, time-to-limit: {}",
        "H: {setpoint: 90}, L: {setpoint: 5}, time-to-limit: {limit: L}",
        "H: {setpoint: 90}, time-to-limit: {horizon_s: 300}",
    ):
        other = point_of(tmp_path, f"kind: tank-level, alarms: {{{said}}}")
        assert [d.clause for d in other.definitions if d.kind is AlarmKind.TIME_TO_LIMIT] == [None]
    pressure = definition_texts(point_of(tmp_path, "kind: pressure, alarms: {H: {setpoint: 2}}"))
    assert pressure["time-to-limit"] == (5.0, 60.0, 60.0, 180.0, "medium")
    assert "time-to-limit" not in definition_texts(point_of(tmp_path, "kind: pressure"))
    assert "time-to-limit" not in definition_texts(point_of(tmp_path, "kind: flow, alarms: {H: {setpoint: 20}}"))
    asked = definition_texts(point_of(tmp_path, "kind: flow, alarms: {H: {setpoint: 20}, time-to-limit: {}}"))
    assert asked["time-to-limit"] == (5.0, 60.0, 60.0, 300.0, "medium")


def test_carbon_monoxide_in_mines_returns_as_other_gases_do(tmp_path: Path) -> None:
    """It would come and go with the noise at its limit otherwise: on-delay 0 s, off-delay 5 s."""
    (limit,) = (d for d in point_of(tmp_path, "kind: mine-co").definitions if d.kind is AlarmKind.H)
    assert (limit.on_delay_s, limit.off_delay_s) == (0.0, 5.0)


def test_a_slow_device_gets_the_readings_that_a_slope_wants(tmp_path: Path) -> None:
    """At one reading in 10 s a window of 30 s would hold three; it is widened to fifteen periods."""
    text = PLANT.replace("        source: tank-farm\n", "        source: tank-farm\n        period_ms: 10000\n", 1)
    point = load_plant(folder_of(tmp_path, text)).points[0]
    windows = {d.kind.value: d.window_s for d in point.definitions if d.window_s}
    assert windows == {"rate": 150.0, "time-to-limit": 150.0}
    assert definition_texts(point)["stale"][2] == 50.0


def test_a_setting_of_the_plant_file_goes_before_the_standard_and_drops_its_clause(tmp_path: Path) -> None:
    """An own set point is nobody's clause; an own delay leaves the clause in its place."""
    point = point_of(
        tmp_path,
        'kind: toxic-gas, cas: "7664-41-7", alarms: {H: {setpoint: 20, priority: critical}, HH: {on_delay_s: 3}}',
    )
    level_2, level_1 = point.definitions[:2]
    assert (level_1.setpoint, level_1.priority, level_1.clause) == (20.0, Priority.CRITICAL, None)
    assert (level_2.setpoint, level_2.on_delay_s) == (56.0, 3.0)
    assert level_2.clause is not None
    assert "GB/T 50493-2019 5.5.2" in level_2.clause.en


def lines_cut(text: str) -> st.SearchStrategy[str]:
    """`text` with some of its lines gone, doubled or moved."""
    lines = text.splitlines(keepends=True)
    return st.lists(st.sampled_from(range(len(lines))), max_size=len(lines)).map(
        lambda chosen: "".join(lines[number] for number in chosen)
    )


WORDS: Final = st.sampled_from(
    [
        *("", "[]", "{}", "~", "-1", "1e999", ".nan", "true", "x", "[1, 2, 3]", "{a: b}", "'", "&a", "*a", "!!int x"),
        *("9" * 21, "points", "2027-13-45", "- - -", "? x", "%YAML 1.1", "0x", "é", "\U0001f525", "../..", "\x00"),
    ]
)


@st.composite
def mutants(draw: st.DrawFn, text: str) -> str:
    """`text` with words of it exchanged, torn out or written twice."""
    if draw(st.integers(0, 9)) == 0:
        return draw(lines_cut(text))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 3, 10, 60])))
        text = text[:start] + draw(st.one_of(WORDS, st.text(max_size=3), st.just(text[start:end] * 2))) + text[end:]
    return text


def load_or_refuse(folder: Path) -> Plant | None:
    """The plant, or None after a PlantError that keeps its promises."""
    try:
        return load_plant(folder)
    except PlantError as error:
        problems = error.problems
    assert problems
    assert all(problem.line >= 1 and "\n" not in str(problem) for problem in problems)
    return None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plant=mutants(PLANT), points=st.one_of(st.just(CSV), mutants(CSV)))
@example(plant=PLANT.replace("Asia/Shanghai", '"a\\0b"'), points=CSV)
@example(plant=PLANT.replace("port: 502", "port: " + "9" * 30), points=CSV)
@example(plant=PLANT, points=CSV.replace("0,32,1", "-1e308,1e308,1e300"))
def test_no_plant_however_mangled_raises_anything_else(plant: str, points: str, tmp_path: Path) -> None:
    """`load_plant` answers with a plant or a PlantError; each problem has a line and is one line."""
    load_or_refuse(folder_of(tmp_path, plant.encode("utf-8", "surrogatepass"), points.encode("utf-8", "surrogatepass")))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plant=st.binary(max_size=200), points=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(plant: bytes, points: bytes, tmp_path: Path) -> None:
    """Not even bytes that are no text."""
    load_or_refuse(folder_of(tmp_path, plant, points))
    load_or_refuse(folder_of(tmp_path, PLANT, points))
