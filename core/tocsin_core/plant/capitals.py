"""Names that only capitals tell apart: Sparkplug advises against them (tck-id-case-sensitivity-*)."""

from collections.abc import Iterator

from tocsin_core.plant.load import Plant


def told_apart_by_capitals(plant: Plant) -> Iterator[tuple[str, str, str]]:
    """What it is of (gateway, device, point), its name, and the one before it that is the same in other capitals.

    Here they are two; many a host, and database, takes them for one.
    """
    gateways = plant.file.gateways
    yield from _pairs("gateway", (gateway.id for gateway in gateways))
    for gateway in gateways:
        yield from _pairs("device", (device.id for device in gateway.devices))
    yield from _pairs("point", (point.id for point in plant.points))


def _pairs(what: str, names: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    first: dict[str, str] = {}
    for name in names:
        known = first.setdefault(name.casefold(), name)
        if known != name:
            yield what, name, known
