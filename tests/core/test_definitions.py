"""The definitions of points that say the same are made once, and are what each would have by itself."""

from itertools import product
from pathlib import Path
from typing import Any, Final

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant import load_plant
from tocsin_core.plant.brought import About
from tocsin_core.plant.definition import Definitions, definitions_of
from tocsin_core.plant.model import Device, Point, PointKind
from tocsin_core.plant.standards import defaults_of

ALARMS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"H": {"setpoint": 50}},
    {"H": {"setpoint": 50, "latching": True}},
    {"H": {"setpoint": 50, "suppressed_by": {"point": "PUMP", "equals": 0}}, "bad": False},
    {"H": False, "rate": {"setpoint": 3}, "stale": {"after_s": 30}, "loop": {}, "stuck": {}, "spike": {}},
    {"H": {"setpoint": 50}, "time-to-limit": {"limit": "H"}, "cusum": {}},
)
MORE: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"cas": "7664-41-7"},
    {"cas": "7783-06-4", "unit": "mg/m3"},
    {"unit": "ppm"},
    {"range": [0, 60]},
    {"decimals": 3},
    {"source": "yard"},
)


def test_points_that_say_the_same_have_what_each_has_by_itself() -> None:
    """Whatever they differ in, and in whatever order they come: to the letter, as their fingerprints are made of it."""
    definitions = Definitions()
    devices = Device(id="fast"), Device(id="slow", period_ms=60_000)
    sorts = list(product(PointKind, ALARMS, MORE, devices))
    told = set()
    for number, (kind, alarms, more, device) in enumerate([*sorts, *reversed(sorts)]):
        point = Point.model_validate({"id": f"P{number}", "name": "x", "kind": kind, "alarms": alarms, **more})
        defaults = defaults_of(point)
        about = About(point.unit or defaults.unit, defaults.decimals if point.decimals is None else point.decimals)
        span = point.range or defaults.range
        found = definitions.of(point, device, span, about)
        assert repr(found) == repr(definitions_of(point, device, span, about))
        told.add(repr(found).replace(f"'P{number}", "'P"))
    assert len(told) > len(PointKind) * len(ALARMS)


def test_a_point_with_charts_of_its_own_has_those() -> None:
    """Points that are alike in all that the plant file says are not so in what was learned of them."""
    charts = {
        name: Calibration(mean, 1.0, 0.0, 0.0, 1.0, 0.5, 5.0, 1.0, 0.1, 2.814, 1.0)
        for name, mean in (("P1", 1.0), ("P2", 2.0))
    }
    definitions, device = Definitions(), Device(id="d")
    for name in ("P0", "P1", "P2", "P3", "P1"):
        point = Point.model_validate({"id": name, "name": "x", "kind": "temperature", "alarms": {"cusum": {}}})
        about = About("°C", 1, charts)
        (found,) = (each for each in definitions.of(point, device, (0.0, 1.0), about) if each.kind == "cusum")
        assert (found.point, found.charts) == (name, charts.get(name))


def test_what_a_point_has_from_elsewhere_makes_it_another() -> None:
    """Range, unit and decimals may be its kind's, or those of its register's profile."""
    definitions, device = Definitions(), Device(id="d")
    alarms = {"loop": {}, "stuck": {}, "rate": {"setpoint": 1}}
    point = Point.model_validate({"id": "P", "name": "x", "kind": "toxic-gas", "cas": "7664-41-7", "alarms": alarms})
    for span, unit, decimals in product(((0.0, 1.0), (0.0, 2.0)), ("ppm", "mg/m3"), (1, 2)):
        about = About(unit, decimals)
        assert definitions.of(point, device, span, about) == definitions_of(point, device, span, about)


def test_minus_nothing_is_nothing(tmp_path: Path) -> None:
    """In the plant file and in the instrument list: else a point would have the zero of whichever alike came first."""
    text = """\
tocsin: 1
site: {id: s, name: s}
gateways:
  - id: gw
    devices:
      - id: d
        mqtt: {topic: t}
        points: [{id: A, name: a, kind: generic, field: a, alarms: {L: {setpoint: -0.0}}}]
"""
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "points.csv").write_text("gateway,device,id,kind,field,L\ngw,d,B,generic,b,-0.0\n", encoding="utf-8")
    plant = load_plant(tmp_path)
    assert [str(point.definitions[0].setpoint) for point in plant.points] == ["0.0", "0.0"]
