"""Holds docs/metrics.md to what the cloud side shows: every figure is on the page, and nothing else."""

import asyncio
from pathlib import Path
from typing import Final

from tests.support.figures import DEMO_PLANT, Figure, every_figure
from tests.support.need import ROOT
from tocsin_cloud.api.plant_figures import limit_figures, point_counts, source_figures
from tocsin_cloud.api.ports import Latest
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.silence import silences
from tocsin_cloud.settings import StrangerSettings
from tocsin_core.plant import load_plant

PAGE: Final = ROOT / "docs" / "metrics.md"


def line(figure: Figure) -> str:
    """The row of the page's table for a figure."""
    labels = f"{{{','.join(figure.labels)}}}" if figure.labels else ""
    return f"| `{figure.name}{labels}` | {figure.kind} | {figure.text} |"


def plant_figures() -> list[Figure]:
    """The figures of the plant, which are behind the sign-in."""
    plant = load_plant(DEMO_PLANT)
    live = LiveView(PointTable(plant, StrangerSettings()))
    latest = Latest(live.time_ns, live.value, live.quality)
    families = source_figures(plant, [], {})
    families += point_counts(plant, latest, silences(plant), 0) + limit_figures(plant.points)
    return [Figure(each.name, each._labelnames, each.type, each.documentation) for each in families]  # noqa: SLF001 -- the library tells labels nowhere else


def test_the_page_lists_every_figure_and_nothing_else(tmp_path: Path) -> None:
    """A figure that is added, taken away or described otherwise has to be so on the page too."""
    told = {
        row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith(("| `tocsin_", "| `process_"))
    }
    expected = {line(figure) for figure in [*asyncio.run(every_figure(tmp_path)), *plant_figures()]}
    assert sorted(expected - told) == []
    assert sorted(told - expected) == []
