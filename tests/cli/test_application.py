"""What the command says to somebody who does not know its verbs yet."""

import pytest

from tocsin_cli.application import run_application
from tocsin_cli.main import VERBS

SOME = {name: VERBS[name] for name in ("check", "bench")}


def test_without_a_verb_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Each on a line of its own, and nothing is said to be wrong."""
    assert run_application(SOME, []) == 2
    out, err = capsys.readouterr()
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert (set(SOME) <= set(listed), err) == (True, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chekc"], "No such command 'chekc'. Did you mean 'check'? (`tocsin --help` lists them)"),
        (["bench"], "Missing command. (`tocsin bench --help` lists them)"),
        (["bench", "x"], "No such command 'x'. (`tocsin bench --help` lists them)"),
        (["check"], "Missing argument 'plant'."),
    ],
)
def test_a_verb_that_there_is_not_is_one_line_that_says_where_to_look(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other mistakes are said without it: they name what is wrong themselves."""
    assert run_application(SOME, arguments) == 2
    assert capsys.readouterr() == ("", f"tocsin: {told}\n")
