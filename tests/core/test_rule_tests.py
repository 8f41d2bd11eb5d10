"""Rule tests: what the short notation means, what a run sees, and how a file that does not hold is refused."""

from math import isnan
from pathlib import Path
from typing import Final

import pytest

from tocsin_core.plant import Plant, load_plant
from tocsin_core.readings import BAD, BAD_SENSOR_FAILURE, GOOD, UNCERTAIN, UNCERTAIN_LAST_USABLE
from tocsin_core.rule_tests import Outcome, RuleTestError, draw, parse, run
from tocsin_core.rule_tests.notation import NotationError, Window, duration_ns, seconds_text, series, windows

SECOND: Final = 1_000_000_000
HEAD: Final = """\
rule_tests: 1
points:
  - {id: P, name: 压力, kind: pressure, alarms: {H: {setpoint: 1, off_delay_s: 0}, time-to-limit: false}}
tests:
  - name: one
"""


def places(text: str, interval_s: float = 1.0) -> list[tuple[int, float]]:
    """Place and value of the readings of a series."""
    return [(sample.place, sample.value) for sample in series(text, interval_s, 10.0, "seed").samples]


def no_plant(folder: str) -> Plant:
    """A test with its own points opens no plant."""
    raise AssertionError(folder)


def outcome_of(body: str) -> Outcome:
    """Run the one test of a file whose plant is a pressure limit at 1."""
    (case,) = parse(HEAD + body, "p.yaml", no_plant)
    return run(case)


def failures_of(body: str) -> list[str]:
    """What failed in it."""
    return [str(failure) for failure in outcome_of(body).failures]


def problems_of(text: str) -> list[str]:
    """Why a file is refused."""
    with pytest.raises(RuleTestError) as refused:
        parse(text, "p.yaml", no_plant)
    return [str(problem) for problem in refused.value.problems]


def test_a_value_repeats_and_a_ramp_climbs() -> None:
    """`VxN` is N readings, `A+BxN` N readings from A on, each step exactly as it is written."""
    assert places("5 0x2 19+0.1x6 1-0.5x3") == [
        (0, 5), (1, 0), (2, 0), (3, 19), (4, 19.1), (5, 19.2), (6, 19.3), (7, 19.4), (8, 19.5),
        (9, 1), (10, 0.5), (11, 0),
    ]  # fmt: skip


def test_signs_and_exponents() -> None:
    """A number may be negative and may have an exponent without becoming a ramp."""
    assert places("-5 -1+2x2 1e-3 1e-3-1e-3x2") == [(0, -5), (1, -1), (2, 1), (3, 0.001), (4, 0.001), (5, 0)]


def test_a_gap_has_no_readings() -> None:
    """`_` takes time and gives nothing; it counts for the length."""
    assert places("1 _x3 2 _") == [(0, 1), (4, 2)]
    assert series("1 _x3", 1.0, None, "").length == 4


def test_stale_is_silence_until_the_alarm_stands() -> None:
    """After 10 s, and a second for the tick that finds it, in intervals of whatever length."""
    assert places("1 stale 2") == [(0, 1), (12, 2)]
    assert places("1 stale 2", 0.5) == [(0, 1), (23, 2)]


def test_qualities() -> None:
    """Bad has no value; uncertain has one; both may give OPC's reason."""
    samples = series("bad bad(sensor-failure)x2 uncertain(3) uncertain(-4,last-usable-value)", 1.0, None, "").samples
    assert [sample.quality for sample in samples] == [
        BAD, BAD_SENSOR_FAILURE, BAD_SENSOR_FAILURE, UNCERTAIN, UNCERTAIN_LAST_USABLE,
    ]  # fmt: skip
    assert [isnan(sample.value) for sample in samples] == [True, True, True, False, False]
    assert samples[4].value == -4


