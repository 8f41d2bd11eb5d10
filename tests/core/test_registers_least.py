"""No way of joining values into requests is cheaper than the plan's: not Telegraf's four, not any other."""

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_registers_plan import profile_of
from tocsin_core.registers import Profile, compile_plan
from tocsin_core.registers.requests import TCP, Line, Span

# Slow and fast: a request costs as much as 19, 20 and 51 registers.
LINES = (Line.serial(9600), TCP, Line.serial(115_200, turnaround_ms=5.0))


@st.composite
def few(draw: st.DrawFn) -> Profile:
    """Return a map of so few holding registers that every way of reading them can be tried."""
    places = draw(st.lists(st.integers(0, 90), min_size=1, max_size=6, unique=True))
    kinds = [draw(st.sampled_from(["u16", "f32", "f64"])) for _ in places]
    values = {f"v{place}": {"address": place, "type": kind} for place, kind in zip(places, kinds, strict=True)}
    widths = {"u16": 1, "f32": 2, "f64": 4}
    taken = {place + more for place, kind in zip(places, kinds, strict=True) for more in range(widths[kind])}
    bad = draw(st.lists(st.integers(0, 95), max_size=2))
    illegal = [{"function": 3, "first": address, "last": address} for address in bad if address not in taken]
    limits = {"registers": draw(st.integers(4, 125)), "gap": draw(st.none() | st.integers(0, 40))}
    return profile_of(values=values, illegal=tuple(illegal), limits=limits)


def partitions(spans: Sequence[Span]) -> Iterator[list[list[Span]]]:
    """Every way of sharing the spans out to requests."""
    if not spans:
        yield []
        return
    first, *others = spans
    for shared in partitions(others):
        yield [[first], *shared]
        for at in range(len(shared)):
            yield [*shared[:at], [first, *shared[at]], *shared[at + 1 :]]


def may_be_asked(profile: Profile, together: Sequence[Span], spans: Sequence[Span]) -> bool:
    """Whether one request may read these spans and what lies between them; said again in other words."""
    if len(together) == 1:
        return True
    first, stop = min(begin for begin, _ in together), max(end for _, end in together)
    if stop - first > profile.limits.registers or any(first <= bad.first < stop for bad in profile.illegal):
        return False
    wanted = {address for begin, end in spans if first <= begin and end <= stop for address in range(begin, end)}
    unwanted = longest = 0
    for address in range(first, stop):
        unwanted = 0 if address in wanted else unwanted + 1
        longest = max(longest, unwanted)
    return profile.limits.gap is None or longest <= profile.limits.gap


@given(few(), st.sampled_from(LINES))
def test_no_way_of_joining_is_cheaper(profile: Profile, line: Line) -> None:
    """Against all of them, one by one: what is said to be the least cost is the least."""
    spans = sorted({(value.address, value.address + value.words) for value in profile.values.values()})
    least = min(
        sum(
            line.request_ms + (max(end for _, end in each) - min(begin for begin, _ in each)) * line.register_ms
            for each in way
        )
        for way in partitions(spans)
        if all(may_be_asked(profile, each, spans) for each in way)
    )
    assert abs(compile_plan(profile, list(profile.values), line).cost_ms - least) < 1e-6
