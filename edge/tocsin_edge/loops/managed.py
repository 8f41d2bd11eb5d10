"""Managed from above: each slice that arrives is refused, or tried and then kept or rolled back, and that is told."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Final, Protocol, Self

import structlog

from tocsin_core.clock import Clock
from tocsin_core.managed import (
    CUT_SHORT,
    KEY_FILE,
    Answer,
    Assembly,
    OfferError,
    Outcome,
    Refusal,
    Standing,
)
from tocsin_edge.adapters.memory import apart, elsewhere
from tocsin_edge.adapters.memory import settle as settle_memory
from tocsin_edge.adapters.opening import Here, Opened, Refused, hold_key, open_sealed
from tocsin_edge.adapters.versions import KEPT, Versions
from tocsin_edge.settings import EdgeSettings

TRIAL_S: Final = 60.0
LOOK_S: Final = 1.0
# What is well for a moment only is not well.
LOOKS: Final = 2


class Watch(Protocol):
    """Knows what worked before the settings changed."""

    def changed(self) -> None:
        """Take note that they have."""

    def missing(self) -> tuple[str, ...]:
        """What does not work of what did, one line each."""


Adopt = Callable[[EdgeSettings], Awaitable[None]]

log = structlog.get_logger()


class Managed:
    """The version in force, and what becomes of the next one.

    `settings` are those of the newest good version, or of the gateway's own plant file while there is none. `adopt`
    lets the gateway go on under other settings; `watch`, called before, looks at how things are; `tell` takes what the
    cloud side is to know, and does it at once and in each birth.
    """

    def __init__(
        self, own: EdgeSettings, versions: Versions, here: Here, clock: Clock, trial_s: float = TRIAL_S
    ) -> None:
        """Go back to the last good version from one whose trial was cut short, and find out which is in force.

        Raises:
            OSError: the versions cannot be read.
        """
        self._versions = versions
        self._here = here
        self._clock = clock
        self._trial_s = trial_s
        self._assembly = Assembly()
        self._waiting: bytes | None = None
        self._news = asyncio.Event()
        self._told: Callable[[str], None] = lambda _: None
        self.counts: Counter[str] = Counter()
        self._newest, self._good = versions.newest(), list[int]()
        self.settings = own
        self.standing = Standing(0, own.content)
        self._cut_short()
        self._begin()

    @classmethod
    def of(cls, own: EdgeSettings, clock: Clock, trial_s: float = TRIAL_S) -> Self | None:
        """Be managed if a key is pinned in the gateway's folder, and only then.

        Raises:
            TrustError: the file of the key holds none.
        """
        folder = own.spool.parent
        if not (folder / KEY_FILE).exists():
            return None
        here = Here(own.site, own.gateway.id, own.data, own.uplink)
        apart(partial(hold_key, here))
        return cls(own, Versions(folder), here, clock, trial_s)

    def take(self, part: bytes) -> None:
        """Take a part of what the cloud side sends; never waits."""
        try:
            whole = self._assembly.take(part)
        except OfferError as error:
            self._refuse(error)
            return
        if whole is not None:
            self._waiting = whole
            self._news.set()

    async def run(
        self,
        adopt: Adopt,
        watch: Callable[[EdgeSettings], Watch],
        settle: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """Take what comes for ever, one version after the other; `settle` is called when a trial is over."""
        self._told = tell
        while True:
            await self._news.wait()
            self._news.clear()
            sealed, self._waiting = self._waiting, None
            if sealed is None:
                continue
            try:
                found = await asyncio.to_thread(self._checked, sealed)
            except OfferError as error:
                self._refuse(error)
                continue
            except Exception as error:
                # Signed or not: nothing that is sent may end the gateway.
                log.exception("slice refused")
                self._refuse(OfferError(Refusal.INVALID, repr(error)))
                continue
            await self._try(Standing(found.version, found.hash), found.settings, adopt, watch(found.settings))
            settle()
            del found
            settle_memory()

    def status(self) -> dict[str, object]:
        """Give as data what is in force, what became of the newest version that came, and how often what happened."""
        return {**asdict(self.standing), "good": self._good, "counts": dict(self.counts)}

    def warnings(self) -> tuple[str, ...]:
        """What came from above and is not in force, in one line."""
        answer = self.standing.answer
        if answer is None or answer.outcome in (Outcome.APPLIED, Outcome.ON_TRIAL):
            return ()
        return (f"version {answer.version} from the cloud side was {answer.outcome}: {answer.reason}",)

    def _cut_short(self) -> None:
        for version in self._versions.on_trial():
            reason = self._versions.rolled_back(version) or CUT_SHORT
            log.error("version rolled back", version=version, reason=reason)
            self._reject(version, reason)

    def _begin(self) -> None:
        """Take the newest good version that still can be used."""
        self._good = self._versions.good()
        for version in self._good:
            try:
                kept = self._kept(version)
            except (OfferError, OSError) as error:
                log.error("kept version cannot be used", version=version, reason=str(error))  # noqa: TRY400 -- no fault of ours
                continue
            except Exception:
                # As of what is sent: it may end no gateway, and here it would at each start anew.
                log.exception("kept version cannot be used", version=version)
                continue
            self.settings, self.standing = kept.settings, Standing(version, kept.hash)
            break
        log.info("managed from above", version=self.standing.version, kept=len(self._good))
        reason = self._versions.rolled_back(self._newest)
        answer = None
        if reason is not None:
            answer = Answer(self._newest, Outcome.ROLLED_BACK, reason)
        elif self.standing.version:
            answer = Answer(self.standing.version, Outcome.APPLIED)
        self._stand(self.standing, answer)

    def _kept(self, version: int) -> Opened:
        """A good version as it was kept, opened by a process of its own: there are no threads yet."""
        found = apart(partial(open_sealed, self._versions.read(version), self._here, 0))
        if isinstance(found, Refused):
            raise found.error()
        if found.version != version:
            raise OfferError(Refusal.OLD, f"the file of version {version} holds version {found.version}")
        return found

    def _checked(self, sealed: bytes) -> Opened:
        """The slice in `sealed`, whole and valid, and kept on disk as one on trial."""
        found = elsewhere(partial(open_sealed, sealed, self._here, self._newest))
        if isinstance(found, Refused):
            raise found.error()
        try:
            self._versions.keep(found.version, sealed)
        except OSError as error:
            raise OfferError(Refusal.NOT_KEPT, str(error), found.version) from error
        self._newest = found.version
        return found

    async def _try(
        self,
        new: Standing,
        settings: EdgeSettings,
        adopt: Adopt,
        watch: Watch,
    ) -> None:
        """Go on under `settings`; keep them if all that worked works again in time, else go back."""
        log.info("version on trial", version=new.version, hash=new.hash, for_s=self._trial_s)
        self._stand(self.standing, Answer(new.version, Outcome.ON_TRIAL))
        try:
            await adopt(settings)
            watch.changed()
            reason = await self._until_well(watch)
            if not reason:
                await asyncio.to_thread(self._versions.confirm, new.version)
                # Whoever asks for them must not wait for the disk.
                self._good = [new.version, *self._good][:KEPT]
        except Exception as error:
            # Whatever it is: under the last good version the gateway worked.
            log.exception("version not applied", version=new.version)
            reason = f"could not be applied: {error!r}"
        if reason:
            log.error("version rolled back", version=new.version, reason=reason)
            await asyncio.to_thread(self._reject, new.version, reason)
            await adopt(self.settings)
            self._count(self.standing, Answer(new.version, Outcome.ROLLED_BACK, reason))
            return
        log.info("version applied", version=new.version)
        self.settings = settings
        self._count(new, Answer(new.version, Outcome.APPLIED))

    async def _until_well(self, watch: Watch) -> str:
        """Wait until nothing is missing any more; where the time is over before, tell what is."""
        until_s, well = self._clock.monotonic() + self._trial_s, 0
        while True:
            await asyncio.sleep(LOOK_S)
            lacks = watch.missing()
            well = 0 if lacks else well + 1
            if well >= LOOKS:
                return ""
            if lacks and self._clock.monotonic() >= until_s:
                return "; ".join(lacks)

    def _reject(self, version: int, reason: str) -> None:
        try:
            self._versions.reject(version, reason)
        except OSError as error:
            # It stays one on trial, and the next start comes to the same.
            log.error("rolled back, and the disk does not take it", reason=str(error))  # noqa: TRY400 -- the disk's affair

    def _refuse(self, error: OfferError) -> None:
        answered = self.standing.answer
        if error.refusal is Refusal.OLD and answered is not None and answered.version == error.version:
            # Sent again because the answer was lost.
            self._told(self.standing.to_text())
            return
        log.error("slice refused", reason=error.refusal, detail=error.detail, version=error.version)
        self.counts[f"{Outcome.REFUSED}: {error.refusal}"] += 1
        self._stand(self.standing, Answer(error.version, Outcome.REFUSED, str(error)))

    def _count(self, standing: Standing, answer: Answer) -> None:
        self.counts[answer.outcome] += 1
        self._stand(standing, answer)

    def _stand(self, standing: Standing, answer: Answer | None) -> None:
        self.standing = Standing(standing.version, standing.hash, answer)
        self._told(self.standing.to_text())