def test_noise_is_the_same_each_time_and_another_for_each_series() -> None:
    """Noise has the deviation it is given, is reproducible, and differs from seed to seed."""
    first = [sample.value for sample in series("20~0.5x2000", 1.0, None, "a").samples]
    assert first == [sample.value for sample in series("20~0.5x2000", 1.0, None, "a").samples]
    assert first != [sample.value for sample in series("20~0.5x2000", 1.0, None, "b").samples]
    mean = sum(first) / len(first)
    deviation = (sum((value - mean) ** 2 for value in first) / len(first)) ** 0.5
    assert abs(mean - 20) < 0.05
    assert 0.47 < deviation < 0.53
    assert all(sample.quality == GOOD for sample in series("20~0.5x5", 1.0, None, "a").samples)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one word"),
        ("5 y", "'y' is none of"),
        ("1+2", "1+2x10"),
        ("5x0", "at least once"),
        ("5x2000000", "at most 1000000"),
        ("bad(tired)", "no reason 'tired'; there are: configuration, not-connected"),
        ("uncertain", "is none of"),
        ("stalex3", "write _xN"),
        ("nan", "is none of"),
        ("1e400", "beyond 1e+100"),
        ("0+1e101x2", "beyond 1e+100"),
        ("1~1e308x5", "beyond 1e+100"),
        ("uncertain(-1e999999999)", "beyond 1e+100"),
    ],
)
def test_a_word_outside_the_notation_is_refused(text: str, said: str) -> None:
    """Each with what was expected of it."""
    with pytest.raises(NotationError, match=said.replace("+", r"\+")):
        series(text, 1.0, 10.0, "")


def test_stale_needs_an_alarm() -> None:
    """How long it takes is the point's own alarm's to say."""
    with pytest.raises(NotationError, match="no stale alarm"):
        series("stale", 1.0, None, "")


def test_times() -> None:
    """Lengths and windows as people write them."""
    assert [duration_ns(text) / SECOND for text in ("40s", "1m30s", "2h", "500ms", "1h1m1.5s", 40, 0.5)] == [
        40, 90, 7200, 0.5, 3661.5, 40, 0.5,
    ]  # fmt: skip
    assert windows("8s") == (Window(8 * SECOND, 8 * SECOND),)
    assert windows(["8s", "7s..1m"]) == (Window(8 * SECOND, 8 * SECOND), Window(7 * SECOND, 60 * SECOND))
    assert windows("never") == ()
    assert [seconds_text(time) for time in (0, 40 * SECOND, 500_000_000)] == ["0s", "40s", "0.5s"]


def test_a_series_ends_within_a_year() -> None:
    """What is longer would be played second by second, or leave the range of a time."""
    with pytest.raises(NotationError, match="8784h"):
        series("1x9000", 3600.0, 10.0, "")


@pytest.mark.parametrize("wrong", ["99999999h", "", "40", "s", "-1s", "1s1m", True, -1, None, "9s..8s", []])
def test_what_is_no_time_is_refused(wrong: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(NotationError):
        windows([wrong])


def test_a_case_that_holds_passes() -> None:
    """Windows, moments and commands that are met leave no failure."""
    body = """\
    series: {P: "0x5 1x5 0x5"}
    commands: [{at: 7s, do: ack, alarm: P/H, who: li}]
    checks:
      - {at: 4s, exactly: []}
      - {at: 5s, exactly: [{alarm: P/H, phase: unacknowledged}]}
      - {at: 7s, expect: [{alarm: P/H, phase: acknowledged}]}
    alarms:
      P/H: {raised: 4s..6s, returned: 10s}
"""
    assert failures_of(body) == []


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("alarms: {P/H: {raised: 6s}}", "p.yaml:7: P/H is raised: expected 6s, seen 5s"),
        ("alarms: {P/H: {raised: never}}", "p.yaml:7: P/H is raised: expected never, seen 5s"),
        ("alarms: {P/H: {raised: [5s, 9s]}}", "p.yaml:7: P/H is raised: expected 5s, 9s, seen 5s"),
        ("alarms: {P/H: {returned: 9s..9.5s}}", "p.yaml:7: P/H returns: expected 9s..9.5s, seen 10s"),
        ("alarms: {P/bad: {raised: 1s}}", "p.yaml:7: P/bad is raised: expected 1s, seen never"),
        (
            "checks: [{at: 6s, expect: [{alarm: P/H, phase: acknowledged}]}]",
            "p.yaml:7: P/H at 6s: expected acknowledged, is unacknowledged",
        ),
        ("checks: [{at: 4s, expect: [{alarm: P/H}]}]", "p.yaml:7: P/H at 4s: expected active, is normal"),
        (
            "checks: [{at: 6s, expect: [{alarm: P/H, shelved: true}]}]",
            "p.yaml:7: P/H at 6s: expected shelved, is not shelved",
        ),
        ("checks: [{at: 6s, exactly: []}]", "p.yaml:7: at 6s also active: P/H (unacknowledged)"),
        (
            "commands: [{at: 2s, do: ack, alarm: P/H}]\n    checks: [{at: 2s, exactly: []}]",
            "p.yaml:7: ack of P/H at 2s was refused: the alarm is not active; expected to be carried out",
        ),
        (
            "commands: [{at: 6s, do: ack, alarm: P/H, refused: the alarm is not active}]",
            "p.yaml:7: ack of P/H at 6s was carried out; expected refusal: the alarm is not active",
        ),
    ],
)
def test_what_differs_is_told_with_its_line(expected: str, said: str) -> None:
    """Expected and seen stand side by side, with the line of the file."""
    assert failures_of(f'    series: {{P: "0x5 1x5 0x5"}}\n    {expected}\n') == [said]


