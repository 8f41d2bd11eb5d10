"""What was read of each device, by quality, and how much of it has been kept: counted on the way to the spool."""

from collections.abc import Callable
from typing import Final

import numpy as np

from tocsin_core.clock import Clock
from tocsin_core.readings import I64, is_good, quality_text
from tocsin_edge.loops.keep import Kept, Sample
from tocsin_edge.settings import DeviceSettings

QUALITIES: Final = 256


class Tally:
    """Counts of all devices of the gateway since its start; `taken` and `kept` are samples."""

    def __init__(self, devices: tuple[DeviceSettings, ...], clock: Clock) -> None:
        """Start with nothing read."""
        self._clock = clock
        self._heard_s: dict[str, float] = {}
        self._by_quality: dict[str, I64] = {}
        self._last_good_ms: dict[str, int] = {}
        self.taken = 0
        self.kept = 0
        self.adopt(devices)

    def adopt(self, devices: tuple[DeviceSettings, ...]) -> None:
        """Count other devices too from now on; those that were counted go on."""
        for device in devices:
            self._heard_s.setdefault(device.id, self._clock.monotonic())
            self._by_quality.setdefault(device.id, np.zeros(QUALITIES, dtype=np.int64))

    def before(self, put: Callable[[Sample], None]) -> Callable[[Sample], None]:
        """Give a function that counts a sample and hands it to `put`."""

        def counted(sample: Sample) -> None:
            self._count(sample)
            put(sample)

        return counted

    def before_keeping(self, put: Callable[[Sample], None]) -> Callable[[Sample], None]:
        """Give a function that counts a sample as one to be kept and hands it to `put`."""

        def counted(sample: Sample) -> None:
            self.taken += 1
            put(sample)

        return counted

    def before_kept(self, on_kept: Callable[[list[Kept]], None]) -> Callable[[list[Kept]], None]:
        """Give a function that counts samples as kept and hands them to `on_kept`."""

        def counted(kept: list[Kept]) -> None:
            self.kept += len(kept)
            on_kept(kept)

        return counted

    def readings(self, device: str) -> dict[str, int]:
        """Count the device's readings by the words of their quality."""
        found: dict[str, int] = {}
        counts = self._by_quality[device]
        for quality in np.flatnonzero(counts).tolist():
            words = quality_text(quality)
            found[words] = found.get(words, 0) + int(counts[quality])
        return found

    def last_good_ms(self, device: str) -> int | None:
        """Tell the time of the device's newest good reading since the start, None if there was none."""
        return self._last_good_ms.get(device)

    def silent_s(self, device: str) -> float:
        """Tell for how long nothing has come of the device, good or bad, in s."""
        return self._clock.monotonic() - self._heard_s[device]

    def _count(self, sample: Sample) -> None:
        columns, device = sample.columns, sample.device.id
        self._heard_s[device] = self._clock.monotonic()
        self._by_quality[device] += np.bincount(columns.quality, minlength=QUALITIES)
        good = is_good(columns.quality)
        if good.any():
            newest = int(columns.time_ms[good].max())
            self._last_good_ms[device] = max(newest, self._last_good_ms.get(device, newest))
