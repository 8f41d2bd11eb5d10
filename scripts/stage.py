"""Runs one stage of the set-up and shows it: what runs, since when, how it goes, and on failure why."""

from __future__ import annotations  # so that an old Python comes as far as the line that says it is too old

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

LOGS = Path(__file__).resolve().parent.parent / ".stamps"
HEARTBEAT_S = 10.0
REFRESH_S = 0.2
LINE_WIDTH = 120
SHOWN_ON_FAILURE = 15
INTERRUPTED = 130
TAIL_BYTES = 2000
NO_NETWORK = re.compile(
    # pip
    r"NewConnectionError|NameResolutionError|TimeoutError|ProtocolError|SSLError|\bConnectionError"
    r"|name resolution|timed out|Connection refused|Failed to (?:establish|connect)|CERTIFICATE"
    # npm; in capitals only, or the pattern would find itself in ModuleNotFoundError
    r"|\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)\b|CERT_"
)


class Stage:
    """One command with its title and its log, both for people, on standard error: standard output is the caller's."""

    def __init__(self, name: str, title: str, command: list[str], guard: Path | None) -> None:
        """Name the stamp and the log, `.stamps/NAME` and `.stamps/NAME.log`; the guard exists while it runs."""
        self.title, self.command, self.guard = title, command, guard
        self.stamp, self.log = LOGS / name, LOGS / f"{name}.log"
        self.began = time.monotonic()
        self.tty = sys.stderr.isatty()

    def say(self, text: str, *, lasting: bool) -> None:
        """Print one line; on a terminal a line that does not last is overwritten by the next."""
        line = f"[{time.monotonic() - self.began:4.0f} s] {self.title}{text}"
        if self.tty:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or LINE_WIDTH
            print("\r\x1b[K" + line[: width - 1], end="\n" if lasting else "", file=sys.stderr, flush=True)
        else:
            print(line[:LINE_WIDTH], file=sys.stderr, flush=True)

    def prepare(self) -> BinaryIO:
        """Take back what says that all is well, and open the log; OSError when the checkout cannot be written."""
        LOGS.mkdir(exist_ok=True)
        if self.stamp.exists():
            self.stamp.unlink()
        if self.guard:
            self.guard.touch()
        return self.log.open("wb")

    def last(self) -> str:
        """Return the newest line of the log that says something."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def run(self, log: BinaryIO) -> int:
        """Run the command to its end and return its exit code; the guard stays when the end came from outside."""
        self.say(" …", lasting=not self.tty)
        # Open descriptors go on to the command: a make that was killed leaves the lock with what still runs.
        process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, close_fds=False
        )
        try:
            code = self.follow(process)
        except KeyboardInterrupt:
            process.wait()
            self.say(" interrupted; the next make goes on from here", lasting=True)
            return INTERRUPTED
        if self.guard and code >= 0:
            self.guard.unlink()
        self.say(" done" if code == 0 else f" FAILED (exit code {code})", lasting=True)
        return code

    def follow(self, process: subprocess.Popen[bytes]) -> int:
        """Say now and then how far the command is, until it ends."""
        while True:
            try:
                return process.wait(REFRESH_S if self.tty else HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                self.say(f" … {self.last()}", lasting=not self.tty)

    def explain(self) -> None:
        """Show the end of the log and, where it looks like one, name a network that does not answer."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines()[-SHOWN_ON_FAILURE:]:
            print(f"    {line}", file=sys.stderr)
        if NO_NETWORK.search(text):
            print(
                "No package index answered. Check the network (pip's and npm's own settings are used for a proxy or a"
                " mirror), then run the same make again: it goes on from here.",
                file=sys.stderr,
            )
        print(f"The whole output is in {self.log}", file=sys.stderr)


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guard", type=Path, help="a file that exists while the command runs or was cut short")
    parser.add_argument("name")
    parser.add_argument("title")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    stage = Stage(arguments.name, arguments.title, arguments.command, arguments.guard)
    try:
        log = stage.prepare()
    except OSError as problem:
        sys.exit(f"error: {problem.filename}: {problem.strerror}; the set-up needs a checkout that it can write to")
    with log:
        code = stage.run(log)
    if code not in (0, INTERRUPTED):
        stage.explain()
    sys.exit(code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # a second one, while the command was still ending
        sys.exit(INTERRUPTED)
