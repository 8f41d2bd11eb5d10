"""The parts of a plant file that hold by themselves, whatever is wrong with the rest, so that all can be checked."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from re import fullmatch
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from tocsin_core.plant.fields import ALARM, IDENTIFIER
from tocsin_core.plant.model import Computed, Device, EscalationStep, FirstOut, Gateway, PlantFile, Point, Shift
from tocsin_core.plant.outputs import Button, Output
from tocsin_core.plant.source import Path, Problem, Source, path_text

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Names:
    """The ids of one list; not `complete` where some item's cannot be read, so that none is known to be missing."""

    what: str
    found: tuple[tuple[Path, str], ...]
    complete: bool

    @cached_property
    def ids(self) -> frozenset[str]:
        """Every id that stands there, well formed or not."""
        return frozenset(name for _, name in self.found)

    def lack(self, name: str) -> bool:
        """Whether `name` is surely the id of no item."""
        return self.complete and name not in self.ids


@dataclass(frozen=True)
class Parts:
    """Each part of a plant file with the path at which it stands; what a malformed part holds is not among them.

    Ids and references are read wherever they are well formed, even in parts that are not: nothing that stands in the
    file is missed there, and nothing is called missing that stands in the file.
    """

    names: dict[str, Names]
    """By key of the list: hazard_sources, gateways, people, rosters, first_out; points are all, computed ones too."""
    device_names: list[Names] = field(default_factory=list)
    """Per gateway."""
    output_names: list[Names] = field(default_factory=list)
    """Per gateway: its outputs and its push-buttons."""
    outputs: list[tuple[Path, Gateway, Output]] = field(default_factory=list)
    buttons: list[tuple[Path, Gateway, Button]] = field(default_factory=list)
    references: list[tuple[Path, str, tuple[str, ...]]] = field(default_factory=list)
    """A name, and the keys of the lists in one of which it has to be."""
    profiles: list[tuple[Path, str]] = field(default_factory=list)
    timezones: list[tuple[Path, str]] = field(default_factory=list)
    devices: list[tuple[Path, Gateway | None, Device]] = field(default_factory=list)
    """With its gateway, where that holds by itself."""
    points: list[tuple[Path, Gateway | None, Device | None, Point]] = field(default_factory=list)
    computed: list[tuple[Path, Computed]] = field(default_factory=list)
    models: list[tuple[Path, str]] = field(default_factory=list)
    first_out: list[tuple[Path, FirstOut]] = field(default_factory=list)
    steps: list[tuple[Path, EscalationStep]] = field(default_factory=list)
    duties: dict[str, tuple[Shift, ...]] = field(default_factory=dict)
    """The shifts of each roster of which every shift holds."""

    @cached_property
    def computed_ids(self) -> frozenset[str]:
        """The ids that only computed points have."""
        found = self.names["points"].found
        measured = {name for path, name in found if path[0] != "computed"}
        return frozenset(name for path, name in found if path[0] == "computed" and name not in measured)


_LISTS: Final = {
    "hazard_sources": "hazard source",
    "gateways": "gateway",
    "people": "person",
    "rosters": "roster",
    "first_out": "group",
}
# What a rule is computed from stands under these keys: one point, points, or lists of points.
_MEMBERS: Final = ("level", "temperature", "of", "inflow", "outflow", "items")


def _around(path: str) -> set[str]:
    """`path` and every path around it: of `a[0].b` also `a[0]` and `a`."""
    return {path} | {path[:end] for end, sign in enumerate(path) if sign in ".["}


