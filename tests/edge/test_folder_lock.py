"""One gateway process a data folder."""

from pathlib import Path

import pytest

from tocsin_edge.adapters.folder_lock import FolderHeldError, held


def test_a_held_folder_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    """While one holds the folder another is refused with its path; afterwards it may be held again."""
    with (
        held(tmp_path / "gw"),
        pytest.raises(FolderHeldError, match="another gateway is running on"),
        held(tmp_path / "gw"),
    ):
        pytest.fail("two held the same folder")
    with held(tmp_path / "gw"):
        assert not list((tmp_path / "gw").iterdir())
