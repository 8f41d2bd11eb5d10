"""What the plant file says of MQTT sensors and of report by exception, and what it refuses."""

from pathlib import Path
from typing import Final

import pytest

from tocsin_core.plant import PlantError, load_plant
from tocsin_core.sensors import Kind

PLANT: Final = """\
tocsin: 1
site: {{id: site, name: site}}
gateways:
  - id: gw
    sensors: {sensors}
    devices:
      - id: S-1
        mqtt: {mqtt}
        points:
          - {{id: P, name: P, kind: generic, range: [0, 100], field: {field}{point}}}
          - {{id: Q, name: Q, kind: generic, range: [0, 100], field: q}}
{more}
"""


def problems(folder: Path, **parts: str) -> list[str]:
    """Give the problems of the plant with these parts, without file and line but for the first."""
    given = {"sensors": "{}", "mqtt": "{topic: t}", "field": "p", "point": "", "more": "", **parts}
    (folder / "plant.yaml").write_text(PLANT.format(**given), encoding="utf-8")
    try:
        load_plant(folder)
    except PlantError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "parts",
    [
        {"mqtt": "{topic: site/+/gas, name: '7', time: a.t, words: {alarm: 1}, time_window_s: [10, 5]}"},
        {"mqtt": "{topic: t, offline: {topic: t/status}}", "field": "'a[0][\"b.c\"]'"},
        {"mqtt": "{topic: a/+, offline: {topic: b/+, payload: gone}}", "field": "''"},
        {"mqtt": "{topic: spBv1.0/net/+/node/dev}", "field": "'Gas/H2S [ppm]'"},
        {"sensors": "{port: 1884, host_local: true}"},
        {"sensors": "{host: 0.0.0.0, port: 1884, host_local: true, username: u, password: p}"},
        {"point": ", report: {deadband: 0.5, longest_s: 5}"},
        {"point": ", report: {deadband: 0, longest_s: 3600}, alarms: {stale: false}"},
    ],
)
def test_what_may_be_said_of_a_sensor(parts: dict[str, str], tmp_path: Path) -> None:
    """Wildcards with a name, paths, words, wills, Sparkplug, a broker of its own, report by exception."""
    assert problems(tmp_path, **parts) == []


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"mqtt": "{topic: 'a/#/b'}"}, "plant.yaml:8: gateways[0].devices[0].mqtt.topic: # stands alone"),
        ({"mqtt": "{topic: spBv1.0/net/DDATA/node/dev}"}, "mqtt.topic: a Sparkplug sensor's topic is"),
        ({"mqtt": "{topic: spBv1.0/net/+/node/dev, time: t}"}, "mqtt: Sparkplug has its own times"),
        ({"mqtt": "{topic: spBv1.0/site/+/gw/dev}"}, "mqtt.topic: this is what the gateway itself publishes"),
        ({"mqtt": "{topic: t, time: 'a..b'}"}, "mqtt.time: sign 3"),
        ({"mqtt": "{topic: t, name: x}"}, "mqtt: a topic without wildcards has no use for a name"),
        ({"mqtt": "{topic: t, offline: {topic: a/+}}"}, "mqtt: the wildcards of the will's topic stand for nothing"),
        ({"mqtt": "{topic: t, words: {Alarm: 1, alarm: 2}}"}, "mqtt: the same word stands twice"),
        ({"mqtt": "{topic: t, time_window_s: [10, -1]}"}, "mqtt.time_window_s[1]: "),
        ({"field": "'a[x]'"}, "plant.yaml:10: gateways[0].devices[0].points[0].field: no path into JSON: sign 2"),
        ({"mqtt": "{topic: spBv1.0/net/+/node}", "field": "''"}, "field: the field of a Sparkplug sensor is"),
        ({"sensors": "{host_local: true}"}, "gateways[0]: the broker that it runs for its sensors cannot be"),
        (
            {"sensors": "{host: 0.0.0.0, port: 1884, host_local: true}"},
            "plant.yaml:5: gateways[0].sensors: a broker that others can reach asks for a username",
        ),
    ],
)
def test_what_is_wrong_with_a_sensor_is_told_with_its_line(parts: dict[str, str], said: str, tmp_path: Path) -> None:
    """Bad topics, paths, words and brokers are problems of the plant file, not of the first message."""
    found = problems(tmp_path, **parts)
    assert any(said in each for each in found), found


