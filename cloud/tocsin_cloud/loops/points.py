"""The points and gateways a process knows: the plant's, then so many that nobody declared and no more."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from tocsin_cloud.settings import StrangerSettings
from tocsin_core.plant import Plant

Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A metric that the plant file does not know."""

    index: int
    id: str
    gateway: str
    device: str


class PointTable:
    """Turns a Sparkplug metric's address into a point index; those of undeclared metrics hold for this process only.

    A place is (group, node, device), with "" for the node itself.
    """

    def __init__(self, plant: Plant, most: StrangerSettings) -> None:
        """Start with the points of `plant`; there is room for `most` undeclared ones."""
        self.site = plant.site.id
        self.gateways = [gateway.id for gateway in plant.file.gateways]
        self.turned_away = 0
        self._most_points = most.points
        self._places: set[Place] = {(self.site, gateway, "") for gateway in self.gateways}
        self._declared = frozenset(self.gateways)
        self._places |= {(self.site, point.gateway.id, point.device.id) for point in plant.measured}
        # By whether it is a device.
        self._room = {False: most.gateways, True: most.devices}
        self.declared = len(plant.points)
        self.ids = [point.id for point in plant.points]
        self.numbered_as = numbering(self.ids)
        # No gateway feeds these: a metric of such a name is one that nobody declared.
        self.computed = {point.id: point.index for point in plant.points if point.compute is not None}
        self.undeclared: list[Undeclared] = []
        self._index: dict[tuple[str, str, str, str], int] = {}
        by_metric: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for point in plant.measured:
            self._index[self.site, point.gateway.id, point.device.id, point.metric] = point.index
            by_metric[point.gateway.id, point.metric].append(point.index)
        # A third party may publish on its node what the plant file puts under a device.
        for (gateway, metric), indexes in by_metric.items():
            if len(indexes) == 1:
                self._index[self.site, gateway, "", metric] = indexes[0]

    def __len__(self) -> int:
        """Number of points known."""
        return len(self.ids)

    def gateway_id(self, group: str, node: str) -> str:
        """The id of an edge node: one of a foreign group carries its group."""
        return node if group == self.site else f"{group}/{node}"

    def knows(self, place: Place) -> bool:
        """Whether `place` is the plant's, or was born."""
        return place in self._places

    def declares(self, group: str, node: str) -> bool:
        """Whether an edge node is one of the plant's own gateways."""
        return group == self.site and node in self._declared

    def has_room(self, place: Place) -> bool:
        """Whether `place` is known or may become so."""
        return place in self._places or self._room[bool(place[2])] > 0

    def admit(self, place: Place) -> None:
        """Know `place` from now on."""
        if place not in self._places:
            self._places.add(place)
            self._room[bool(place[2])] -= 1

    def resolve(self, group: str, node: str, device: str | None, metric: str) -> int | None:
        """The index of a metric; an undeclared one gets the next and the id `_id_of` its address.

        None, counted in `turned_away`, where there is no room for another undeclared one.
        """
        address = (group, node, device or "", metric)
        index = self._index.get(address)
        if index is None:
            if len(self.undeclared) >= self._most_points:
                self.turned_away += 1
                return None
            index = self._index[address] = len(self.ids)
            self.ids.append(_id_of(*address))
            self.undeclared.append(Undeclared(index, self.ids[index], self.gateway_id(group, node), device or ""))
        return index


def numbering(ids: Iterable[str]) -> str:
    """What tells apart plant files by which point has which index: readings are told by that alone."""
    return blake2b("\n".join(ids).encode(), digest_size=16).hexdigest()


def _id_of(group: str, node: str, device: str, metric: str) -> str:
    """The id of an undeclared metric: `group/node[/device]/metric`.

    Names of groups, nodes and devices have no slash, those of metrics may: a node's that has one comes behind an empty
    device, or it could be taken for one of a device's.
    """
    return "/".join((group, node, device, metric) if device or "/" in metric else (group, node, metric))
