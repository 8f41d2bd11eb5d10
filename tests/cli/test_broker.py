"""`tocsin broker config`: what it writes is a configuration that the real nats-server takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin_cli.main import main
from tocsin_cloud.adapters.nats_server import program

CLUSTER = ("broker", "config", "--name", "n1", "--routes", "n1,n2,n3:7222")


def tocsin(patch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line with these words in this process, and return its exit code."""
    patch.setattr(sys, "argv", ["tocsin", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_server_takes_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster's server as written to the standard output; with --json the same in one object."""
    words = (*CLUSTER, "--store", str(tmp_path / 'a "b" } c'))
    assert tocsin(monkeypatch, *words) == 0
    text = capsys.readouterr().out
    path = tmp_path / "n1.conf"
    path.write_text(text, encoding="utf-8")
    checked = subprocess.run([program(), "-t", "-c", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert '"nats://n3:7222"' in text
    assert "stream_replicas: 3" in text
    assert tocsin(monkeypatch, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"config": text}


@pytest.mark.parametrize("wrong", [("--routes", "n1,n2:0"), ("--name", "n 1"), ("--mqtt", "70000")])
def test_what_makes_no_configuration_is_refused_in_one_line(
    wrong: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing on the standard output."""
    assert tocsin(monkeypatch, *CLUSTER, *wrong) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