REPORT: Final = ", report: {deadband: 0.5, longest_s: 5}"


@pytest.mark.parametrize(
    ("point", "more", "said"),
    [
        (", alarms: {H: {setpoint: 80}}, report: {deadband: 0.5, longest_s: 5}", "", "look at its value (H)"),
        (
            ", alarms: {rate: {setpoint: 5}, stuck: {}}, report: {deadband: 0, longest_s: 5}",
            "",
            "look at its value (rate, stuck)",
        ),
        (", report: {deadband: 0.5, longest_s: 5.5}", "", "longest_s: the point is stale after 10 s: at most 5"),
        (
            ", report: {deadband: 0.5, longest_s: 5}, alarms: {stale: {after_s: 6}}",
            "",
            "longest_s: the point is stale after 6 s: at most 3",
        ),
        (
            REPORT,
            "computed: [{id: M, name: M, from: {rule: spread, of: [P, Q]}}]",
            "report: M is worked out of the point",
        ),
        (
            REPORT,
            "          - {id: R, name: R, kind: generic, field: r, status: {point: P, flags: {warm_up: [1]}}}",
            "report: the state of R is worked out of the point",
        ),
        (
            REPORT,
            (
                "          - {id: R, name: R, kind: generic, field: r, range: [0, 9], alarms:"
                " {H: {setpoint: 8, suppressed_by: {point: P, above: 1}}}}"
            ),
            "report: what suppresses R/H is worked out of the point",
        ),
        (", report: {deadband: -1, longest_s: 5}", "", "report.deadband: "),
        (", report: {deadband: 1}", "", "report.longest_s: is missing"),
    ],
)
def test_what_an_alarm_looks_at_is_reported_whole(point: str, more: str, said: str, tmp_path: Path) -> None:
    """Report by exception is refused wherever what is left out could change an alarm, a vote or a suppression."""
    found = problems(tmp_path, point=point, more=more)
    assert any(said in each for each in found), found


def test_a_gas_sensor_is_reported_whole(tmp_path: Path) -> None:
    """The limits that its kind brings look at its value too, without anybody having written them down."""
    point = ", cas: '7664-41-7', report: {deadband: 0, longest_s: 5}"
    text = PLANT.format(sensors="{}", mqtt="{topic: t}", field="p", point=point, more="")
    gas = text.replace("id: P, name: P, kind: generic", "id: P, name: P, kind: toxic-gas")
    (tmp_path / "plant.yaml").write_text(gas)
    with pytest.raises(PlantError, match="look at its value"):
        load_plant(tmp_path)


def test_an_external_gateway_decides_itself(tmp_path: Path) -> None:
    """What is not ours cannot be told to leave readings out."""
    text = (
        "tocsin: 1\nsite: {id: site, name: site}\ngateways:\n  - id: gw\n    external: true\n    devices:\n"
        "      - {id: D, points: [{id: P, name: P, kind: generic, report: {deadband: 0, longest_s: 5}}]}\n"
    )
    (tmp_path / "plant.yaml").write_text(text)
    with pytest.raises(PlantError, match="an external gateway decides itself"):
        load_plant(tmp_path)


PAGE: Final = (Path(__file__).parents[2] / "docs" / "sensors.md").read_text(encoding="utf-8")
EXAMPLES: Final = [
    line.partition("#  ")[0].partition("   # ")[0].strip()
    for block in PAGE.split("```yaml\n")[1:]
    for line in block.split("```")[0].splitlines()
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_pages_examples_are_valid(example: str, tmp_path: Path) -> None:
    """Each line of docs/sensors.md passes as the setting that it is."""
    key, _, value = example.partition(": ")
    parts = {"point": f", report: {value}"} if key == "report" else {key: value}
    assert problems(tmp_path, **parts) == []


@pytest.mark.parametrize(
    "kind", [*Kind, "empty", "retained", "repeated", "gone", "silent", "unknown", "refused", "lost"]
)
def test_the_page_tells_of_each_counter(kind: str) -> None:
    """Whatever is counted is explained."""
    assert f"`{kind}`" in PAGE
