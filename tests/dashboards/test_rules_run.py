"""The alert rules as docker-compose.yml runs them: VictoriaMetrics scrapes real processes, vmalert judges them."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.cloud.rig import CloudProcess, broker
from tests.contract.history_stores import Victoria, victoria
from tests.dashboards.alerting import SERVICES, mounted, vmalert
from tests.dashboards.demo_plant import shows
from tests.dashboards.test_alerts import FIGURE, rules
from tests.support.figures import DEMO_PLANT
from tests.support.need import ROOT, need_program
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.settings import Address

need_program("victoria-metrics")
need_program("vmalert")
# Four processes of ours start beside a broker and two of VictoriaMetrics'.
pytestmark = pytest.mark.timeout(300)

GATEWAYS: Final = {"gateway-1": "gw-tank-farm", "gateway-2": "gw-compressor"}
START_S: Final = 120
# Figures whose labels come with what they tell of: nobody was refused, no message failed, and these gateways have no
# certificate and are not managed.
NOT_THERE: Final = {
    "tocsin_broker_refused_total",
    "tocsin_gateway_certificate_ends_timestamp_seconds",
    "tocsin_gateway_slice_current",
    "tocsin_messages_failing",
}


def firing(store: Victoria, alert: str) -> list[dict[str, str]]:
    """The labels with which a rule fires now."""
    return [each["metric"] for each in shows(store, f'ALERTS{{alertname="{alert}",alertstate="firing"}}')]


def there(store: Victoria) -> set[str]:
    """The names of all that was scraped."""
    return set(json.loads(store.get("/api/v1/label/__name__/values"))["data"])


class Compose:
    """What docker-compose.yml runs, on free ports and in folders of the test."""

    def __init__(self, folder: Path) -> None:
        """Write the files that name addresses; nothing runs yet."""
        self.folder = folder
        self.page = Address("127.0.0.1", free_port())
        self.token, self.listed = folder / "token", folder / "gateways.yml"
        self.figures = {name: free_port() for name in GATEWAYS}
        scrape = (ROOT / "dashboards" / "scrape.yml").read_text(encoding="utf-8")
        (folder / "scrape.yml").write_text(scrape.replace("120s", "2s").replace("15s", "1s"), encoding="utf-8")
        listed = (ROOT / "deploy" / "gateways.yml").read_text(encoding="utf-8")
        for name, port in self.figures.items():
            (told,) = [word for word in SERVICES[name]["command"] if word.startswith("--metrics=")]
            listed = listed.replace(f'"field:{told.rpartition(":")[2]}"', f'"127.0.0.1:{port}"')
        assert "field" not in re.sub("#.*", "", listed)
        self.listed.write_text(listed, encoding="utf-8")

    def victoria(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The arguments of the service, but for where it listens and stores; its variables are set."""
        asked = {"CLOUD": str(self.page), "TOKEN_FILE": self.token, "GATEWAYS": self.listed}
        given = {f"TOCSIN_{name}": str(value) for name, value in asked.items()}
        assert given.keys() == SERVICES["victoria"]["environment"].keys()
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        words = mounted("victoria", SERVICES["victoria"]["command"], {"/scrape.yml": self.folder / "scrape.yml"})
        return [word for word in words if not word.startswith(("-storageDataPath=", "-httpListenAddr="))]

    @contextmanager
    def gateways(self, mqtt: Address) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
        """Both gateways; none of the plant's instruments answers."""
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name in GATEWAYS:
                with (self.folder / f"{name}.log").open("wb") as log:
                    words = [sys.executable, "-m", "tocsin_cli", *self._words(name, mqtt)]
                    running[name] = subprocess.Popen(words, stdout=log, stderr=log)
            yield running
        finally:
            for process in running.values():
                process.kill()
                process.wait()

    def _words(self, name: str, mqtt: Address) -> list[str]:
        changed = {
            r"^/plant$": str(DEMO_PLANT),
            r"^--uplink=.*": f"--uplink={mqtt}",
            r"^--metrics=.*": f"--metrics=127.0.0.1:{self.figures[name]}",
            r"^--data=/data$": f"--data={self.folder / name}",
        }
        words: list[str] = SERVICES[name]["command"]
        for pattern, word in changed.items():
            assert any(re.match(pattern, each) for each in words), pattern
            words = [re.sub(pattern, word, each) for each in words]
        return words


async def _watched(compose: Compose, store: Victoria) -> None:
    """Run it until all is scraped; what the rules ask for is there; then a gateway is killed."""
    async with broker(compose.folder / "nats") as (server, settings):
        cloud = partial(CloudProcess, DEMO_PLANT, compose.folder / "data", server.url, settings.mqtt)
        processes = [cloud(role="historian,alarms,notify"), cloud(role="api", http=compose.page)]
        with compose.gateways(settings.mqtt) as gateways:
            try:
                for process in processes:
                    process.start()
                await processes[1].until_ready()
                await eventually_async(lambda: firing(store, "TocsinUnscraped"), START_S)
                made = await processes[1].post("users/admin/tokens", {"label": "scrape", "role": "regulator"})
                compose.token.write_text(made["token"], encoding="utf-8")
                await eventually_async(lambda: len(shows(store, "up == 1")) == 5, START_S)
                await eventually_async(lambda: asked_for() - there(store) <= NOT_THERE, START_S)
                await _what_gateways_tell(store)
                await _a_gateway_is_killed(store, gateways["gateway-1"])
            finally:
                for process in processes:
                    process.end(signal.SIGKILL)


def asked_for() -> set[str]:
    """The figures that the rules name."""
    return {name for rule in rules() for name in FIGURE.findall(rule["expr"])}


async def _what_gateways_tell(store: Victoria) -> None:
    of_gateways = {name for name in asked_for() if name.startswith("tocsin_edge_")}
    assert len(of_gateways) > 4
    for name in of_gateways:
        found = {each["metric"]["instance"] for each in shows(store, f'{name}{{job="tocsin-edge"}}')}
        assert found == set(GATEWAYS.values()), name
    # No instrument answers.
    await eventually_async(lambda: len({each["instance"] for each in firing(store, "TocsinEdgeDeviceUnwatched")}) == 2)
    assert firing(store, "TocsinGatewayAway") == []


async def _a_gateway_is_killed(store: Victoria, process: subprocess.Popen[bytes]) -> None:
    await eventually_async(lambda: not firing(store, "TocsinUnscraped"))
    process.kill()
    await eventually_async(lambda: firing(store, "TocsinGatewayAway") and firing(store, "TocsinUnscraped"))
    assert [each["gateway"] for each in firing(store, "TocsinGatewayAway")] == ["gw-tank-farm"]
    (unscraped,) = firing(store, "TocsinUnscraped")
    assert (unscraped["job"], unscraped["instance"]) == ("tocsin-edge", "gw-tank-farm")


def test_a_gateway_that_is_killed_is_told_by_the_rules_as_the_compose_file_runs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scrape file, rules and arguments are the compose file's; only addresses, places and times to wait are others.

    Every figure that a rule names is there, those of gateways from each; a gateway's own rules fire too, and what
    cannot be scraped is told, so that no rule is silent for want of its figures.
    """
    compose = Compose(tmp_path)
    # Else what is younger than half a minute is not shown.
    flags = [*compose.victoria(monkeypatch), "-search.latencyOffset=0s"]
    with victoria(tmp_path / "vm", *flags) as store, vmalert(tmp_path, store):
        asyncio.run(_watched(compose, store))
