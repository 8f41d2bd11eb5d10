"""`tocsin profile`: device profiles checked, and what they read shown."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tocsin_cli.plan import aligned
from tocsin_core.registers import (
    Profile,
    ProfileError,
    ProfileProblem,
    ReadPlan,
    RegisterValue,
    StatusRule,
    compile_plan,
    parse_profile,
)
from tocsin_core.registers.profile import BCD, FLOATS, REGISTER_BITS

app = typer.Typer(help="Register maps of instruments.")

HEADINGS: Final = ("value", "fc", "address", "printed", "type", "order", "unit", "number", "description")
RIGHT: Final = frozenset({"fc"})
# The leading digit of the numbers that manuals print, from 1, by function.
_PRINTED: Final[Mapping[int, str]] = {1: "0", 2: "1", 3: "4", 4: "3"}
_FIVE_DIGITS: Final = 9999


@app.callback()
def _profile() -> None:
    """Register maps of instruments."""


@dataclass(frozen=True, slots=True)
class _Values:
    """A value, or a run of repeated ones that differ in their channel only: names and specs, at least one."""

    names: tuple[str, ...]
    specs: tuple[RegisterValue, ...]

    @property
    def name(self) -> str:
        if len(self.names) == 1:
            return self.names[0]
        stem = self.names[0].rstrip("0123456789")
        return f"{stem}{{{self.names[0].removeprefix(stem)}..{self.names[-1].removeprefix(stem)}}}"


def _runs(profile: Profile) -> list[_Values]:
    def form(item: tuple[str, RegisterValue]) -> tuple[str, RegisterValue]:
        name, spec = item
        source = spec.decimals_from and re.sub(r"\d+$", "", spec.decimals_from)
        return re.sub(r"\d+$", "", name), spec.model_copy(update={"address": 0, "decimals_from": source})

    runs = []
    for (stem, _), members in groupby(profile.values.items(), form):
        together = list(members)
        # A lone name may end in a digit of its own.
        parts = [together] if stem.endswith("_") else [[member] for member in together]
        runs += [_Values(tuple(name for name, _ in part), tuple(spec for _, spec in part)) for part in parts]
    return runs


def printed(function: int, address: int) -> str:
    """The number that manuals print for a wire address: 40003 for function 3, address 2; six digits if need be."""
    digits = 4 if address < _FIVE_DIGITS else 5
    return f"{_PRINTED[function]}{address + 1:0{digits}}"


def _type(spec: RegisterValue) -> str:
    if spec.characters is not None:
        return f"string[{spec.characters}]"
    part = f"[{spec.bits[0]}..{spec.bits[1]}]" if spec.bits is not None else ""
    return spec.type + (f"[{spec.bit}]" if spec.bit is not None else part)


def _number(spec: RegisterValue) -> str:
    scale = f"raw * {spec.scale:g}" if spec.scale != 1 else "raw"
    text = scale + (f" {'-' if spec.offset < 0 else '+'} {abs(spec.offset):g}" if spec.offset else "")
    text += f" / 10**{spec.decimals_from}" if spec.decimals_from else ""
    codes = ", ".join(
        f"{raw:g}" if isinstance(raw, float) else str(raw) for one in spec.invalid or () for raw in one.raw
    )
    return ", ".join(filter(None, ("" if text == "raw" else text, codes and f"none if {codes}")))


def _cells(profile: Profile, run: _Values) -> tuple[str, ...]:
    first, last = run.specs[0], run.specs[-1]
    end = last.address + last.words - 1
    order = "" if first.type == "bool" or profile.order_of(run.names[0]) == "AB" else profile.order_of(run.names[0])
    return (
        run.name,
        str(first.function),
        f"{first.address}" if end == first.address else f"{first.address}-{end}",
        printed(first.function, first.address),
        _type(first),
        order,
        first.unit,
        _number(first),
        first.description,
    )


def _rule(rule: StatusRule) -> str:
    if rule.bit is not None:
        test = f"has bit {rule.bit}"
    else:
        mask = f"& 0x{rule.mask:X} " if rule.mask is not None else ""
        codes = " or ".join(map(str, rule.is_in or rule.is_not_in))
        test = f"{mask}is {'' if rule.is_in else 'not '}{codes}"
    why = f" ({rule.description})" if rule.description else ""
    return f"{rule.quality} when {rule.value} {test}: {', '.join(rule.affects)}{why}"


def _rules(profile: Profile) -> Iterator[str]:
    """The rules without those that repeat for a second and further channel what they say of the first."""
    further = {name for run in _runs(profile) for name in run.names[1:]}
    for rule in profile.status:
        if rule.value not in further and not further.issuperset(rule.affects):
            yield _rule(rule)


def _never(profile: Profile) -> Iterator[str]:
    """What the profile looks for and no register of its form can hold: a fault that would never be seen."""
    for run in _runs(profile):
        codes = [raw for one in run.specs[0].invalid or () for raw in one.raw if isinstance(raw, int)]
        yield from (f"{run.name} is {code}" for code in codes if not _holds(run.specs[0], code))
    for rule in profile.status:
        status = profile.values[rule.value]
        if rule.bit is not None:
            yield from () if _holds(status, 1 << rule.bit) else (f"{rule.value} has bit {rule.bit}",)
        elif rule.mask is None:
            yield from (f"{rule.value} is {code}" for code in rule.codes if not _holds(status, code))
        else:
            masked = (code for code in rule.codes if code & ~rule.mask or not _holds(status, code))
            yield from (f"{rule.value} & 0x{rule.mask:X} is {code}" for code in masked)


def _bounds(spec: RegisterValue) -> tuple[int, int]:
    """The least number that the registers of a value can be read as, signed or not, and the one after the largest."""
    if spec.type in BCD:
        return 0, 10 ** (spec.words * REGISTER_BITS // 4)
    if spec.type == "bool":
        return 0, 2
    low, high = spec.bits or (0, spec.words * REGISTER_BITS - 1)
    size = 1 << high - low + 1
    return -size // 2, size


def _holds(spec: RegisterValue, code: int) -> bool:
    least, beyond = _bounds(spec)
    return spec.type in FLOATS or least <= code < beyond


def _limits(profile: Profile) -> str:
    limits = profile.limits
    found = [f"{limits.registers} registers or {limits.bits} bits a request"]
    found += [f"no more than {limits.gap} unwanted in a row"] if limits.gap is not None else []
    found += [f"{limits.pause_ms} ms between requests"] if limits.pause_ms else []
    found += [f"not {bad.first}-{bad.last} (function {bad.function})" for bad in profile.illegal]
    return ", ".join(found)


def _tell(file: str, profile: Profile, plan: ReadPlan) -> None:
    typer.echo(f"{file}: {profile.vendor} {profile.model}")
    typer.echo(f"  {profile.trust}: {profile.source}")
    for caveat in profile.caveats:
        typer.echo(f"  caveat: {caveat}")
    typer.echo(f"  limits: {_limits(profile)}")
    for line in aligned(HEADINGS, [_cells(profile, run) for run in _runs(profile)], RIGHT):
        typer.echo(f"  {line}")
    for rule in _rules(profile):
        typer.echo(f"  {rule}")
    for what in _never(profile):
        typer.echo(f"  never: {what}")
    typer.echo(f"  values {len(profile.values)}, requests to read them all {len(plan.requests)}")


def _json(file: str, profile: Profile, plan: ReadPlan) -> dict[str, Any]:
    values = {
        name: spec.model_dump(mode="json", exclude_defaults=True) | {"printed": printed(spec.function, spec.address)}
        for name, spec in profile.values.items()
    }
    head = profile.model_dump(mode="json", include={"vendor", "model", "trust", "source", "caveats", "limits"})
    requests = [{"function": r.function, "address": r.address, "count": r.count} for r in plan.requests]
    return {"file": file, "ok": True, **head, "values": values, "requests": requests, "never": [*_never(profile)]}


def _load(file: Path) -> Profile:
    try:
        return parse_profile(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        problem = ProfileProblem(str(file), 1, "", f"not UTF-8: {error.reason} at byte {error.start}")
        raise ProfileError([problem]) from error


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Profiles (.yaml).", exists=True, dir_okay=False)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Check register maps: every problem with file and line, or what each reads; exit 1 if one does not hold."""
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            profile = _load(file)
        except ProfileError as error:
            for problem in error.problems:
                typer.echo(str(problem), err=as_json)
            problems = [problem._asdict() for problem in error.problems]
            results.append({"file": str(file), "ok": False, "problems": problems})
            continue
        plan = compile_plan(profile, list(profile.values))
        results.append(_json(str(file), profile, plan))
        if not as_json:
            _tell(str(file), profile, plan)
    ok = all(result["ok"] for result in results)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "profiles": results}, ensure_ascii=False))
    raise typer.Exit(0 if ok else 1)
