"""What MQTT sensors publish: paths into JSON, payloads, time stamps, topics, and what need not be told again."""

from tocsin_core.sensors.paths import Path, PathError, parse_path
from tocsin_core.sensors.payloads import LARGEST_PAYLOAD, WORDS, Kind, Parsed, Reading, Reason, parse
from tocsin_core.sensors.reporting import Exceptions, Reporting, Rule
from tocsin_core.sensors.stamps import DEFAULT_WINDOW, Window
from tocsin_core.sensors.topics import SparkplugSource, captured, fewest, filter_problem, sparkplug_source

__all__ = [
    "DEFAULT_WINDOW",
    "LARGEST_PAYLOAD",
    "WORDS",
    "Exceptions",
    "Kind",
    "Parsed",
    "Path",
    "PathError",
    "Reading",
    "Reason",
    "Reporting",
    "Rule",
    "SparkplugSource",
    "Window",
    "captured",
    "fewest",
    "filter_problem",
    "parse",
    "parse_path",
    "sparkplug_source",
]
