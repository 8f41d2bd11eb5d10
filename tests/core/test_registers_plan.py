"""Read plans: few requests, all of them legal, and answers turned into values with an honest quality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core import readings as q
from tocsin_core.registers import Profile, ReadRequest, RegisterValue, Reply, compile_plan
from tocsin_core.registers.requests import REQUEST_COST, is_legal

HEAD = {"vendor": "test", "model": "test", "trust": "documented", "source": "this test"}


def profile_of(**parts: object) -> Profile:
    """Return a profile with these parts; the model is the parser's own."""
    return Profile.model_validate({**HEAD, **parts})


def words(*content: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Return an answer of these registers."""
    return np.array(content, dtype=np.uint16)


@st.composite
def maps(draw: st.DrawFn) -> Profile:
    """Return a random map: values anywhere, limits, and illegal ranges that touch no value."""
    count = draw(st.integers(1, 25))
    values: dict[str, RegisterValue] = {}
    for number in range(count):
        function = draw(st.sampled_from([1, 2, 3, 4]))
        kind = "bool" if function <= 2 else draw(st.sampled_from(["u16", "f32", "f64"]))
        address = draw(st.integers(0, 600))
        values[f"v{number}"] = RegisterValue.model_validate(
            {
                "function": function,
                "address": address,
                "type": kind,
                "bit": None,
            }
        )
    illegal = []
    for _ in range(draw(st.integers(0, 4))):
        function, first = draw(st.sampled_from([1, 2, 3, 4])), draw(st.integers(0, 600))
        last = first + draw(st.integers(0, 20))
        inside = [
            v for v in values.values() if v.function == function and v.address <= last and first < v.address + v.words
        ]
        if not inside:
            illegal.append({"function": function, "first": first, "last": last})
    limits = {"registers": draw(st.integers(4, 125)), "bits": draw(st.integers(1, 2000))}
    if draw(st.booleans()):
        limits["gap"] = draw(st.integers(0, 40))
    return profile_of(values=values, illegal=tuple(illegal), limits=limits)


@given(maps())
def test_what_tells_a_late_answer_apart_is_legal(profile: Profile) -> None:
    """Where there is such a question, the device may be asked it, and its answer fits no request that it is for."""
    plan = compile_plan(profile, list(profile.values))
    for request in plan.requests:
        other = plan.apart_from(request)
        if other is not None:
            assert is_legal(profile, other, ())
            assert other.function != request.function or other.data_bytes != request.data_bytes


def test_a_plan_names_a_question_that_tells_a_late_answer_apart() -> None:
    """A shorter one, else another one of its own, else a longer one, else none."""
    a, far = {"address": 0, "type": "u16"}, {"address": 300, "type": "f32"}
    limits = {"registers": 1}
    after = ({"function": 3, "first": 1, "last": 9},)
    for parts, request, expected in (
        ({"values": {"a": a}}, ReadRequest(3, 0, 5), ReadRequest(3, 0, 4)),
        ({"values": {"a": a, "far": far}, "illegal": after}, ReadRequest(3, 0, 1), ReadRequest(3, 300, 2)),
        ({"values": {"a": a}}, ReadRequest(3, 0, 1), ReadRequest(3, 0, 2)),
        ({"values": {"a": a}, "illegal": after}, ReadRequest(3, 0, 1), None),
        ({"values": {"a": a}, "limits": limits}, ReadRequest(3, 0, 1), None),
        ({"values": {"a": {"address": 65_535, "type": "u16"}}}, ReadRequest(3, 65_535, 1), None),
    ):
        profile = profile_of(**parts)
        assert compile_plan(profile, list(profile.values)).apart_from(request) == expected


@given(maps())
def test_a_plan_reads_everything_and_asks_for_nothing_illegal(profile: Profile) -> None:
    """Each value lies whole in one request; no request passes a limit, a gap or an illegal range."""
    requests = compile_plan(profile, list(profile.values)).requests
    for value in profile.values.values():
        assert any(
            r.function == value.function
            and r.address <= value.address
            and value.address + value.words <= r.address + r.count
            for r in requests
        )
    for r in requests:
        assert 1 <= r.count <= (profile.limits.bits if r.function <= 2 else profile.limits.registers)
        inside = [
            v
            for v in profile.values.values()
            if v.function == r.function and r.address <= v.address < r.address + r.count
        ]
        assert not any(
            bad.function == r.function and bad.first < r.address + r.count and r.address <= bad.last
            for bad in profile.illegal
        )
        if profile.limits.gap is not None:
            reach = r.address
            for value in sorted(inside, key=lambda v: v.address):
                assert value.address - reach <= profile.limits.gap
                reach = max(reach, value.address + value.words)


@given(maps())
def test_a_plan_costs_no_more_than_asking_one_by_one(profile: Profile) -> None:
    """Coalescing never makes it dearer."""

    def cost(request: ReadRequest) -> float:
        return REQUEST_COST + request.count / (16 if request.function <= 2 else 1)

    together = sum(map(cost, compile_plan(profile, list(profile.values)).requests))
    alone = sum(sum(map(cost, compile_plan(profile, [name]).requests)) for name in profile.values)
    assert together <= alone + 1e-9


def test_near_values_share_a_request_and_far_ones_do_not() -> None:
    """A gap of 18 registers is cheaper to read along than a request of about 20, one of 21 is not."""
    near = profile_of(values={"a": {"address": 0, "type": "u16"}, "b": {"address": 19, "type": "u16"}})
    far = profile_of(values={"a": {"address": 0, "type": "u16"}, "b": {"address": 22, "type": "u16"}})
    assert compile_plan(near, ["a", "b"]).requests == (ReadRequest(3, 0, 20),)
    assert compile_plan(far, ["a", "b"]).requests == (ReadRequest(3, 0, 1), ReadRequest(3, 22, 1))


def test_an_unknown_value_is_refused() -> None:
    """A name that the profile does not have never becomes a reading."""
    with pytest.raises(KeyError, match="missing"):
        compile_plan(profile_of(values={"a": {"address": 0, "type": "u16"}}), ["missing"])


GAS = {
    "gas": {"address": 0, "type": "f32"},
    "state": {"address": 40, "type": "u16"},
    "mode": {"address": 41, "type": "u16"},
}
RULES = (
    {"value": "state", "bit": 5, "quality": "sensor-failure", "affects": ["gas"]},
    {"value": "mode", "is_not_in": [1], "quality": "out-of-service", "affects": ["gas"]},
    {"value": "state", "bit": 4, "quality": "not-accurate", "affects": ["gas"]},
    {"value": "state", "bit": 7, "quality": "above-range", "affects": ["gas"]},
    {"value": "state", "bit": 6, "quality": "below-range", "affects": ["gas"]},
)


@pytest.mark.parametrize(
    ("state", "mode", "quality", "value"),
    [
        (0, 1, q.GOOD, 100.25),
        (0b0011, 1, q.GOOD, 100.25),
        (0b100000, 1, q.BAD_SENSOR_FAILURE, np.nan),
        (0, 12, q.BAD_OUT_OF_SERVICE, np.nan),
        (0b100000, 12, q.BAD_SENSOR_FAILURE, np.nan),
        (0b010000, 1, q.UNCERTAIN_SENSOR_NOT_ACCURATE, 100.25),
        (0b010000, 3, q.BAD_OUT_OF_SERVICE, np.nan),
        (0b10000000, 1, q.GOOD | q.LIMITED_HIGH, 100.25),
        (0b01000000, 1, q.GOOD | q.LIMITED_LOW, 100.25),
        (0b10010000, 1, q.UNCERTAIN_SENSOR_NOT_ACCURATE, 100.25),
        (0b10000000, 12, q.BAD_OUT_OF_SERVICE, np.nan),
    ],
)
def test_a_status_word_decides_the_quality(state: int, mode: int, quality: int, value: float) -> None:
    """The worst that a status says counts, and of two equal ones the first written; a bad value is no number."""
    plan = compile_plan(profile_of(values=GAS, status=RULES), ["gas"])
    decoded = plan.decode([words(0x42C8, 0x8000), words(state, mode)])
    assert decoded.quality.tolist() == [quality]
    np.testing.assert_equal(decoded.value, [value])


def test_a_value_without_its_status_is_uncertain() -> None:
    """When the status could not be read, nobody can vouch for the value."""
    plan = compile_plan(profile_of(values=GAS, status=RULES), ["gas", "state"])
    decoded = plan.decode([words(0x42C8, 0x8000), q.BAD_COMM_FAILURE])
    assert decoded.quality.tolist() == [q.UNCERTAIN, q.BAD_COMM_FAILURE]
    np.testing.assert_equal(decoded.value, [100.25, np.nan])


@pytest.mark.parametrize(
    ("register", "quality"),
    [
        (0x7FC0, q.BAD_SENSOR_FAILURE),
        (0x7F80, q.BAD_SENSOR_FAILURE | 0x02),
        (0xFF80, q.BAD_SENSOR_FAILURE | 0x01),
        (0x0000, q.GOOD),
    ],
)
def test_nan_and_infinity_are_bad_and_zero_is_zero(register: int, quality: int) -> None:
    """NaN is a channel error; an infinity says at which end the sensor is beyond its range; 0 is a measurement."""
    plan = compile_plan(profile_of(values={"p": {"address": 0, "type": "f32"}}), ["p"])
    decoded = plan.decode([words(register, 0)])
    assert decoded.quality.tolist() == [quality]
    assert np.isnan(decoded.value[0]) == (quality != q.GOOD)


def test_a_sentinel_is_no_measurement() -> None:
    """32767 of an s16 that means "no sensor" becomes bad, and the number beside it stays."""
    invalid = {"raw": [32767], "quality": "sensor-failure"}
    values = {"t": {"address": 0, "type": "s16", "invalid": invalid}, "u": {"address": 1, "type": "s16"}}
    decoded = compile_plan(profile_of(values=values), ["t", "u"]).decode([words(32767, 32767)])
    assert decoded.quality.tolist() == [q.BAD_SENSOR_FAILURE, q.GOOD]
    np.testing.assert_equal(decoded.value, [np.nan, 32767.0])


def test_each_code_has_its_own_meaning() -> None:
    """An overflow and an underflow of a 32-bit integer say different things, and the first one named counts."""
    codes = [
        {"raw": [2147483647], "quality": "not-connected"},
        {"raw": [-2147483648, 2147483647], "quality": "out-of-service"},
    ]
    profile = profile_of(values={"p": {"address": 0, "type": "s32", "invalid": codes, "scale": 0.01, "offset": 5}})
    plan = compile_plan(profile, ["p"])
    assert plan.decode([words(0x7FFF, 0xFFFF)]).quality.tolist() == [q.BAD_NOT_CONNECTED]
    assert plan.decode([words(0x8000, 0x0000)]).quality.tolist() == [q.BAD_OUT_OF_SERVICE]
    assert plan.decode([words(0, 1)]).value.tolist() == [5.01]


@pytest.mark.parametrize(
    ("kind", "code", "registers"),
    [
        ("f32", -999.9, [0xC479, 0xF99A]),
        ("f32", 9999, [0x461C, 0x3C00]),
        ("f64", -999.9, [0xC08F, 0x3F33, 0x3333, 0x3333]),
        ("u64", 2**64 - 1, [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF]),
        ("bcd16", 9999, [0x9999]),
        ("whole-tenths", 2559, [0xFF09]),
    ],
)
def test_every_type_has_its_codes(kind: str, code: float, registers: list[int]) -> None:
    """-999.9 in an f32 is no measurement either, although an f32 cannot hold it exactly."""
    profile = profile_of(values={"v": {"address": 0, "type": kind, "invalid": {"raw": [code]}, "scale": 2.0}})
    decoded = compile_plan(profile, ["v"]).decode([words(*registers)])
    assert decoded.quality.tolist() == [q.BAD_SENSOR_FAILURE]
    assert np.isnan(decoded.value[0])
    assert compile_plan(profile, ["v"]).decode([words(*[0] * len(registers))]).value.tolist() == [0.0]


@pytest.mark.parametrize(
    ("kind", "more", "code", "registers"),
    [
        ("s16", {}, 0x8000, [0x8000]),
        ("u16", {}, -1, [0xFFFF]),
        ("s32", {}, 0x80000000, [0x8000, 0]),
        ("s64", {}, 2**63, [0x8000, 0, 0, 0]),
        ("s16", {"bits": (0, 7)}, 0x80, [0x0180]),
    ],
)
def test_a_code_is_what_the_registers_hold_whatever_its_sign(
    kind: str, more: dict[str, object], code: int, registers: list[int]
) -> None:
    """0x8000, as manuals print it, is no measurement of a signed register either, nor as a code of its status."""
    values = {"v": {"address": 0, "type": kind, "invalid": {"raw": [code]}, "scale": 0.1, **more}}
    decoded = compile_plan(profile_of(values=values), ["v"]).decode([words(*registers)])
    assert decoded.quality.tolist() == [q.BAD_SENSOR_FAILURE]
    values = {"state": {"address": 0, "type": kind, **more}, "gas": {"address": 4, "type": "u16"}}
    rules = ({"value": "state", "is_in": [code], "quality": "bad", "affects": ["gas"]},)
    plan = compile_plan(profile_of(values=values, status=rules), ["gas"])
    assert plan.decode([words(*registers, *[0] * (4 - len(registers)), 7)]).quality.tolist() == [q.BAD]


def test_bits_of_a_signed_status_are_those_of_its_register() -> None:
    """The highest one, too, by its number or by a mask."""
    for test in ({"bit": 15}, {"mask": 0x8000, "is_in": [0x8000]}):
        values = {"state": {"address": 0, "type": "s16"}, "gas": {"address": 1, "type": "u16"}}
        rules = ({"value": "state", "quality": "bad", "affects": ["gas"], **test},)
        plan = compile_plan(profile_of(values=values, status=rules), ["gas"])
        assert [plan.decode([words(state, 7)]).quality.tolist() for state in (0x8001, 0x0001)] == [[q.BAD], [q.GOOD]]


def test_a_code_that_no_register_can_hold_is_no_other_number() -> None:
    """70000 is not what is left of it in 16 bits."""
    plan = compile_plan(profile_of(values={"v": {"address": 0, "type": "u16", "invalid": {"raw": [70000]}}}), ["v"])
    assert plan.decode([words(70000 - 65536)]).value.tolist() == [4464.0]


def test_an_answer_that_is_missing_is_no_code() -> None:
    """Where 0 means "no sensor", a device that does not answer is still one that does not answer."""
    codes = {"raw": [0], "quality": "not-connected"}
    plan = compile_plan(profile_of(values={"v": {"address": 0, "type": "u16", "invalid": codes}}), ["v"])
    assert plan.decode([q.BAD_COMM_FAILURE]).quality.tolist() == [q.BAD_COMM_FAILURE]
    assert plan.decode([words(0)]).quality.tolist() == [q.BAD_NOT_CONNECTED]


def test_a_discrete_input_decides_the_quality_of_a_register() -> None:
    """A level is out of date while the contact that says so is open; the two are read by different functions."""
    values = {
        "level": {"function": 4, "address": 3, "type": "u16", "scale": 0.001},
        "at_level": {"function": 2, "address": 12, "type": "bool"},
    }
    rules = [{"value": "at_level", "is_in": [0], "quality": "last-usable", "affects": ["level"]}]
    plan = compile_plan(profile_of(values=values, status=tuple(rules)), ["level"])
    assert plan.requests == (ReadRequest(2, 12, 1), ReadRequest(4, 3, 1))
    assert plan.decode([[False], words(15000)]).quality.tolist() == [q.UNCERTAIN_LAST_USABLE]
    assert plan.decode([[True], words(15000)]).quality.tolist() == [q.GOOD]
    assert plan.decode([[True], words(15000)]).value.tolist() == [15.0]


@pytest.mark.parametrize(
    ("code", "register", "holds"), [(0xFFFF, 0xFFFF, True), (0x8000, 0x8000, True), (0x8000, 0x7FFF, False)]
)
def test_a_status_code_may_have_every_bit_set(code: int, register: int, *, holds: bool) -> None:
    """All sixteen bits of an unsigned status count."""
    values = {"gas": {"address": 0, "type": "u16"}, "state": {"address": 1, "type": "u16"}}
    rules = ({"value": "state", "is_in": [code], "quality": "bad", "affects": ["gas"]},)
    decoded = compile_plan(profile_of(values=values, status=rules), ["gas"]).decode([words(1, register)])
    assert (decoded.quality.tolist() == [q.BAD]) == holds


def test_bit_63_of_a_status_is_a_bit() -> None:
    """The highest bit of a 64-bit status is not lost in a sign."""
    values = {"gas": {"address": 0, "type": "u16"}, "state": {"address": 1, "type": "u64"}}
    rules = ({"value": "state", "bit": 63, "quality": "bad", "affects": ["gas"]},)
    plan = compile_plan(profile_of(values=values, status=rules), ["gas"])
    assert plan.decode([words(1, 0x8000, 0, 0, 0)]).quality.tolist() == [q.BAD]
    assert plan.decode([words(1, 0x7FFF, 0, 0, 0)]).quality.tolist() == [q.GOOD]


@given(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["bad", "uncertain", "above-range"])), max_size=6),
    st.integers(0, 0xFFFF),
)
def test_many_rules_at_once_are_the_rules_one_by_one(rules: list[tuple[int, str]], state: int) -> None:
    """The columns of rules say what a person reading them from top to bottom would say."""
    values = {"gas": {"address": 0, "type": "u16"}, "state": {"address": 1, "type": "u16"}}
    written = tuple({"value": "state", "bit": bit, "quality": quality, "affects": ["gas"]} for bit, quality in rules)
    decoded = compile_plan(profile_of(values=values, status=written), ["gas"]).decode(
        [words(7, state) if rules else words(7)]
    )
    holding = [quality for bit, quality in rules if state >> bit & 1]
    worst = next((word for word in ("bad", "uncertain", "above-range") if word in holding), None)
    byte = {"bad": q.BAD, "uncertain": q.UNCERTAIN, "above-range": q.GOOD | q.LIMITED_HIGH, None: q.GOOD}[worst]
    assert decoded.quality.tolist() == [byte]


@pytest.mark.parametrize("answer", [words(1), words(1, 2, 3), words()])
def test_an_answer_of_the_wrong_length_is_a_comm_failure(answer: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> None:
    """Registers that were not asked for, or are missing, are never guessed."""
    decoded = compile_plan(profile_of(values={"p": {"address": 0, "type": "f32"}}), ["p"]).decode([answer])
    assert decoded.quality.tolist() == [q.BAD_COMM_FAILURE]
    assert np.isnan(decoded.value[0])


def test_bits_may_arrive_in_whole_bytes() -> None:
    """An answer to function 1 or 2 is filled up to eight bits."""
    values = {"a": {"function": 1, "address": 5, "type": "bool"}, "b": {"function": 1, "address": 7, "type": "bool"}}
    plan = compile_plan(profile_of(values=values), ["a", "b"])
    assert plan.requests == (ReadRequest(1, 5, 3),)
    decoded = plan.decode([[False, True, True, False, False, False, False, False]])
    assert decoded.value.tolist() == [0.0, 1.0]


def test_a_failed_request_spoils_only_its_own_values() -> None:
    """The reason why a request failed becomes the quality of what it would have read, and of nothing else."""
    values = {"a": {"address": 0, "type": "u16"}, "b": {"address": 500, "type": "u16"}}
    decoded = compile_plan(profile_of(values=values), ["b", "a"]).decode([words(7), q.BAD_DEVICE_FAILURE])
    assert decoded.quality.tolist() == [q.BAD_DEVICE_FAILURE, q.GOOD]
    np.testing.assert_equal(decoded.value, [np.nan, 7.0])


def test_decimals_may_be_a_byte_or_negative() -> None:
    """One place in the high byte of a register, and thousands as minus three places."""
    values = {
        "places": {"address": 0, "type": "u16", "bits": (8, 15)},
        "power": {"address": 1, "type": "s16"},
        "gas": {"address": 2, "type": "s16", "decimals_from": "places"},
        "flow": {"address": 3, "type": "u16", "decimals_from": "power"},
    }
    decoded = compile_plan(profile_of(values=values), ["gas", "flow"]).decode([words(0x0107, 0xFFFD, 209, 12)])
    assert decoded.value.tolist() == [20.9, 12000.0]


def test_decimals_that_could_not_be_read_leave_no_number() -> None:
    """Without its number of places a reading could be ten times what it is."""
    values = {
        "places": {"address": 500, "type": "u16"},
        "level": {"address": 1, "type": "s16", "decimals_from": "places"},
    }
    decoded = compile_plan(profile_of(values=values), ["level"]).decode([words(1234), q.BAD_COMM_FAILURE])
    assert decoded.quality.tolist() == [q.BAD_COMM_FAILURE]
    assert np.isnan(decoded.value[0])


@pytest.mark.parametrize(
    ("replies", "quality"),
    [
        ([words(1, 1234), words(0)], q.GOOD),
        ([words(1, 1234), words(1)], q.BAD_DEVICE_FAILURE),
        ([words(1, 1234), q.BAD_COMM_FAILURE], q.UNCERTAIN),
    ],
)
def test_what_is_said_of_the_decimals_is_said_of_what_they_scale(replies: list[Reply], quality: int) -> None:
    """A number of places that is worth nothing leaves no number; nobody has to name the readings as well."""
    values = {
        "places": {"address": 0, "type": "u16"},
        "level": {"address": 1, "type": "s16", "decimals_from": "places"},
        "state": {"address": 500, "type": "u16"},
    }
    rule = {"value": "state", "bit": 0, "quality": "device-failure", "affects": ("places",)}
    decoded = compile_plan(profile_of(values=values, status=(rule,)), ["level"]).decode(replies)
    assert decoded.quality.tolist() == [quality]
    assert np.isnan(decoded.value[0]) == (quality == q.BAD_DEVICE_FAILURE)


def test_decimals_that_make_a_number_endless_leave_none() -> None:
    """What no float holds any more is beyond the range, and never good."""
    values = {
        "places": {"address": 0, "type": "s16"},
        "level": {"address": 1, "type": "f64", "decimals_from": "places"},
    }
    large = np.array([1e308], dtype=">f8").view(">u2")
    decoded = compile_plan(profile_of(values=values), ["level"]).decode([words(0x10000 - 9, *large.tolist())])
    assert decoded.quality.tolist() == [q.BAD_SENSOR_FAILURE | q.LIMITED_HIGH]


@pytest.mark.parametrize(("places", "quality"), [(3, q.GOOD), (0, q.GOOD), (77, q.BAD_CONFIGURATION)])
def test_decimals_from_another_register_scale_the_value(places: int, quality: int) -> None:
    """1234 with three places is 1.234; a number of places that no device has is a wrong set-up."""
    values = {
        "places": {"address": 0, "type": "u16"},
        "level": {"address": 1, "type": "s16", "decimals_from": "places"},
    }
    decoded = compile_plan(profile_of(values=values), ["level"]).decode([words(places, 1234)])
    assert decoded.quality.tolist() == [quality]
    if quality == q.GOOD:
        assert decoded.value[0] == pytest.approx(1234 / 10**places)


def test_the_number_of_answers_must_fit() -> None:
    """A caller that loses an answer is told so."""
    plan = compile_plan(profile_of(values={"a": {"address": 0, "type": "u16"}}), ["a"])
    with pytest.raises(ValueError, match="2 replies to 1 requests"):
        plan.decode([words(1), words(2)])


def test_wanting_nothing_asks_nothing() -> None:
    """A device without points is not polled."""
    plan = compile_plan(profile_of(values={"a": {"address": 0, "type": "u16"}}), [])
    assert plan.requests == ()
    assert plan.decode([]).value.tolist() == []


@pytest.mark.parametrize(("gap", "requests"), [(4, 1), (3, 2)])
def test_a_device_that_minds_gaps_is_not_asked_across_them(gap: int, requests: int) -> None:
    """Four unwanted registers in a row are read along where the profile allows four, not where it allows three."""
    values = {"a": {"address": 0, "type": "u16"}, "b": {"address": 5, "type": "u16"}}
    assert len(compile_plan(profile_of(values=values, limits={"gap": gap}), ["a", "b"]).requests) == requests


@pytest.mark.parametrize(("function", "requests"), [(3, 2), (4, 1)])
def test_one_illegal_address_parts_two_values(function: int, requests: int) -> None:
    """A single forbidden register between two values makes two requests, if it is forbidden for their function."""
    values = {"a": {"address": 0, "type": "u16"}, "b": {"address": 2, "type": "u16"}}
    illegal = ({"function": function, "first": 1, "last": 1},)
    assert len(compile_plan(profile_of(values=values, illegal=illegal), ["a", "b"]).requests) == requests
