"""A real nats-server with its MQTT listener, for tests that need a broker which can be cut off and brought back."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_edge.adapters.local_broker import program


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on a port of this machine, or of `host`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((host, port)) == 0


class Broker:
    """A broker program in a process of its own, on the same MQTT port each time it is started."""

    def __init__(self, command: list[str], mqtt: int) -> None:
        """Start nothing yet."""
        self.mqtt = mqtt
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: listens(self.mqtt))

    def reload(self) -> None:
        """Have a nats-server read its configuration anew."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it at once, as a cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def nats_broker(folder: Path) -> Iterator[Broker]:
    """Run the nats-server of the environment with JetStream in `folder` and an MQTT listener."""
    mqtt, client = free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f"server_name: test\nlisten: 127.0.0.1:{client}\n"
        f"jetstream {{ store_dir: {str(folder / 'store')!r} }}\nmqtt {{ listen: 127.0.0.1:{mqtt} }}\n",
        encoding="utf-8",
    )
    broker = Broker([program(), "-c", str(config)], mqtt)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def mosquitto_broker(program: str, folder: Path) -> Iterator[Broker]:
    """Run mosquitto on a free port; for the same tests on a broker of other make."""
    mqtt = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {mqtt} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
    broker = Broker([program, "-c", str(config)], mqtt)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
