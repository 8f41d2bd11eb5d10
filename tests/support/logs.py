"""Reads the log of a process of ours, which is JSON wherever it goes to no terminal."""

import json
from datetime import datetime
from typing import Any


def json_lines(text: str) -> list[dict[str, Any]]:
    """Each line of a log, after seeing that it says what, how grave, and when."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.split("\n") if line]
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys(), line
        assert line["level"] in ("info", "warning", "error", "critical"), line
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None, line
    return lines
