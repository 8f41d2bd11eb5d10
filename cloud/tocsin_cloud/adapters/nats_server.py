"""The embedded nats-server: its process, its restart when it dies, and whom it lets in."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from dataclasses import replace
from pathlib import Path
from typing import Self

import structlog
from prometheus_client import Counter

from tocsin_cloud.adapters.broker_log import BrokerLog
from tocsin_cloud.adapters.host_password import VARIABLE, given_or_made
from tocsin_cloud.adapters.nats_config import USERS_FILE, config_text
from tocsin_cloud.adapters.permissions import Users
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import Clock

log = structlog.get_logger()

RESTART_FIRST_S = 0.2
RESTART_MOST_S = 5.0
POLL_S = 0.05
USERS_S = 1.0
STORES_S = 5.0
# A full disk on which so many bytes are free again is none.
ROOM_BYTES = 16 << 20
CURE = "--mqtt-tls, or listen on 127.0.0.1 alone"
SAYS_ANYTHING = "whoever reaches the MQTT listener tells readings and journals of any gateway"
IS_THE_CLOUD = "whoever reaches the NATS listener is taken for the cloud side, and commands alarms and gateways"


class BrokerError(RuntimeError):
    """The nats-server cannot be found, started or reached."""


def program() -> str:
    """Path of the nats-server program that came with the installation, or else the one on PATH.

    Raises:
        BrokerError: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise BrokerError("nats-server is not installed: it comes with tocsin[cloud]")
    return found


