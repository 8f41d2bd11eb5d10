"""The web hook of the cloud side's fault benchmark: takes every message to people, and writes down which it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tocsin_cloud.adapters.channels import KEY_HEADER


@dataclass(frozen=True, slots=True)
class Listener:
    """Where it listens, and the key of each request that it took, as often as it did: it drops no repetition."""

    port: int
    keys: list[str] = field(default_factory=list)


@contextmanager
def listening(host: str) -> Iterator[Listener]:
    """Take requests on a port of `host` until left."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            # Taken is what was understood, whether the sender lives to hear so or not.
            listener.keys.append(self.headers.get(KEY_HEADER, ""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_parts: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer((host, 0), Hook) as server:
        listener = Listener(server.server_port)
        serving = threading.Thread(target=server.serve_forever, name="web hook")
        serving.start()
        try:
            yield listener
        finally:
            server.shutdown()
            serving.join()