def test_one_moment_has_an_order() -> None:
    """At one moment the clock ticks, readings come, people act, and then the checks look."""
    body = """\
    series: {P: "0 1"}
    commands: [{at: 1s, do: ack, alarm: P/H}]
    checks: [{at: 1s, exactly: [{alarm: P/H, phase: acknowledged}]}]
"""
    assert failures_of(body) == []


def test_a_check_between_readings_sees_what_was_before_it() -> None:
    """Half a second before the reading that raises, nothing stands."""
    body = """\
    series: {P: "0x5 1x5"}
    checks: [{at: 4.5s, exactly: []}, {at: 5.5s, exactly: [{alarm: P/H}]}]
"""
    assert failures_of(body) == []


def test_time_goes_on_after_the_last_reading() -> None:
    """A point whose series has ended is silent, and a later check sees that."""
    assert failures_of('    series: {P: "0"}\n    checks: [{at: 10s, exactly: [{alarm: P/stale}]}]\n') == []


def test_points_without_a_series_are_not_in_the_test() -> None:
    """Their silence is nobody's finding."""
    text = HEAD.replace("\ntests:", "\n  - {id: Q, name: 另一个, kind: pressure}\ntests:")
    (case,) = parse(f'{text}    series: {{P: "0x30"}}\n    checks: [{{at: 29s, exactly: []}}]\n', "p.yaml", no_plant)
    assert run(case).passed


