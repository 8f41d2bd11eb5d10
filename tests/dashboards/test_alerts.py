"""The alert rules on the system's own health: Prometheus's own tests of each, and figures that are really there."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.docs.test_metrics_page import plant_figures
from tests.support.figures import every_figure
from tests.support.need import ROOT, need_program

FOLDER: Final = ROOT / "dashboards" / "alerts"
RULES: Final = FOLDER / "tocsin.yaml"
TESTS: Final = FOLDER / "tocsin.test.yaml"
FIGURE: Final = re.compile(r"\b(?:tocsin_\w+|process_\w+)\b")
SUFFIX: Final = re.compile(r"_(bucket|count|sum)$")


def loaded(path: Path) -> Any:  # noqa: ANN401 -- whatever YAML holds
    """The content of a YAML file."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    return [rule for group in loaded(RULES)["groups"] for rule in group["rules"]]


def test_prometheus_fires_each_rule_when_it_should_and_none_when_all_is_well() -> None:
    """Promtool runs the file of tests, which has each rule firing, and all of them silent beside a plant in order."""
    promtool = need_program("promtool")
    done = subprocess.run([promtool, "test", "rules", str(TESTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [rule["alert"] for rule in rules()]
    well, *others = loaded(TESTS)["tests"]
    assert [test["alertname"] for test in well["alert_rule_test"]] == names
    assert [test["name"] for test in others] == names
    assert all(len(test["alert_rule_test"][0]["exp_alerts"]) == 1 for test in others)


def test_a_rule_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """The tests are of the rules: with one limit out of reach they fail."""
    text = RULES.read_text(encoding="utf-8")
    assert "tocsin_messages_overdue_seconds) > 120" in text
    (tmp_path / RULES.name).write_text(text.replace("overdue_seconds) > 120", "overdue_seconds) > 1e9"), "utf-8")
    tests = loaded(TESTS)
    tests["tests"] = [test for test in tests["tests"] if test["name"] == "TocsinMessagesOverdue"]
    YAML().dump(tests, tmp_path / TESTS.name)
    promtool = need_program("promtool")
    done = subprocess.run([promtool, "test", "rules", str(tmp_path / TESTS.name)], capture_output=True, check=False)
    assert done.returncode == 1


def test_each_figure_that_a_rule_asks_for_is_there(tmp_path: Path) -> None:
    """Those of the cloud side are what it registers, those of gateways what docs/gateway.md lists, held by its test."""
    there = {figure.name for figure in [*asyncio.run(every_figure(tmp_path)), *plant_figures()]}
    of_gateways = set(re.findall(r"`(tocsin_edge_\w+)`", (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")))
    asked = {SUFFIX.sub("", name) for rule in rules() for name in FIGURE.findall(rule["expr"])}
    assert len(asked) > 30
    assert asked - there - of_gateways == set()


def test_each_rule_says_what_it_means_in_both_languages() -> None:
    """A summary in English and one in Chinese, and one of two severities."""
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].isascii()
        assert re.search(r"[\u4e00-\u9fff]", rule["annotations"]["summary_zh"])


def test_vmalert_takes_the_rules() -> None:
    """The alerting of VictoriaMetrics reads the same file."""
    vmalert = need_program("vmalert")
    done = subprocess.run([vmalert, "-dryRun", f"-rule={RULES}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