class _Walk:
    """One pass over the data, or over the models made of it, that puts what holds into `parts`."""

    def __init__(self, source: Source, file: PlantFile | None, unread: list[Problem]) -> None:
        """`file`: the whole, if it is valid; `unread`: what could not even be read of the texts."""
        self._file = file
        self._source = source
        self._exact = {problem.path for problem in unread}
        self._around = {path for problem in unread for path in _around(problem.path)}
        self._places = {(problem.file, problem.line) for problem in unread}
        data = source.data
        self.data: dict[str, object] = data if isinstance(data, dict) else {}
        self.parts = Parts({key: self._names(self.data, (), key, what) for key, what in _LISTS.items()})
        self._points: list[Names] = []
        # Points may be missing whose row, or whose list under a misspelt key, could not be read.
        self._all_known = all(problem.file == source.place(())[0] for problem in unread)

    def _torn(self, path: Path, value: dict[str, object], inner: str) -> bool:
        """Whether something of this part itself, not of its list `inner`, could not be read."""
        # A row of an instrument list has no path of its own: it is the line that could not be read.
        place = self._source.places.get(path)
        if place is not None and place[0] != self._source.place(())[0] and place in self._places:
            return True
        return bool(self._around) and any(self._hole((*path, key), each) for key, each in value.items() if key != inner)

    def _hole(self, path: Path, value: object) -> bool:
        """Whether `value` is, or has in it, the nothing that stands for what could not be read."""
        text = path_text(path)
        if value is None or text not in self._around:
            return value is None and text in self._exact
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return any(self._hole((*path, key), each) for key, each in inside)

    def _alone(self, model: type[_Model], path: Path, value: object, inner: str = "") -> _Model | None:
        """The part at `path` as a `model` without its list `inner`, or None if it does not hold by itself."""
        if not isinstance(value, dict) or self._torn(path, value, inner):
            return None
        if self._file is not None:
            found: object = self._file
            for step in path:
                found = found[step] if isinstance(found, tuple) and isinstance(step, int) else getattr(found, str(step))
            return found if isinstance(found, model) else None
        try:
            return model.model_validate({key: each for key, each in value.items() if key != inner})
        except ValidationError:
            return None

    def _items(self, value: object, path: Path, key: str) -> list[tuple[Path, object]]:
        found = value.get(key) if isinstance(value, dict) else None
        return [((*path, key, i), item) for i, item in enumerate(found)] if isinstance(found, list) else []

    def _names(self, value: object, path: Path, key: str, what: str) -> Names:
        items = self._items(value, path, key)
        found = tuple(
            (here, name)
            for here, item in items
            if isinstance(item, dict) and isinstance(name := item.get("id"), str)
            if path_text((*here, "id")) not in self._exact
        )
        whole = isinstance(value, dict) and isinstance(value.get(key, []), list)
        # A list that is not there may stand under a misspelt key.
        whole = whole and (key in self.data or self.data.keys() <= PlantFile.model_fields.keys())
        return Names(what, found, whole and len(found) == len(items) and path_text((*path, key)) not in self._exact)

    def _refer(self, path: Path, name: object, *lists: str) -> None:
        if isinstance(name, str) and fullmatch(IDENTIFIER, name):
            self.parts.references.append((path, name, lists))

    def site(self) -> None:
        site = self.data.get("site")
        zone = site.get("timezone") if isinstance(site, dict) else None
        if isinstance(zone, str):
            self.parts.timezones.append((("site", "timezone"), zone))

    def gateways(self) -> None:
        for path, value in self._items(self.data, (), "gateways"):
            gateway = self._alone(Gateway, path, value, "devices")
            self.parts.device_names.append(self._names(value, path, "devices", "device"))
            self._all_known &= isinstance(value, dict) and value.keys() <= Gateway.model_fields.keys()
            self._outputs(path, gateway, value)
            for here, device in self._items(value, path, "devices"):
                self._device(here, gateway, device)

    def _outputs(self, path: Path, gateway: Gateway | None, value: object) -> None:
        outputs, buttons = (self._names(value, path, key, "output or button") for key in ("outputs", "acknowledge"))
        both = outputs.complete and buttons.complete
        self.parts.output_names.append(Names(outputs.what, (*outputs.found, *buttons.found), both))
        for here, item in self._items(value, path, "outputs"):
            for key, names in (("sources", "hazard_sources"), ("points", "points")):
                for place, name in self._items(item, here, key):
                    self._refer(place, name, names)
        if gateway is not None:
            self.parts.outputs.extend(
                ((*path, "outputs", at), gateway, each) for at, each in enumerate(gateway.outputs)
            )
            self.parts.buttons.extend(
                ((*path, "acknowledge", at), gateway, each) for at, each in enumerate(gateway.acknowledge)
            )

    def _device(self, path: Path, gateway: Gateway | None, value: object) -> None:
        device = self._alone(Device, path, value, "points")
        if device is not None:
            self.parts.devices.append((path, gateway, device))
        if isinstance(value, dict):
            self._refer((*path, "source"), value.get("source"), "hazard_sources")
            profile = value.get("profile")
            if isinstance(profile, str) and fullmatch(IDENTIFIER, profile):
                self.parts.profiles.append(((*path, "profile"), profile))
        self._points.append(self._names(value, path, "points", "point"))
        self._all_known &= isinstance(value, dict) and value.keys() <= Device.model_fields.keys()
        for here, item in self._items(value, path, "points"):
            if isinstance(item, dict):
                self._refer((*here, "source"), item.get("source"), "hazard_sources")
                self._refer_points((*here, "status", "point"), item.get("status"), "point")
                self._suppressors(here, item)
            point = self._alone(Point, here, item)
            if point is not None:
                self.parts.points.append((here, gateway, device, point))

    def computed(self) -> None:
        self._points.append(self._names(self.data, (), "computed", "point"))
        for path, value in self._items(self.data, (), "computed"):
            if isinstance(value, dict):
                self._refer((*path, "source"), value.get("source"), "hazard_sources")
                self._suppressors(path, value)
                rule = value.get("from")
                for key in _MEMBERS:
                    self._refer_points((*path, "from", key), rule, key)
                model = rule.get("model") if isinstance(rule, dict) else None
                if isinstance(model, str) and fullmatch(IDENTIFIER, model):
                    self.parts.models.append(((*path, "from", "model"), model))
            computed = self._alone(Computed, path, value)
            if computed is not None:
                self.parts.computed.append((path, computed))
        lists = [self.parts.names["gateways"], *self.parts.device_names, *self._points]
        found = tuple(chain.from_iterable(names.found for names in self._points))
        complete = self._all_known and all(names.complete for names in lists)
        self.parts.names["points"] = Names("point", found, complete)

    def _refer_points(self, path: Path, around: object, key: str) -> None:
        """The points that stand at `path`, under `key` of `around`: one, a list, or lists in a list."""
        self._refer_all(path, around.get(key) if isinstance(around, dict) else None)

    def _refer_all(self, path: Path, value: object) -> None:
        self._refer(path, value, "points")
        for number, item in enumerate(value if isinstance(value, list) else []):
            self._refer_all((*path, number), item)

    def _suppressors(self, path: Path, point: dict[str, object]) -> None:
        alarms = point.get("alarms")
        for kind, setting in alarms.items() if isinstance(alarms, dict) else ():
            by = setting.get("suppressed_by") if isinstance(setting, dict) else None
            self._refer_points((*path, "alarms", kind, "suppressed_by", "point"), by, "point")

    def first_out(self) -> None:
        for path, value in self._items(self.data, (), "first_out"):
            for place, name in self._items(value, path, "alarms"):
                if isinstance(name, str) and fullmatch(ALARM, name):
                    self._refer(place, name.rpartition("/")[0], "points")
            group = self._alone(FirstOut, path, value)
            if group is not None:
                self.parts.first_out.append((path, group))

    def rosters(self) -> None:
        names = dict(self.parts.names["rosters"].found)
        for path, value in self._items(self.data, (), "rosters"):
            items = self._items(value, path, "shifts")
            shifts = []
            for here, item in items:
                for place, name in self._items(item, here, "people"):
                    self._refer(place, name, "people")
                shift = self._alone(Shift, here, item)
                if shift is not None:
                    shifts.append(shift)
            if path in names and 0 < len(items) == len(shifts) and path_text((*path, "shifts")) not in self._exact:
                self.parts.duties[names[path]] = tuple(shifts)

    def notify(self) -> None:
        for path, value in self._items(self.data.get("notify"), ("notify",), "steps"):
            for place, name in self._items(value, path, "to"):
                self._refer(place, name, "people", "rosters")
            step = self._alone(EscalationStep, path, value)
            if step is not None:
                self.parts.steps.append((path, step))

    def tickets(self) -> None:
        tickets = self.data.get("tickets")
        if isinstance(tickets, dict):
            self._refer(("tickets", "liable"), tickets.get("liable"), "people")


def parts_of(source: Source, file: PlantFile | None, unread: list[Problem]) -> Parts:
    """What holds by itself of the data in `source`.

    `file` is the whole as one model, or None where it is not valid: then each part is validated alone. `unread` is what
    was wrong while reading the texts; a part that was not read whole does not hold.
    """
    walk = _Walk(source, file, unread)
    walk.site()
    walk.gateways()
    walk.computed()
    walk.first_out()
    walk.rosters()
    walk.notify()
    walk.tickets()
    return walk.parts