def test_the_picture_shows_readings_expected_and_seen() -> None:
    """One column a second: digits of the span, the window, and the phases."""
    outcome = outcome_of('    series: {P: "0x5 bad 1x5 _ 0x4"}\n    alarms: {P/H: {raised: 5s..6s, returned: 13s}}\n')
    rows = [line.split(maxsplit=2)[-1] if line[0] != " " else line.split(maxsplit=1)[-1] for line in draw(outcome)[1:]]
    assert [line[39:] for line in draw(outcome)] == [
        "0s" + "15s".rjust(14), "00000!99999_0000", "     ^^      v", "......######~~~~",
    ]  # fmt: skip
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("rule_tests: [", ["p.yaml:1: not YAML: expected the node content, but found '<stream end>'"]),
        ("rule_tests: 2\ntests: []\n", ["p.yaml:1: rule_tests: should be 1", "p.yaml:2: tests: is empty"]),
        (
            HEAD + '    serie: {P: "1"}\n',
            ["p.yaml:5: tests[0].series: is missing", "p.yaml:6: tests[0].serie: unknown key"],
        ),
        (
            HEAD + "    series: {P: 0x5}\n    alarms: {P/H: {raised: 1s}}\n",
            ["p.yaml:6: tests[0].series.P: put the series in quotes: YAML takes this one for a number"],
        ),
        (
            HEAD + '    series: {P: "1 y"}\n    alarms: {P/H: {raised: soon}}\n',
            ["p.yaml:7: tests[0].alarms.P/H.raised: 'soon' is no time: write 40s, 1m30s, 2h or 500ms"],
        ),
        (
            HEAD + '    series: {Q: "1"}\n    alarms: {P/HH: {raised: 1s}}\n',
            [
                "p.yaml:6: tests[0].series.Q: no point 'Q'; there are: P",
                "p.yaml:7: tests[0].alarms.P/HH: no alarm 'P/HH'; there are: P/H, P/bad, P/stale",
            ],
        ),
        (HEAD + '    series: {P: "1"}\n', ["p.yaml:5: tests[0]: it expects nothing: give checks or alarms"]),
        (
            HEAD + '    series: {P: "1"}\n    checks:\n      - {at: 1s}\n',
            ["p.yaml:8: tests[0].checks[0]: give either expect (at least these) or exactly (no other)"],
        ),
        (
            HEAD + '    series: {P: "1"}\n    checks: [{at: 1s, expect: [{alarm: P/H, phase: [normal]}]}]\n',
            [
                (
                    "p.yaml:7: tests[0].checks[0].expect[0].phase: should be one of normal, unacknowledged,"
                    " acknowledged, returned-unacknowledged, latched-unacknowledged, latched-acknowledged"
                )
            ],
        ),
        (
            HEAD + '    series: {P: "1"}\n    checks: [{at: 1s, expect: [{alarm: P/H, phase: angry}]}]\n',
            [
                (
                    "p.yaml:7: tests[0].checks[0].expect[0].phase: should be one of normal, unacknowledged,"
                    " acknowledged, returned-unacknowledged, latched-unacknowledged, latched-acknowledged"
                )
            ],
        ),
        (
            HEAD + '    series: {P: "1"}\n    commands: [{at: 1s, do: shelve, alarm: P/H, reason: x}]\n'
            "    checks: [{at: 1s, exactly: []}]\n",
            ["p.yaml:7: tests[0].commands[0]: shelve says for how long (for: 1h), and no other command does"],
        ),
        (
            HEAD + '    series: {P: "1"}\n    commands: [{at: 1s, do: ack, alarm: P/H, once: true}]\n'
            "    checks: [{at: 1s, exactly: []}]\n",
            ["p.yaml:7: tests[0].commands[0].once: only shelve is for once"],
        ),
        (
            HEAD.replace("setpoint: 1,", "setpoint: 99,") + '    series: {P: "1"}\n',
            ["p.yaml:3: points[0].alarms.H: setpoint 99 lies outside the range 0 to 2.5: it would never be seen"],
        ),
        (
            HEAD.replace("points:\n", "plant: x\npoints:\n") + '    series: {P: "1"}\n',
            ["p.yaml:1: give either plant (a folder) or points (a list as in plant.yaml)"],
        ),
        (
            HEAD + '    series: {P: "1"}\n    checks: [{at: 1s, exactly: []}]\n  - name: one\n'
            '    series: {P: "1"}\n    checks: [{at: 1s, exactly: []}]\n',
            ["p.yaml:8: tests[1].name: a test of this name stands in line 5"],
        ),
    ],
)  # fmt: skip
def test_a_file_that_does_not_hold_is_refused_with_its_lines(text: str, problems: list[str]) -> None:
    """Every problem is told with file, line and path."""
    assert problems_of(text) == problems


def test_a_series_of_a_point_is_needed_to_say_something_of_its_alarms() -> None:
    """An expectation of a point that has no readings would hold or fail for no reason."""
    text = HEAD.replace("\ntests:", "\n  - {id: Q, name: 另一个, kind: oxygen}\ntests:")
    said = problems_of(f'{text}    series: {{P: "0"}}\n    alarms: {{Q/H: {{raised: never}}}}\n')
    assert said == ["p.yaml:8: tests[0].alarms.Q/H: the test has no series of Q, so nothing is known of Q/H"]


