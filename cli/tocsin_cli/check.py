"""`tocsin check`: every problem of a plant at once, with file, line and path."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from tocsin_core.owned import idle_outputs
from tocsin_core.plant import Plant, PlantError, PlantPoint, load_plant
from tocsin_core.plant.capitals import told_apart_by_capitals
from tocsin_core.plant.computed import Normal, Vote, points_of
from tocsin_core.plant.laxer import laxer_than_standard
from tocsin_core.plant.units import of_another_register, of_another_unit


def _computed(point: PlantPoint, plant: Plant) -> dict[str, object]:
    """What a computed point is worked out of; for a unit also which model says how it runs normally."""
    rule = point.compute
    if rule is None:
        return {}
    known: dict[str, object] = {"computed": point.id, "rule": rule.rule}
    if isinstance(rule, Vote):
        known["need"] = rule.need
    of = points_of(rule, {name: model.names for name, model in plant.models.items()})
    if not isinstance(rule, Normal):
        return known | {"of": list(of)}
    model = plant.models[rule.model]
    return known | {"model": rule.model, "of": list(of), "learned_rows": model.rows, "period_s": model.period_s}


def _texts(plant: Plant) -> Iterator[tuple[str, str]]:
    """Points that read a text, and its register: their value is none, and their quality is bad for ever."""
    for point in plant.points:
        profile, register = plant.profiles.get(point.device.profile or ""), point.config.register_
        if profile is not None and register is not None and profile.values[register].type == "string":
            yield point.id, register


def _unreached(plant: Plant) -> Iterator[tuple[str, str]]:
    """People and the kinds of their addresses that nothing can be sent to; none where the cloud side's part is not."""
    if find_spec("apprise") is None:
        return
    from tocsin_cloud.adapters.channels import is_understood, kind_of  # noqa: PLC0415 -- a gateway's box does without

    for person in plant.file.people:
        yield from ((person.id, kind_of(channel)) for channel in person.channels if not is_understood(channel))


def _no_addresses(plant: Plant) -> Iterator[tuple[str, str]]:
    """Gateways and the hosts that look like an address to them, and are none: no name server knows them."""
    for gateway in plant.file.gateways:
        modbus = [
            *(each.modbus for each in gateway.devices if each.modbus is not None),
            *(each.modbus for each in gateway.outputs),
            *(each.modbus for each in gateway.acknowledge),
        ]
        hosts = [each.host for each in gateway.uplink.servers] + [gateway.sensors.host]
        hosts += [each.host for each in modbus if each.serial is None]
        for host in dict.fromkeys(hosts):
            if ":" in host or host.rpartition(".")[2].isdecimal():
                try:
                    ip_address(host)
                except ValueError:
                    yield gateway.id, host


def _warnings(plant: Plant) -> Iterator[str]:
    """What passes, and looks like a mistake."""
    for person, channel in _unreached(plant):
        yield f"{person}: nothing can be sent to an address of {channel}://: a slip in it, or a part of it is missing"
    for gateway, host in _no_addresses(plant):
        yield f"gateway {gateway}: host {host!r} looks like an address and is none: nobody is reached there"
    for gateway, output in idle_outputs(plant):
        what = f"gateway {gateway}: {output.kind} {output.id}"
        yield f"{what} follows no alarm that is decided there: nothing switches it on"
    for what, name, known in told_apart_by_capitals(plant):
        yield f"{what} {name!r} differs from {known!r} in capitals alone: many a Sparkplug host takes them for one"
    for point, register in _texts(plant):
        yield f"point {point} reads {register}, which is a text and never a measurement: it is always bad"
    for point, unit, register, known in of_another_register(plant):
        yield f"point {point} is in {unit!r}, and its register {register} in {known!r}: no number is converted"
    for point, unit, known, alarms in of_another_unit(plant):
        limits = ", ".join(alarms)
        yield f"point {point} is in {unit!r}, and its kind's set points ({limits}) are in {known}: give it its own"
    for each, at, clause in laxer_than_standard(plant):
        yield f"{each.id} at {each.setpoint:g} is laxer than the standard's {at:g} ({clause.en})"


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else f"{value}"


def check(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print every problem of a plant and exit 1, or say what the plant holds, and what of it looks like a mistake."""
    try:
        loaded = load_plant(plant)
    except PlantError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=as_json)
        if as_json:
            problems = [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in error.problems]
            typer.echo(json.dumps({"ok": False, "problems": problems}, ensure_ascii=False))
        raise typer.Exit(1) from None
    computed = [_computed(point, loaded) for point in loaded.points if point.compute is not None]
    least = loaded.file.notify.min_priority
    definitions = [definition for point in loaded.points for definition in point.definitions]
    untold = sum(definition.priority.rank < least.rank for definition in definitions)
    warnings = [*_warnings(loaded)]
    summary = {
        "ok": True,
        "site": loaded.site.id,
        "hazard_sources": len(loaded.file.hazard_sources),
        "gateways": len(loaded.file.gateways),
        "devices": sum(len(gateway.devices) for gateway in loaded.file.gateways),
        "points": len(loaded.points),
        "alarms": len(definitions),
        "untold": untold,
        "computed": computed,
        "warnings": warnings,
    }
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    for each in computed:
        typer.echo(", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in each.items()))
    counts = ", ".join(
        f"{value} {name.replace('_', ' ')}"
        for name, value in summary.items()
        if isinstance(value, int) and name not in ("ok", "untold")
    )
    if untold:
        below = f"below notify.min_priority ({least}): shown, but told to nobody by message"
        typer.echo(f"{untold} of {len(definitions)} alarm definitions are {below}")
    for warning in warnings:
        typer.echo(f"warning: {warning}")
    wrong = "nothing else is wrong" if warnings else "nothing is wrong"
    typer.echo(f"{plant}: {loaded.site.name.zh} / {loaded.site.name.en}: {counts}; {wrong}")
