"""An empty SQLite database with today's tables for each test: made once, and copied."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.engine import URL

from tocsin_cloud.adapters.sql.engine import migrate, sqlite_url


@cache
def _tables() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "db")
        migrate(sqlite_url(path))
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        return path.read_bytes()


def with_tables(path: Path) -> URL:
    """Make the database at `path` where none is yet, and return its address."""
    if not path.exists():
        path.write_bytes(_tables())
    return sqlite_url(path)
