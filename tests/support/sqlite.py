"""An empty SQLite database with today's tables for each test: made once, and copied."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.engine import URL

from tocsin_cloud.adapters.sql.engine import migrate, sqlite_url


@cache
def _tables() -> bytes:
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as aside:
        path = Path(folder, "db")
        # It runs an event loop of its own, and whoever asks first may be in one.
        aside.submit(migrate, sqlite_url(path)).result()
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        return path.read_bytes()


def with_tables(path: Path) -> URL:
    """Make the database at `path` where none is yet, and return its address."""
    if not path.exists():
        path.write_bytes(_tables())
    return sqlite_url(path)
