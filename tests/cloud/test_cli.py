"""`tocsin cloud` and `tocsin broker` as a user starts them: private files, one process a folder, a last word."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cloud.rig import HOST, plant_folder
from tests.cloud.test_backup import refused
from tests.support.http import NO_TLS
from tests.support.ports import free_port
from tests.support.wait import eventually


@contextmanager
def verb(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, with ports of its own and `--json`; killed where the test has not ended it."""
    command = [sys.executable, "-m", "tocsin_cli", *map(str, words), "--mqtt", f"{HOST}:{free_port()}", "--json"]
    # As most systems have it: what is made is readable by everybody unless somebody takes care.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, umask=0o022)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(http: str) -> bool:
    """Whether the cloud side says that it is ready."""
    try:
        return httpx.get(f"http://{http}/readyz", trust_env=False, verify=NO_TLS).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def stream_limit(http: str) -> float:
    """How many bytes the stream may take up, as the figures say."""
    text = httpx.get(f"http://{http}/metrics", trust_env=False, verify=NO_TLS).text
    lines = (line.split() for line in text.splitlines())
    return next(float(line[1]) for line in lines if line[0] == "tocsin_stream_bytes_limit")


def test_one_cloud_process_a_folder_private_and_with_a_last_word(tmp_path: Path) -> None:
    """A second one is refused in one line and disturbs nothing; no file is anybody else's; the end is one object."""
    plant, data, http = plant_folder(tmp_path / "plant"), tmp_path / "data", f"{HOST}:{free_port()}"
    with verb("cloud", plant, "--data", data, "--http", http, "--stream-bytes", str(1 << 25)) as first:
        eventually(lambda: ready(http), 60)
        eventually(lambda: stream_limit(http) == 1 << 25)
        with verb("cloud", plant, "--data", data, "--http", f"{HOST}:{free_port()}") as second:
            out, err = second.communicate(timeout=60)
        assert second.returncode == 1
        (line,) = err.splitlines()
        assert f"another process works on {data}" in line
        assert json.loads(out) == {"error": f"another process works on {data}: it holds history.duckdb"}
        assert ready(http)
        files = [data, *data.rglob("*")]
        assert {"tocsin.sqlite", "history.duckdb", "nats"} <= {path.name for path in files}
        assert [path for path in files if path.stat().st_mode & 0o077] == []
        first.send_signal(signal.SIGTERM)
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert json.loads(out) == {"role": "all", "readings_stored": 0, "alarms_raised": 0, "quarantined": 0}


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--nats", "", "--nats ''"),
        ("--nats", "http://127.0.0.1:4222", "is not nats://HOST:PORT"),
        ("--nats", "nats://127.0.0.1:four", "is not nats://HOST:PORT"),
        ("--nats", "nats://127.0.0.1:4222,,nats://127.0.0.1:4223", "--nats ''"),
        ("--history-days", "inf", "less than or equal to 36525"),
        ("--reorder-timeout", "inf", "less than or equal to 3600"),
    ],
)
def test_what_would_be_tried_for_ever_or_end_it_later_is_refused_at_once(
    tmp_path: Path, option: str, text: str, said: str
) -> None:
    """It says why, and nothing is made."""
    plant = plant_folder(tmp_path / "plant")
    assert said in refused("cloud", str(plant), "--data", str(tmp_path / "data"), option, text)
    assert not (tmp_path / "data").exists()


def test_a_broker_tells_how_often_it_restarted(tmp_path: Path) -> None:
    """A killed server is started again and counted."""
    with verb("broker", "--data", tmp_path / "data", "--nats", f"{HOST}:{free_port()}") as process:
        parent = psutil.Process(process.pid)

        def server() -> psutil.Process | None:
            return next((child for child in parent.children() if child.name() == "nats-server"), None)

        first = eventually(server)
        assert first is not None
        assert process.stderr is not None
        assert "broker ready" in process.stderr.readline()
        os.kill(first.pid, signal.SIGKILL)
        while "broker ready" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out) == {"restarts": 1}
