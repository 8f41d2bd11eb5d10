"""vmalert as docker-compose.yml starts it, judging the checked-in rules on a VictoriaMetrics of the test."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.contract.history_stores import Victoria
from tests.support.need import ROOT, need_program
from tests.support.ports import free_port

SERVICES: Final[dict[str, dict[str, Any]]] = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
VMALERT: Final[list[str]] = SERVICES["vmalert"]["command"]


def mounted(name: str, words: list[str], places: dict[str, Path]) -> list[str]:
    """A service's arguments with each place within it as the one outside; what is mounted is the checkout's."""
    volumes = [volume.split(":") for volume in SERVICES[name]["volumes"]]
    outside = {within: ROOT / path for path, within, *_ in volumes if path.startswith("./")} | places
    for within, path in outside.items():
        words = [re.sub(rf"={re.escape(within)}(?=/|$)", f"={path}", word) for word in words]
    return words


def impatient_rules(folder: Path) -> Path:
    """A copy of the rules that wait a second where they wait for minutes."""
    made = folder / "alerts"
    made.mkdir()
    text = (ROOT / "dashboards" / "alerts" / "tocsin.yaml").read_text(encoding="utf-8")
    (made / "tocsin.yaml").write_text(re.sub(r"for: [1-9]\w+$", "for: 1s", text, flags=re.MULTILINE), encoding="utf-8")
    return made


@contextmanager
def vmalert(folder: Path, victoria: Victoria) -> Iterator[None]:
    """Run it with the arguments of docker-compose.yml; it looks once a second."""
    port = free_port()
    words = mounted("vmalert", VMALERT, {"/alerts": impatient_rules(folder)})
    words = [word.replace("http://victoria:8428", f"http://127.0.0.1:{victoria.port}") for word in words]
    words = [word.replace("-evaluationInterval=15s", "-evaluationInterval=1s") for word in words]
    with (folder / "vmalert.log").open("wb") as log:
        command = [need_program("vmalert"), *words, f"-httpListenAddr=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (folder / "vmalert.log").read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()
