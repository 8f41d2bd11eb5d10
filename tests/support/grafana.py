"""A stand-in for Grafana: the endpoints of its HTTP API that `tocsin grafana push` asks, as its documentation has them.

No package of Grafana was at hand. Refusals are those that are documented: 401 without the token, 404, 409 and 412.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

TOKEN: Final = "glsa_stand_in"
MISMATCH: Final = {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
Answer = tuple[int, Any]


@dataclass
class StandIn:
    """What it holds; `saves` lists the bodies of dashboards that were saved."""

    url: str
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    saves: list[dict[str, Any]] = field(default_factory=list)
    refuse: Answer | None = None
    # Somebody saves this dashboard between our look at it and our saving it.
    meddled: str = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        """Answer one call of a client whose token is right."""
        for pattern, handle in (
            (r"GET /api/folders/([\w-]+)", self._folder),
            (r"POST /api/folders", self._new_folder),
            (r"PUT /api/folders/([\w-]+)", self._named_folder),
            (r"GET /api/datasources/uid/([\w-]+)", self._source),
            (r"POST /api/datasources", self._new_source),
            (r"PUT /api/datasources/uid/([\w-]+)", self._changed_source),
            (r"GET /api/dashboards/uid/([\w-]+)", self._dashboard),
            (r"POST /api/dashboards/db", self._saved),
        ):
            match = re.fullmatch(pattern, f"{method} {path}")
            if match is not None:
                return handle(body, *match.groups())
        return 404, {"message": "Not found"}

    def _folder(self, _body: dict[str, Any], uid: str) -> Answer:
        return (200, self.folders[uid]) if uid in self.folders else (404, {"message": "folder not found"})

    def _new_folder(self, body: dict[str, Any]) -> Answer:
        if body["uid"] in self.folders:
            return 412, {"message": "a folder with the same uid already exists"}
        self.folders[body["uid"]] = {**body, "version": 1}
        return 200, self.folders[body["uid"]]

    def _named_folder(self, body: dict[str, Any], uid: str) -> Answer:
        if body.get("version") != self.folders[uid]["version"]:
            return 412, {"status": "version-mismatch", "message": "the folder has been changed by someone else"}
        self.folders[uid] |= {"title": body["title"], "version": body["version"] + 1}
        return 200, self.folders[uid]

    def _source(self, _body: dict[str, Any], uid: str) -> Answer:
        if uid not in self.sources:
            return 404, {"message": "Data source not found"}
        shown = {name: value for name, value in self.sources[uid].items() if name != "secureJsonData"}
        secret = self.sources[uid].get("secureJsonData", {})
        return 200, {**shown, "secureJsonFields": dict.fromkeys(secret, True)}

    def _new_source(self, body: dict[str, Any]) -> Answer:
        if any(source["name"] == body["name"] for source in self.sources.values()):
            return 409, {"message": "data source with the same name already exists"}
        self.sources[body["uid"]] = body
        return 200, {"message": "Datasource added"}

    def _changed_source(self, body: dict[str, Any], uid: str) -> Answer:
        self.sources[uid] = body
        return 200, {"message": "Datasource updated"}

    def _dashboard(self, _body: dict[str, Any], uid: str) -> Answer:
        return (200, self.dashboards[uid]) if uid in self.dashboards else (404, {"message": "Dashboard not found"})

    def _saved(self, body: dict[str, Any]) -> Answer:
        dashboard = body["dashboard"]
        uid, there = dashboard["uid"], self.dashboards.get(dashboard["uid"])
        version = 0 if there is None else there["dashboard"]["version"]
        if uid == self.meddled:
            version += 1
        if not body["overwrite"] and dashboard["version"] != version:
            return 412, MISMATCH
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        kept = {**dashboard, "id": len(self.saves) + 1, "version": version + 1}
        self.dashboards[uid] = {"dashboard": kept, "meta": {"folderUid": body["folderUid"]}}
        self.saves.append(body)
        return 200, {"status": "success", "uid": uid, "version": version + 1}


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Run the stand-in on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def _all(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, told = 401, {"message": "Invalid API key"}
            else:
                status, told = made.refuse or made.answer(self.command, self.path, body)
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _all  # noqa: N815 -- the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = StandIn(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
