"""What a gateway keeps of its plant folder: used only while it would read the same anew."""

from pathlib import Path

import pytest

from tests.edge.rig import modbus_device, plant
from tocsin_core.plant import Plant, PlantError, load_plant
from tocsin_core.plant.load import Folder
from tocsin_core.plant.source import Problem
from tocsin_edge.adapters import kept_plant
from tocsin_edge.adapters.kept_plant import KEPT_FILE, own_plant
from tocsin_edge.settings import EdgeSettings, compile_settings, folder_of

PROFILE = """\
vendor: V
model: M
trust: reported
source: a test
values:
  f32_abcd: {address: 7, type: f32, word_order: ABCD}
"""


class Start:
    """Starts of one gateway on one plant folder; `read` counts those that read the folder."""

    def __init__(self, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count what reads the folder."""
        self.folder, self.data, self.read = folder, data, 0

        def counted(*given: Folder) -> Plant:
            self.read += 1
            return load_plant(*given)

        monkeypatch.setattr(kept_plant, "load_plant", counted)

    def settings(self) -> EdgeSettings:
        """What it runs on this time."""
        own = own_plant(self.folder, "gw", folder_of(self.data, "gw"))
        return compile_settings(own, "gw", self.data)

    @property
    def kept(self) -> Path:
        """The file."""
        return folder_of(self.data, "gw") / KEPT_FILE


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A gateway on a plant with one device, that has not been started yet."""
    return Start(plant(tmp_path / "plant", 1883, {"A": modbus_device("A", 502)}), tmp_path / "data", monkeypatch)


def test_an_unchanged_plant_is_read_once(start: Start) -> None:
    """The second start comes to the same settings, the same alarms and the same slice, without the folder's YAML."""
    first, second = start.settings(), start.settings()
    assert start.read == 1
    assert (second.devices, second.gateway, second.content) == (first.devices, first.gateway, first.content)
    assert second.alarms.prints == first.alarms.prints
    assert second.alarms.rules.definitions == first.alarms.rules.definitions


def test_whatever_it_was_made_from_may_change(start: Start) -> None:
    """The plant file, a register map of the folder's own where there was none, and one where there is one now."""
    first = start.settings()
    file = start.folder / "plant.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("port: 502", "port: 503"), encoding="utf-8")
    second = start.settings()
    profile = start.folder / "profiles" / "tocsin-word-orders.yaml"
    profile.parent.mkdir(exist_ok=True)
    profile.write_text(PROFILE, encoding="utf-8")
    third = start.settings()
    profile.write_text(PROFILE.replace("7", "9"), encoding="utf-8")
    fourth = start.settings()
    assert start.read == 4
    assert len({each.content for each in (first, second, third, fourth)}) == 4
    assert start.settings().content == fourth.content
    assert start.read == 4


def test_a_plant_that_does_not_pass_any_more_is_refused(start: Start) -> None:
    """Though what was kept of it would do."""
    start.settings()
    (start.folder / "plant.yaml").write_text("tocsin: 1\n", encoding="utf-8")
    with pytest.raises(PlantError):
        start.settings()


def test_an_upgrade_that_refuses_the_plant_goes_on_with_what_was_kept_of_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each start, whatever maps the new version ships, as long as nobody has touched the folder."""
    first = start.settings()
    before = kept_plant._hash_of  # noqa: SLF001 -- of files that come with Tocsin

    def refused(*_: Folder) -> Plant:
        raise PlantError([Problem("plant.yaml", 1, "", "not any more")])

    def upgraded(path: Path) -> str | None:
        return before(path) if path.is_relative_to(start.folder) else "another map"

    monkeypatch.setattr(kept_plant, "version", lambda _: "99")
    monkeypatch.setattr(kept_plant, "_hash_of", upgraded)
    monkeypatch.setattr(kept_plant, "load_plant", refused)
    for _ in range(2):
        assert start.settings().content == first.content
    with (start.folder / "plant.yaml").open("a", encoding="utf-8") as file:
        file.write("# Somebody was here.\n")
    with pytest.raises(PlantError, match="not any more"):
        start.settings()


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"nonsense", b'{"read": [1]}\n'])
def test_what_was_damaged_is_made_anew(start: Start, damage: bytes) -> None:
    """Cut off in its head, or of another make: the folder is read as if nothing had been kept."""
    first = start.settings()
    start.kept.write_bytes(damage)
    assert start.settings().content == first.content
    assert start.read == 2


def test_what_was_cut_off_is_made_anew(start: Start) -> None:
    """At any place: what is left is no slice."""
    first = start.settings()
    whole = start.kept.read_bytes()
    for place in (0, len(whole) // 4, len(whole) // 2, len(whole) - 1):
        start.kept.write_bytes(whole[:place])
        assert start.settings().content == first.content
        assert start.kept.read_bytes() == whole
    assert start.read == 5


def test_another_folder_or_another_tocsin_is_another_plant(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the folder that it is started with says counts, and what a newer Tocsin makes of it."""
    start.settings()
    start.folder = start.folder.rename(start.folder.with_name("elsewhere"))
    start.settings()
    assert start.read == 2
    monkeypatch.setattr(kept_plant, "version", lambda _: "99")
    start.settings()
    assert start.read == 3


def test_a_disk_that_takes_nothing_does_not_matter(start: Start) -> None:
    """The plant is read at each start, as ever."""
    start.data.mkdir()
    (start.data / "gateways").write_text("a file where a folder should be", encoding="utf-8")
    assert start.settings().content == start.settings().content
    assert start.read == 2


def test_a_gateway_that_is_not_in_the_plant_keeps_nothing(start: Start) -> None:
    """It is told by name who there is."""
    with pytest.raises(ValueError, match="no gateway 'none'"):
        compile_settings(own_plant(start.folder, "none", start.data / "none"), "none", start.data)
    assert not (start.data / "none").exists()
