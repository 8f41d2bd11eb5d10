"""How the page comes through 10,000 alarms in one second: `python -m tests.bench.console_flood` prints its figures."""

import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.support.console_flood import flood

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = asdict(asyncio.run(flood(Path(place))))
    rounded = {name: round(each, 2) if isinstance(each, float) else each for name, each in found.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")
