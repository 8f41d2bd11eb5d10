"""What the engine says of a raising, taken apart and told to people."""

import pytest

from tocsin_cloud.loops.reasons import Because, Contribution, because, with_reasons
from tocsin_core.plant.fields import name_of

GROUPS = {"tank-first": name_of("罐区首出", "Tank farm")}
MESSAGE = name_of("氨 高报", "Ammonia: high")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (None, None),
        ("", None),
        ("1oo2", Because(vote="1oo2")),
        ("first out of a; first out of b", Because(first_out=("a", "b"))),
        ("P-1 60 %, P2.x 25 %", Because(contributions=(Contribution("P-1", 60), Contribution("P2.x", 25)))),
        ("P7; first out of a", Because(("a",), None, (Contribution("P7", None),))),
        ("in words that a newer engine has", None),
    ],
)
def test_a_reason_is_taken_apart(reason: str | None, told: Because | None) -> None:
    """Each part is known by its form; what is not known says nothing."""
    assert because(reason) == told


@pytest.mark.parametrize(
    ("reason", "zh", "en"),
    [
        ("", "氨 高报", "Ammonia: high"),
        (
            "1oo2; first out of tank-first",
            "氨 高报（首出：罐区首出；表决降级为 1oo2）",
            "Ammonia: high (first out: Tank farm; vote degraded to 1oo2)",
        ),
        ("A 60 %, B 25 %", "氨 高报（主要贡献测点：A 60 %、B 25 %）", "Ammonia: high (contributions: A 60 %, B 25 %)"),
        (
            "A; first out of gone",
            "氨 高报（首出：gone；偏离最大的测点：A）",
            "Ammonia: high (first out: gone; farthest off: A)",
        ),
    ],
)
def test_people_are_told_what_lay_behind_it(reason: str, zh: str, en: str) -> None:
    """Groups go by their names, points by their ids."""
    told = with_reasons(MESSAGE, because(reason), GROUPS)
    assert (told.zh, told.en) == (zh, en)
