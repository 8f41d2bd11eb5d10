"""Serves the built console page: hashed assets for ever, the page itself fresh, and the page at its own addresses."""

from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS: Final = "assets"
INDEX: Final = "index.html"
# Where people and programs look for an interface; a page there would be taken for one.
INTERFACE: Final = frozenset({"api", "docs", "redoc", "healthz", "readyz", "metrics"})

NOT_BUILT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tocsin</title></head>
<body><h1>Tocsin</h1>
<p>控制台页面尚未构建；接口在 /api/v1。</p>
<p>The console page is not built; the interface is at /api/v1. Build it with <code>make console</code>.</p>
</body></html>
"""


def is_page(path: str) -> bool:
    """Say whether `path` (no slash in front) can be one of the page's own: no file's name, and not the interface's."""
    first, *_, last = f"{path}/{path}".split("/")
    return first not in INTERFACE and ("." not in last or path == ".")


class Console(StaticFiles):
    """The page's files; an address that is no file is one of the page's own."""

    def __init__(self, folder: Path) -> None:
        """Serve the files of `folder`, which holds an index.html."""
        super().__init__(directory=folder)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at `path`, or the page."""
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            if not is_page(path):
                raise _nothing_at(path) from error
            response = await super().get_response(INDEX, scope)
        hashed = path.startswith(f"{ASSETS}/") and isinstance(response, FileResponse)
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response


async def not_built(path: str) -> HTMLResponse:
    """Return the page that says that there is no page."""
    if not is_page(path):
        raise _nothing_at(path)
    return HTMLResponse(NOT_BUILT, HTTPStatus.NOT_FOUND)


def _nothing_at(path: str) -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, f"There is nothing at /{path}.")


def built(folder: Path | None) -> Path | None:
    """Return `folder` if it holds a built page, else None."""
    return folder if folder is not None and (folder / INDEX).is_file() else None
