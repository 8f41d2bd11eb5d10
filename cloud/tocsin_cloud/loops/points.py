"""The points a process knows: the plant's first, in engine order, then what gateways send without being declared."""

from collections import defaultdict
from dataclasses import dataclass

from tocsin_core.plant import Plant


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A metric that the plant file does not know."""

    index: int
    id: str
    gateway: str
    device: str


class PointTable:
    """Turns a Sparkplug metric's address into a point index; those of undeclared metrics hold for this process only."""

    def __init__(self, plant: Plant) -> None:
        """Start with the points of `plant`."""
        self.site = plant.site.id
        self.declared = len(plant.points)
        self.ids = [point.id for point in plant.points]
        self.undeclared: list[Undeclared] = []
        self._index: dict[tuple[str, str, str, str], int] = {}
        by_metric: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for point in plant.points:
            self._index[self.site, point.gateway.id, point.device.id, point.metric] = point.index
            by_metric[point.gateway.id, point.metric].append(point.index)
        # A third party may publish on its node what the plant file puts under a device.
        for (gateway, metric), indexes in by_metric.items():
            if len(indexes) == 1:
                self._index[self.site, gateway, "", metric] = indexes[0]

    def __len__(self) -> int:
        """Number of points known."""
        return len(self.ids)

    def resolve(self, group: str, node: str, device: str | None, metric: str) -> int:
        """The index of a metric; an undeclared one gets the next and the id `group/node[/device]/metric`."""
        address = (group, node, device or "", metric)
        index = self._index.get(address)
        if index is None:
            index = self._index[address] = len(self.ids)
            self.ids.append("/".join(part for part in address if part))
            self.undeclared.append(Undeclared(index, self.ids[index], node, device or ""))
        return index
