"""Writes the Grafana dashboards: `python -m scripts.dashboards [FOLDER]`, in both languages, into dashboards/."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards.gateways import gateways
from scripts.dashboards.health import health
from scripts.dashboards.plant import plant
from scripts.dashboards.style import LANGUAGES, Say
from scripts.dashboards.unit import unit

FOLDER: Final = Path(__file__).resolve().parents[2] / "dashboards"


def written() -> Iterator[tuple[str, str]]:
    """Yield each file's place under dashboards/ and its text."""
    for language in LANGUAGES:
        for make in (plant, unit, gateways, health):
            made = make(Say(language)).build()
            for number, panel in enumerate(made.panels or [], 1):
                panel.id_val = number
            text = json.dumps(made, cls=JSONEncoder, ensure_ascii=False, indent=2, sort_keys=True)
            yield f"{language}/{make.__name__}.json", text + "\n"


def main() -> None:
    """Write them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for place, text in written():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
        print(folder / place)


if __name__ == "__main__":
    main()
