"""Runs the demo as a user does, in a process of its own, and asks its HTTP interface what came of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.ports import free_port
from tests.support.wait import eventually


@dataclass
class Demo:
    """A running demo: its process, its data folder and a signed-in HTTP client."""

    process: subprocess.Popen[str]
    data: Path
    address: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        """Make the client; it signs in once the page is there."""
        self.http = httpx.Client(base_url=self.address, timeout=20, trust_env=False)

    @property
    def password(self) -> str:
        """The demo's administrator password."""
        return (self.data / "admin-password").read_text(encoding="utf-8")

    def log(self) -> str:
        """What every process said, for a failing test."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted((self.data / "logs").glob("*.log"))
        )

    def ready(self) -> bool:
        """Whether the cloud side says that it is ready."""
        assert self.process.poll() is None, f"the demo ended with {self.process.returncode}\n{self.log()}"
        try:
            return self.http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def sign_in(self) -> None:
        """Sign in as the administrator."""
        eventually(self.ready, timeout_s=60)
        answer = self.http.post("/api/v1/session", json={"user": "admin", "password": self.password})
        self.http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"

    def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 -- whatever JSON the resource has
        """One resource of the API."""
        return self.http.get(f"/api/v1/{path}", params=query).raise_for_status().json()

    def try_get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 -- whatever JSON the resource has
        """Read the same, or None while the server is away."""
        try:
            return self.get(path, **query)
        except httpx.HTTPError:
            return None

    def children(self) -> dict[str, psutil.Process]:
        """The demo's processes by what they do: broker, cloud, page, sim, or the gateway's id."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                words = child.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue  # killed a moment ago
            if "-m" not in words:
                continue
            verb = "page" if "api" in words else words[words.index("-m") + 2]
            found[words[words.index("--gateway") + 1] if verb == "edge" else verb] = child
        return found

    def kill(self, name: str) -> None:
        """`kill -9` one of its processes."""
        self.children()[name].send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


@contextmanager
def running_demo(data: Path, *options: str) -> Iterator[Demo]:
    """A demo with these options on `data`; ended with Ctrl-C where the test has not ended it."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "tocsin_cli",
        "demo",
        "--data",
        str(data),
        "--http",
        f"127.0.0.1:{port}",
        *options,
    ]
    with (data.parent / "demo.out").open("w") as out, (data.parent / "demo.err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True, start_new_session=True)
    demo = Demo(process, data, f"http://127.0.0.1:{port}")
    try:
        yield demo
    finally:
        demo.http.close()
        if process.poll() is None:
            demo.interrupt()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def report_of(data: Path) -> dict[str, Any]:
    """The JSON object on the last line of a finished demo's output."""
    report: dict[str, Any] = json.loads((data.parent / "demo.out").read_text(encoding="utf-8").splitlines()[-1])
    return report
