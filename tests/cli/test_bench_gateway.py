"""`tocsin bench gateway`: a short run of the real thing gives every figure, each within reason."""

import json
import subprocess
import sys

KEYS = {
    "points",
    "period_s",
    "cpu_percent_of_one_core",
    "rss_mb",
    "start_s",
    "start_cpu_s",
    "bus_utilisation",
    "drain_s",
    "drain_readings_per_second",
    "live_p99_ms_while_draining",
}


def test_a_short_run_gives_every_figure() -> None:
    """A gateway reads 1,000 points, and its backlog arrives: the last line is one object with what was promised."""
    command = [sys.executable, "-c", "from tocsin_cli.main import main; main()", "bench", "gateway", "--json"]
    done = subprocess.run(
        [*command, "--steady-s", "3", "--backlog-s", "400"], capture_output=True, timeout=110, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) >= KEYS
    assert (found["points"], found["devices"], found["period_s"]) == (1000, 20, 1.0)
    assert found["backlog_readings"] == 400_000
    # So that a day of them is within the default bound of 512 MB.
    assert 0 < found["spool_bytes_per_reading"] < 5.9
    # 213 characters of 11 bits a poll at 19,200 baud, five units a line: most of a second in each.
    assert 0.3 < found["bus_utilisation"] < 0.7
    # What is promised of these hardly depends on what else the machine does.
    assert 0 < found["cpu_percent_of_one_core"] <= 15
    assert 20 < found["rss_mb"] <= 90
    assert 20 < found["rss_mb_while_draining"] <= 90
    assert found["start_cpu_s"] > 0
    assert found["start_s"] > 0
    assert found["drain_readings_per_second"] > 0
    assert found["live_p99_ms_while_draining"] > 0
