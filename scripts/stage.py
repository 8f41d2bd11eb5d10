"""Runs one stage of the set-up and shows it: what runs, since when, how it goes, and on failure why."""

from __future__ import annotations  # so that an old Python comes as far as the line that says it is too old

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

LOGS = Path(__file__).resolve().parent.parent / ".stamps"
HEARTBEAT_S = 10.0
REFRESH_S = 0.2
LINE_WIDTH = 120
SHOWN_ON_FAILURE = 15
NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish|name resolution|timed out|ConnectionError|Connection refused|SSLError"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|CERTIFICATE",
    re.IGNORECASE,
)


class Stage:
    """One command with its title, its log and its last line of output."""

    def __init__(self, name: str, title: str, command: list[str], guard: Path | None) -> None:
        """Name the log `.stamps/NAME.log`; a person reads the title; the guard exists while it runs."""
        self.title, self.command, self.guard = title, command, guard
        self.log = LOGS / f"{name}.log"
        self.last = ""
        self.began = time.monotonic()
        self.tty = sys.stdout.isatty()

    def say(self, text: str, *, lasting: bool) -> None:
        """Print one line; on a terminal a line that does not last is overwritten by the next."""
        line = f"[{time.monotonic() - self.began:4.0f} s] {self.title}{text}"
        if self.tty:
            width = os.get_terminal_size().columns or LINE_WIDTH
            print("\r\x1b[K" + line[: width - 1], end="\n" if lasting else "", flush=True)
        else:
            print(line[:LINE_WIDTH], flush=True)

    def read(self, process: subprocess.Popen[str]) -> None:
        """Copy the command's output into the log and remember the newest line."""
        with self.log.open("w", encoding="utf-8") as log:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                self.last = line.strip() or self.last

    def run(self) -> int:
        """Run the command to its end and return its exit code; the guard stays when the end came from outside."""
        if self.guard:
            self.guard.touch()
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        reader = threading.Thread(target=self.read, args=(process,), daemon=True)
        reader.start()
        self.say(" …", lasting=not self.tty)
        every = REFRESH_S if self.tty else HEARTBEAT_S
        try:
            while True:
                reader.join(every)
                if not reader.is_alive():
                    break
                self.say(f" … {self.last}", lasting=not self.tty)
        except KeyboardInterrupt:
            process.wait()
            self.say(" interrupted; the next make goes on from here", lasting=True)
            return 130
        code = process.wait()
        if self.guard and code >= 0:
            self.guard.unlink()
        self.say(" done" if code == 0 else f" FAILED (exit code {code})", lasting=True)
        return code

    def explain(self) -> None:
        """Show the end of the log and, where it looks like one, name a network that does not answer."""
        text = self.log.read_text(encoding="utf-8")
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
    LOGS.mkdir(exist_ok=True)
    stage = Stage(arguments.name, arguments.title, arguments.command, arguments.guard)
    code = stage.run()
    if code not in (0, 130):
        stage.explain()
    sys.exit(code)


if __name__ == "__main__":
    main()
