"""A historian and an alarms worker on the small plant, without a broker: what they hear is given to them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

from tests.cloud.rig import COMPUTED, plant_folder
from tests.support.hostile import NOW_NS
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.hearing import Hearing
from tocsin_cloud.loops.historian import Historian, HistorianParts
from tocsin_cloud.loops.journal import Batch
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.ledger import Ledger
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import AlarmSettings, HistorianSettings, LimitSettings, StrangerSettings
from tocsin_core import engine
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant, load_plant

MOST: Final = StrangerSettings(gateways=3, devices=4, points=10)


@cache
def plant() -> Plant:
    """The small plant, with a computed point."""
    with TemporaryDirectory() as folder:
        return load_plant(plant_folder(Path(folder), COMPUTED))


class Still:
    """A clock that stands still."""

    def now_ns(self) -> int:
        """The time at which all of this comes in."""
        return NOW_NS

    def monotonic(self) -> float:
        """No time passes."""
        return 0.0


class Ears:
    """Both roles; `live` is what the page shows of it, and `quarantine` what they refused."""

    def __init__(
        self,
        database: Any = None,  # noqa: ANN401 -- none, where nothing is committed
        limits: LimitSettings | None = None,
        of: Plant | None = None,
        snapshot: Path = Path(),
        clock: Clock | None = None,
    ) -> None:
        """Have heard nothing of the small plant, or of the plant `of`."""
        known = of or plant()
        self.table, self.limits = PointTable(known, MOST), limits or LimitSettings()
        self.live, self.metrics = LiveView(self.table), Metrics()
        self.quarantine = Quarantine(database, self.metrics, 100)
        nobody: Any = None
        history: Any = SimpleNamespace(state={}, key=len)
        parts: dict[str, Any] = {
            "client": nobody, "lease": nobody, "live": self.live, "metrics": self.metrics,
            "clock": clock or Still(),
            "limits": self.limits,
        }  # fmt: skip
        stored = {"history": history, "table": self.table, "quarantine": self.quarantine}
        self.historian = Historian(HistorianParts(settings=HistorianSettings(), **stored, **parts))
        outlet = Outlet(nobody, self.table)
        of_plant: dict[str, Any] = {
            "plant": known,
            "judged": Judged.of(known),
            "snapshot_file": snapshot,
            "outlet": outlet,
        }
        self.alarms = AlarmsWorker(AlarmParts(settings=AlarmSettings(), database=database, **of_plant, **parts))

    @property
    def ledgers(self) -> dict[tuple[str, str], Ledger]:
        """Which batches of each gateway the historian has."""
        return self.historian._ledgers  # noqa: SLF001 -- shown nowhere else

    def hear(self, messages: Sequence[Message]) -> Batch:
        """Take in messages as both roles do between two commits; returns what the alarms worker would commit."""
        for message in messages:
            self.historian._take(message)  # noqa: SLF001 -- what `run` does between two waits
        return self.alarms._advance(list(messages))  # noqa: SLF001 -- what `_work` does between two waits

    def agree(self) -> bool:
        """Whether both roles have heard the same: what each sender has used up says how often it was let through."""
        used = [role._session._limits.to_json() for role in (self.historian, self.alarms)]  # noqa: SLF001 -- shown nowhere else
        return used[0] == used[1]

    def keep(self) -> None:
        """Make and read again all that both roles keep for a restart."""
        stored, worker = self.historian, self.alarms
        for made in (stored._position_state(), stored._session_state(), stored._clocks_state()):  # noqa: SLF001 -- what a commit needs
            assert made
        stored._show(1.0)  # noqa: SLF001 -- the same
        state, rules = worker._state, worker._rules  # noqa: SLF001 -- what a snapshot holds
        assert state is not None
        engine.restore(engine.snapshot(state, rules), rules)
        self.restart()
        LiveView(self.table).restore(self.live.known())

    def restart(self) -> None:
        """Have the alarms worker hear on as one that begins with its snapshot."""
        held = self.alarms._session.snapshot()  # noqa: SLF001 -- what a snapshot holds
        self.alarms._session = Hearing.restore(held, self.table, self.limits)  # noqa: SLF001 -- the same

    def is_bounded(self) -> bool:
        """Whether what is kept is within its bounds."""
        stored = self.historian
        known = {*self.live.gateways, *stored._ledgers, *stored._clocks, *stored._readings}  # noqa: SLF001 -- shown nowhere else
        return (
            len(known) <= MOST.gateways + len(self.table.gateways)
            and len(self.table.undeclared) <= MOST.points
            and max((len(one.id) for one in self.table.undeclared), default=0) < 3000
            and all(len(unit) < 100 for unit in self.live.units.values())
            and len(self.quarantine._waiting) <= 100  # noqa: SLF001 -- shown nowhere else
            and len(stored._session.snapshot()) < 200_000  # noqa: SLF001 -- shown nowhere else
        )
