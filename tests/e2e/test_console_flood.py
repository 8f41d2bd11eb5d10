"""The console page in a real browser through a plant trip: 10,000 alarms in one second, over the real cloud side."""

import asyncio
from pathlib import Path
from typing import Final

from tests.support.console_flood import ALARMS, flood

# A person at a page that has not answered for so long presses again. Alone it takes 0.2 s.
CLICK_MOST_S: Final = 8.0
# Far fewer than two rows for every alarm.
MOST_ELEMENTS: Final = ALARMS


def test_the_page_stays_live_in_a_flood_and_counts_every_alarm(tmp_path: Path) -> None:
    """Its stream does not end, its tabs answer, it counts 10,000, one is acknowledged; so does a page opened then."""
    found = asyncio.run(flood(tmp_path))
    assert not found.problems
    assert found.streams_ended == 0
    assert found.elements < MOST_ELEMENTS
    assert found.slowest_tab_s < CLICK_MOST_S