async def server_name_at(address: Address, timeout_s: float = 1.0) -> str | None:
    """The name that a nats-server listening at `address` tells; None when nothing of that kind answers."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*address)
            try:
                line = await reader.readline()
            finally:
                writer.close()
        return str(json.loads(line.removeprefix(b"INFO "))["server_name"])
    except (OSError, TimeoutError, ValueError, KeyError):
        return None


class NatsServer:
    """One nats-server child process.

    A lock file is inherited by the server and by nobody else: as long as one lives, a second cannot open the same
    store, even when the first one's parent was killed.
    """

    def __init__(self, settings: BrokerSettings, clock: Clock, users: Users | None = None) -> None:
        """Prepare; `start` starts it."""
        self._settings = settings
        self._log_file = settings.folder / "server.log"
        self._clock = clock
        self._users = users
        self._given = ""
        self._process: Process | None = None
        self.restarts = 0

    @classmethod
    async def start(cls, settings: BrokerSettings, clock: Clock, users: Users | None = None) -> Self:
        """Start the server and wait until both listeners answer; with TLS it lets in the `users`.

        Raises:
            BrokerError: it did not come up in time; the message has the reason.
        """
        for address, risk in ((settings.mqtt, SAYS_ANYTHING), (settings.nats, IS_THE_CLOUD)):
            if settings.tls is None and not address.loopback:
                log.warning(risk, listens=str(address), cure=CURE)
        server = cls(settings, clock, users)
        try:
            await server._launch()
        except BaseException:
            await server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """Address for NATS clients."""
        scheme = "nats" if self._settings.tls is None else "tls"
        return f"{scheme}://{self._settings.nats}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None else self._process.pid

    async def supervise(self) -> None:
        """Restart the server whenever it ends, or stores nothing for no reason; runs until cancelled."""
        pause = RESTART_FIRST_S
        while True:
            if self._process is not None:
                code = await self._ended(self._process)
                log.error("broker died", exit_code=code, restart_in_s=pause)
            await asyncio.sleep(pause)
            try:
                await self._launch()
                self.restarts += 1
                pause = RESTART_FIRST_S
            except BrokerError as problem:
                pause = min(2 * pause, RESTART_MOST_S)
                log.error("broker does not start", reason=str(problem), again_in_s=pause)  # noqa: TRY400 -- the message is the reason

    async def _ended(self, process: Process) -> int:
        """Wait for the end of the server; one that goes on refusing what a full disk refused is ended.

        Once a write to a stream's file has failed nats-server takes nothing more into it until it is started anew.
        """
        heard = BrokerLog(self._log_file)
        # One waiter for as long as it lives: the process keeps each that was given up.
        ending = asyncio.create_task(process.wait(), name="end of the broker")
        try:
            while not (await asyncio.wait([ending], timeout=STORES_S))[0]:
                if self._refuses_for_nothing(heard) and process.returncode is None:
                    log.error("broker stores nothing though the disk has room again: it is started anew")
                    process.terminate()
            return ending.result()
        finally:
            ending.cancel()

    def _refuses_for_nothing(self, heard: BrokerLog) -> bool:
        try:
            return heard.has_no_room() and shutil.disk_usage(self._settings.folder).free >= ROOM_BYTES
        except OSError as error:
            log.warning("whether the broker stores anything is not known", reason=str(error))
            return False

    async def keep_users(self, refused: Counter | None = None) -> None:
        """Bring the users that the server lets in up to date, and count what it refused; runs until cancelled."""
        heard = BrokerLog(self._log_file)
        while True:
            await asyncio.sleep(USERS_S)
            try:
                if self._users is not None and self._users.text() != self._given and self._process is not None:
                    self._write_users(self._users)
                    # The server disconnects whom it no longer knows, and nobody else.
                    self._process.send_signal(signal.SIGHUP)
                    log.info("broker lets in other certificates from now on")
                counts = heard.refused()
            except OSError as error:
                log.error("broker's users are not brought up to date", reason=str(error))  # noqa: TRY400 -- the message is the reason
                continue
            if refused is not None:
                for reason, count in counts.items():
                    refused.labels(reason).inc(count)

    async def stop(self) -> None:
        """End the server; kill it when it does not end in time."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            log.warning("broker killed: it did not end in time", pid=process.pid)
            process.kill()
            await process.wait()

    async def _launch(self) -> None:
        settings = self._settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        config = settings.folder / "server.conf"
        if self._users is not None:
            self._write_users(self._users)
        config.write_text(config_text(replace(settings, log_file=self._log_file)), encoding="utf-8")
        deadline = self._clock.monotonic() + settings.ready_timeout_s
        lock = os.open(settings.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await self._take(lock, deadline)
            password = {} if settings.tls else {VARIABLE: _quoted(given_or_made(settings.folder))}
            # Linux: the server ends with the process that started it, also when that one is killed.
            setpriv = shutil.which("setpriv")
            leash = [setpriv, "--pdeathsig", "TERM"] if setpriv is not None else []
            self._process = await asyncio.create_subprocess_exec(
                *leash, program(), "-c", str(config), pass_fds=(lock,), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | password,
            )  # fmt: skip
        finally:
            os.close(lock)
        await self._until_ready(self._process, deadline)
        log.info("broker ready", nats=str(settings.nats), mqtt=str(settings.mqtt), pid=self._process.pid)

    def _write_users(self, users: Users) -> None:
        self._given = users.text()
        write_whole(self._settings.folder / USERS_FILE, self._given.encode())

    async def _take(self, lock: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._clock.monotonic() > deadline:
                    raise BrokerError(f"another nats-server still uses {self._settings.folder}") from None
                await asyncio.sleep(POLL_S)
            else:
                return

    async def _until_ready(self, process: Process, deadline: float) -> None:
        settings = self._settings
        while self._clock.monotonic() < deadline:
            if process.returncode is not None:
                raise BrokerError(f"nats-server ended with code {process.returncode}: {self._last_words()}")
            if await server_name_at(settings.nats) == settings.server_name and await _listens(settings.mqtt):
                return
            await asyncio.sleep(POLL_S)
        raise BrokerError(f"nats-server is not ready after {settings.ready_timeout_s:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        path = self._log_file
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        return next((line for line in reversed(lines) if "[FTL]" in line or "[ERR]" in line), "it said nothing")


def _quoted(password: str) -> str:
    """The password as a text in the server's configuration, also where it looks like a number or an option.

    Raises:
        BrokerError: the server would take it for something else.
    """
    if password.startswith("$2") or not password.isprintable():
        raise BrokerError(
            f"{VARIABLE} may neither begin with $2 (nats-server takes that for a hash) nor hold control codes"
        )
    return json.dumps(password, ensure_ascii=False)


async def _listens(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    writer.close()
    return True