def test_a_plant_folder_can_be_named(tmp_path: Path) -> None:
    """The tests then run on the rules of that plant; its problems are told at the line that names it."""
    text = 'rule_tests: 1\nplant: here\ntests:\n  - {name: a, series: {P: "0 2"}, alarms: {P/H: {raised: 1s}}}\n'
    plant = """\
tocsin: 1
site: {id: s, name: s}
gateways:
  - id: g
    external: true
    devices: [{id: d, points: [{id: P, name: p, kind: pressure, alarms: {H: {setpoint: 1}}}]}]
"""

    def open_plant(folder: str) -> Plant:
        assert folder == "here"
        return load_plant(tmp_path)

    (tmp_path / "plant.yaml").write_text(plant, encoding="utf-8")
    (case,) = parse(text, "p.yaml", open_plant)
    assert run(case).passed
    (tmp_path / "plant.yaml").write_text(plant.replace("tocsin: 1", "tocsin: 7"), encoding="utf-8")
    with pytest.raises(RuleTestError, match=r"^p.yaml:2: plant: plant.yaml:1: tocsin: should be 1 \(given: 7\)$"):
        parse(text, "p.yaml", open_plant)


DESIGN: Final = """\
rule_tests: 1
points:
  - {id: ON, name: 运行, kind: status}
  - id: P
    name: 压力
    kind: generic
    alarms: {H: {setpoint: 1, deadband: 0, off_delay_s: 0, suppressed_by: {point: ON, equals: 0}}}
  - {id: Q, name: 压力二, kind: generic}
computed:
  - {id: V, name: 表决, from: {rule: vote, of: [P, Q], need: 2}, alarms: {H: {setpoint: 1, deadband: 0, on_delay_s: 0}}}
first_out:
  - {id: G, name: 组, alarms: [P/H, V/H]}
tests:
  - name: one
"""


def outcome_by_design(body: str) -> list[str]:
    """What failed in the one test of a plant with suppression by design, a vote and a group."""
    (case,) = parse(DESIGN + body, "d.yaml", no_plant)
    return [str(failure) for failure in run(case).failures]


def test_suppression_by_design_is_looked_at() -> None:
    """`suppressed` is what the trigger says, and differs with a line where it is otherwise."""
    body = """\
    series: {ON: "1x3 0x3 1x3", P: "2x9"}
    checks:
      - {at: 2s, expect: [{alarm: P/H, suppressed: false}]}
      - {at: 4s, expect: [{alarm: P/H, phase: unacknowledged, suppressed: true}]}
      - {at: 7s, expect: [{alarm: P/H, suppressed: false}]}
      - {at: 8s, expect: [{alarm: P/H, suppressed: true}]}
"""
    assert outcome_by_design(body) == ["d.yaml:20: P/H at 8s: expected suppressed, is not suppressed"]


def test_the_reason_of_a_raising_is_compared() -> None:
    """Part of it is enough, an empty one means that there is none; each raising is held against it."""
    body = """\
    series: {ON: "1x6", P: "0x2 2 0 2x2", Q: "0x2 2x4"}
    commands:
      - {at: 2s, do: ack, alarm: P/H}
      - {at: 2s, do: ack, alarm: V/H}
    alarms:
      P/H: {raised: [2s, 4s], reason: first out of G}
      V/H: {raised: [2s, 4s], reason: ""}
"""
    assert outcome_by_design(body) == []
    wrong = body.replace("first out of G", "first out of H").replace('""', "1oo1")
    assert outcome_by_design(wrong) == [
        f"d.yaml:{line}: {alarm} is raised at {at}: expected reason {wanted!r}, seen {seen!r}"
        for line, alarm, wanted, seen in (
            (20, "P/H", "first out of H", "first out of G"),
            (21, "V/H", "1oo1", ""),
        )
        for at in ("2s", "4s")
    ]
    assert outcome_by_design(body.replace("first out of G", '""'))[0].startswith("d.yaml:20: P/H is raised at 2s: ")


def test_a_computed_reading_is_of_the_moment_of_its_members() -> None:
    """The nanosecond by which the engine keeps two of one moment apart is no difference."""
    body = """\
    series: {P: "0x5 2x5", Q: "0x5 2x5"}
    alarms:
      V/H: {raised: 5s}
"""
    assert outcome_by_design(body) == []
    (case,) = parse(DESIGN + body, "d.yaml", no_plant)
    (told,) = [each for each in run(case).transitions if case.rules.definitions[each.definition].point == "V"]
    assert told.time_ns % SECOND == 1
