"""`tocsin gateway` with what a terminal in another encoding may hand over."""

from pathlib import Path

import pytest

from tests.cli.command import started
from tocsin_core.foreign import LONGEST_TEXT
from tocsin_edge.loops.alarm_report import wish_of

GBK = "校验".encode("gbk").decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "arguments",
    [("--reason", GBK), ("--who", GBK), (GBK,), ("--reason", "x" * (LONGEST_TEXT + 1))],
    ids=["reason", "who", "alarm", "long"],
)
def test_words_that_cannot_be_written_down_are_refused_in_a_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Before any gateway is asked, with the option's name and exit code 2."""
    (tmp_path / "gateways" / "gw").mkdir(parents=True)
    done = started("gateway", "ack", *arguments, "--data", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (arguments[0].lstrip("-") if len(arguments) > 1 else "alarms") in done.stderr


@pytest.mark.parametrize("body", [{"who": '"\\udcd0"'}, {"reason": '"\\u0000"'}, {"alarms": '["A", "\\ud800"]'}])
def test_a_gateway_that_is_asked_so_all_the_same_refuses_too(body: dict[str, str]) -> None:
    """Whoever speaks to its local page without the command line."""
    told = {"verb": '"ack"', "who": '"li"', "alarms": '["A"]', **body}
    with pytest.raises(ValueError, match="UTF-8"):
        wish_of(("{" + ",".join(f'"{key}":{value}' for key, value in told.items()) + "}").encode())
