"""`tocsin plan`: which Modbus requests a gateway makes, what each brings and wastes, and how busy its lines are."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tocsin_core.plant import Plant, load_plant
from tocsin_core.plant.connection import Modbus
from tocsin_core.registers import ReadPlan, ReadRequest
from tocsin_edge.settings import EdgeSettings, ModbusDevice, compile_settings

HEADINGS: Final = (
    "connection",
    "unit",
    "device",
    "for",
    "fc",
    "addresses",
    "wanted",
    "wasted",
    "cost ms",
    "every s",
    "use %",
)
NUMBERS: Final = frozenset({"unit", "fc", "wanted", "wasted", "cost ms", "every s", "use %"})
PERCENT: Final = 100.0
MS_PER_S: Final = 1000
NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Polled:
    """A device that the gateway reads, or the part of it that goes first: where, how often, and by which plan."""

    device: str
    modbus: Modbus
    period_ms: int
    plan: ReadPlan
    safety: bool

    def use_percent(self, cost_ms: float) -> float:
        """How much of the line's time something takes that costs so much in each period."""
        return PERCENT * cost_ms / self.period_ms

    @property
    def pass_ms(self) -> float:
        """How long one pass over the plan takes, with the pauses that the device wants between questions."""
        return self.plan.cost_ms + self.plan.pause_ms * len(self.plan.requests)

    def row(self, request: ReadRequest) -> dict[str, Any]:
        """One request, for machines."""
        wanted = self.plan.wanted_of(request)
        cost = self.plan.line.cost_ms(request)
        return {
            "connection": self.modbus.line,
            "unit": self.modbus.unit,
            "device": self.device,
            "safety": self.safety,
            "function": request.function,
            "first": request.address,
            "last": request.address + request.count - 1,
            "wanted": wanted,
            "wasted": request.count - wanted,
            "cost_ms": round(cost, 2),
            "period_ms": self.period_ms,
            "use_percent": round(self.use_percent(cost), 2),
        }


def _settings(plant: Plant, gateway: str) -> EdgeSettings:
    """What a gateway has to do, as it compiles it itself.

    Raises:
        typer.BadParameter: there is no such gateway, or it is somebody else's.
    """
    try:
        # Nothing is opened or written: the folder of its data is of no matter here.
        return compile_settings(plant, gateway, Path())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _polled(settings: EdgeSettings) -> list[Polled]:
    """What a gateway reads over Modbus, in the order of the plant file."""
    return [
        Polled(device.id, device.input.address, device.period_ns // NS_PER_MS, part.plan, part.safety)
        for device in settings.devices
        if isinstance(device.input, ModbusDevice)
        for part in device.input.parts
    ]


def _writes(settings: EdgeSettings) -> list[dict[str, Any]]:
    """All that a gateway may ever write: one coil or register for each output, and two values."""
    return [
        {
            "output": output.id,
            "kind": output.kind,
            "connection": output.modbus.line,
            "unit": output.modbus.unit,
            "function": output.function,
            "address": output.address,
            "on": output.on,
            "off": output.off,
            "alarms": int(follows.sum()),
        }
        for output, follows in zip(settings.gateway.outputs, settings.alarms.follows, strict=True)
    ]


def _connections(polled: Sequence[Polled]) -> list[dict[str, Any]]:
    """How busy each line is when every device on it keeps its period."""
    lines: dict[str, list[Polled]] = {}
    for device in polled:
        lines.setdefault(device.modbus.line, []).append(device)
    return [
        {
            "connection": line,
            "serial": devices[0].modbus.serial is not None,
            "units": len({device.modbus.unit for device in devices}),
            "requests": sum(len(device.plan.requests) for device in devices),
            "use_percent": round(sum(device.use_percent(device.plan.cost_ms) for device in devices), 2),
        }
        for line, devices in lines.items()
    ]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["connection"],
        str(row["unit"]),
        row["device"],
        "safety" if row["safety"] else "",
        str(row["function"]),
        f"{row['first']}-{row['last']}",
        str(row["wanted"]),
        str(row["wasted"]),
        f"{row['cost_ms']:.1f}",
        f"{row['period_ms'] / MS_PER_S:g}",
        f"{row['use_percent']:.1f}",
    )


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str]) -> Iterator[str]:
    """The lines of a table; columns named in `right` are set to the right."""
    widths = [max(len(cells[index]) for cells in (headings, *rows)) for index in range(len(headings))]
    for cells in (headings, *rows):
        set_ = [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, cells, widths, strict=True)
        ]
        yield "  ".join(set_).rstrip()


def _warnings(
    polled: Sequence[Polled], connections: Sequence[dict[str, Any]], writes: Sequence[dict[str, Any]]
) -> Iterator[str]:
    for write in writes:
        if not write["alarms"]:
            yield f"{write['kind']} {write['output']}: follows no alarm that this gateway decides"
    for line in connections:
        if line["use_percent"] > PERCENT:
            yield f"{line['connection']}: its devices ask for more than the line can give: periods will stretch"
    passes: dict[str, float] = {}
    for part in polled:
        passes[part.device] = passes.get(part.device, 0.0) + part.pass_ms
    periods = {part.device: part.period_ms for part in polled}
    for device, pass_ms in passes.items():
        if pass_ms > periods[device]:
            yield (
                f"{device}: one pass takes {pass_ms / MS_PER_S:.1f} s with the pauses that the device wants: "
                f"longer than its period of {periods[device] / MS_PER_S:g} s"
            )


def plan(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    gateway: Annotated[str, typer.Option("--gateway", metavar="ID", help="Whose requests.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Print the Modbus requests of a gateway: what each reads, wastes and costs, and how busy its lines are.

    And all that it may ever write.
    """
    settings = _settings(load_plant(plant), gateway)
    polled, writes = _polled(settings), _writes(settings)
    rows = [device.row(request) for device in polled for request in device.plan.requests]
    connections = _connections(polled)
    warnings = list(_warnings(polled, connections, writes))
    if rows:
        typer.echo("\n".join(aligned(HEADINGS, [_cells(row) for row in rows], NUMBERS)))
    else:
        typer.echo(f"gateway {gateway} reads no Modbus device")
    for line in connections:
        how = "its own bit rate" if line["serial"] else "an assumed cost"
        typer.echo(
            f"{line['connection']}: units {line['units']}, requests {line['requests']}, "
            f"busy {line['use_percent']:.1f} % of the time (by {how})"
        )
    for write in writes:
        typer.echo(
            f"{write['kind']} {write['output']}: writes {write['on']} or {write['off']} to {write['connection']}, "
            f"unit {write['unit']}, function {write['function']}, address {write['address']}; "
            f"alarms that it follows: {write['alarms']}"
        )
    for warning in warnings:
        typer.echo(warning)
    if as_json:
        result = {
            "ok": True,
            "gateway": gateway,
            "requests": rows,
            "connections": connections,
            "writes": writes,
            "warnings": warnings,
        }
        typer.echo(json.dumps(result, ensure_ascii=False))
