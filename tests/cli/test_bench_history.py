"""Holds the history's benchmark to what it says: each figure measured on what was stored, one whole object."""

import json
import subprocess
import sys
from typing import Final

COMMAND: Final = [sys.executable, "-m", "tocsin_cli", "bench", "history"]


def test_the_benchmark_of_the_history_is_one_object() -> None:
    """A short run has every figure of a long one."""
    short = ["--points", "3", "--days", "2", "--period", "60", "--json"]
    done = subprocess.run([*COMMAND, *short], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["store"], found["points"], found["readings"], found["period_s"]) == ("duckdb", 3, 3 * 2 * 1440, 60)
    measured = {key for key, value in found.items() if isinstance(value, int | float) and value > 0}
    trends = {"all_by_day_s", "all_by_6_h_s", "all_by_hour_s", "day_by_minute_s", "hour_of_samples_s"}
    assert measured >= {"stored_per_second", "bytes_per_reading", *trends}


def test_a_wrong_store_is_one_clear_line() -> None:
    """An address that is none ends with 2 and says what one is."""
    done = subprocess.run([*COMMAND, "--history", "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "victoriametrics://HOST:PORT" in line
