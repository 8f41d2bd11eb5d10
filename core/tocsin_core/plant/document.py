"""The plant file's reference page, built from the models and the standards, so that it cannot fall behind them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant.brought import (
    BAD_OFF_DELAY_S,
    BAD_PERIODS,
    BALANCE_DEADBAND,
    BALANCE_SIGMAS,
    CHARTS,
    EXPOSURE_DEADBAND,
    GRADES,
    LEAST_WINDOW_PERIODS,
    LIMITS,
    LOOP_ON_DELAY_S,
    RATE_DEADBAND,
    RATE_OFF_DELAY_S,
    RATE_WINDOW_S,
    SPIKE_OFF_DELAY_S,
    SPREAD_DEADBAND,
    SPREAD_ON_DELAY_S,
    STALE_LEAST_S,
    STALE_PERIODS,
    STATISTIC,
    STATISTIC_DEADBAND,
    STUCK_PERIODS,
    STUCK_WINDOW_S,
    UNCERTAIN_S,
    USES,
)
from tocsin_core.plant.fields import FORMS, IDENTIFIER, Text, name_of
from tocsin_core.plant.model import AlarmKind, AlarmSetting, PlantFile, Point, PointKind
from tocsin_core.plant.source import COLUMNS, NEEDED_COLUMNS
from tocsin_core.plant.standards import (
    BLIND_GAS_PRIORITY,
    EXPOSURE,
    GAS_KINDS,
    GAS_OFF_DELAY_S,
    GAS_SETTLE_S,
    MINE_METHANE,
    OVER_PATH,
    OXYGEN_IN_AIR,
    PRIORITY,
    PROCESS_DELAY_S,
    SIDE,
    ZERO_BAND,
    KindDefaults,
    clause_of_early,
    deadband_of,
    defaults_of,
    early_of,
    limits_of,
)

EXAMPLE: Final = """\
tocsin: 1
site: {id: cold-store, name: {zh: 冷库, en: Cold store}, timezone: Asia/Shanghai}
hazard_sources:
  - {id: machine-room, name: {zh: 制冷机房, en: Machine room}, level: 4}
people:
  - {id: li, name: 李娜, channels: ["mailto://user:password@mail.example.com?to=li@example.com"]}
  - {id: wang, name: 王强, channels: ["mailto://user:password@mail.example.com?to=wang@example.com"]}
rosters:
  - id: on-duty
    name: {zh: 当班, en: On duty}
    shifts:
      - {from: "08:00", to: "20:00", people: [li]}
      - {from: "20:00", to: "08:00", people: [wang]}
notify:
  steps:
    - {after_s: 0, to: [on-duty]}
    - {after_s: 300, to: [li, wang]}
gateways:
  - id: gw-1
    devices:
      - id: NH3-101
        profile: honeywell-sensepoint-xcd
        modbus: {host: 192.168.1.21, unit: 1}
        source: machine-room
        points:
          # A toxic gas brings its limits by its CAS number: nothing else has to be said.
          - {id: NH3-101, name: {zh: 氨, en: Ammonia}, kind: toxic-gas, register: gas_ppm, cas: "7664-41-7"}
      - id: LT-101
        mqtt: {topic: plant/receiver, time: ts}
        period_ms: 5000
        source: machine-room
        points:
          - id: LT-101
            name: {zh: 贮液器液位, en: Receiver level}
            kind: tank-level
            field: level.percent
            alarms:
              H: {setpoint: 80}
              HH: {setpoint: 90, latching: true}
              L: {setpoint: 15, on_delay_s: 10}
              rate: {setpoint: 5}
"""

MORE: Final = """\
tocsin: 1
site: {id: pond, name: {zh: 尾矿库, en: Tailings pond}}
gateways:
  - id: gw-1
    devices:
      - id: dam
        mqtt: {topic: pond/dam}
        period_ms: 600000
        points:
          - {id: WL-1, name: {zh: 库水位, en: Pond level}, kind: pond-level, field: level, alarms: &level
              {blue: {setpoint: 14.0}, yellow: {setpoint: 14.5}, orange: {setpoint: 15.0}, red: {setpoint: 15.5}}}
          - {id: WL-2, name: {zh: 库水位二, en: Pond level 2}, kind: pond-level, field: level2, alarms: *level}
          # A beach that grows short is bad: the set points fall, as the kind expects.
          - {id: BL-1, name: {zh: 干滩长度, en: Beach}, kind: beach-length, field: beach, alarms:
              {blue: {setpoint: 90}, yellow: {setpoint: 80}, orange: {setpoint: 70}, red: {setpoint: 60}}}
      - id: pump-house
        mqtt: {topic: pond/pumps}
        points:
          - {id: P-1, name: {zh: 泵运行, en: Pump runs}, kind: status, field: running}
          # A stopped pump suppresses its low flow, at once and until 30 s after it runs again. The alarm waits for
          # longer than the two values lie apart in time: were it raised first, each stop of the pump would be told.
          - {id: FT-1, name: {zh: 回水流量, en: Return flow}, kind: flow, field: flow, alarms: {
              L: {setpoint: 20, on_delay_s: 10, suppressed_by: {point: P-1, equals: 0, off_delay_s: 30}},
              loop: {}, stuck: {window_s: 900}, spike: {}}}
          # Its status word says in bits 4 and 5 whether it warms up or is being calibrated.
          - {id: GT-1, name: {zh: 硫化氢, en: Hydrogen sulfide}, kind: toxic-gas, cas: "7783-06-4", field: h2s,
              status: {point: GS-1, flags: {warm_up: [4], calibration: [5]}}}
          - {id: GS-1, name: {zh: 探测器状态, en: Detector status}, kind: status, field: h2s_status}
computed:
  - id: POND
    name: {zh: 尾矿库预警等级, en: Grade of the pond}
    from: {rule: grade, items: [[WL-1, WL-2], [BL-1]]}
  - id: WL-APART
    name: {zh: 库水位偏差, en: Pond levels apart}
    from: {rule: spread, of: [WL-1, WL-2]}
    alarms: {H: {setpoint: 0.1}}
first_out:
  - {id: dam, name: {zh: 坝体, en: Dam}, alarms: [WL-1/red, WL-2/red, BL-1/red]}
"""

_HEAD: Final = """\
# The plant file

One folder is one plant. `plant.yaml` says what there is and whom to call; an instrument list `points.csv` beside it may
hold the points of large plants; `profiles/` may hold register maps of devices that Tocsin does not ship; `models/` the
normal-operation models, and `calibrations.json` the charts, that `tocsin learn` made of recorded normal running.
`tocsin check FOLDER` reads it all and starts nothing.

This page is built from the program (`python -m tocsin_core.plant.document`); a test holds the two together.

## A small plant

```yaml
"""

_MORE: Final = """\
## Grades, computed points, suppression, status words

```yaml
"""

_CHECK: Final = """\
## What `tocsin check` prints

All mistakes at once, a line each, as `file:line: path: what is wrong`, and it exits with 1; a plant without mistakes
exits with 0. A part whose form is wrong (a point, a device, a step) is told as such and not judged further until it is
mended; everything else is, and nobody is called unknown who is only malformed. Nothing is started with a plant that
does not pass. What passes and looks like a mistake is a line with `warning:` each, as of a gas in a unit that the set
points of its kind are not in.

```text
plant.yaml:14: notify.steps[0].to: reaches nobody at 20:00
plant.yaml:21: gateways[0].devices[0].modbus.port: should be a valid integer (given: 'five')
plant.yaml:24: gateways[0].devices[0].points[0].alarms.H: HH 70 is not above H 80
points.csv:3: device: no device 'NH3-999' on a gateway 'gw-1' in plant.yaml
```

## The format

YAML 1.2: `yes` and `on` are words, `12:30` is no number (put times of day in quotes all the same), `017` is seventeen.
An unknown key, a key that stands twice, and a setting that means nothing where it stands are mistakes. Anchors and
aliases work; merge keys (`<<`) do not exist in YAML 1.2. Texts for people (`name`) are `{zh: …, en: …}`, or one text
for both. An identifier is """

_SECTIONS: Final = (
    ("PlantFile", "plant.yaml"),
    ("Site", "site"),
    ("HazardSource", "hazard_sources[]"),
    ("Gateway", "gateways[]"),
    ("UplinkBroker", "gateways[].uplink"),
    ("Server", "gateways[].uplink.others[]"),
    ("SensorBroker", "gateways[].sensors"),
    ("Spool", "gateways[].spool"),
    ("Output", "gateways[].outputs[]"),
    ("Button", "gateways[].acknowledge[]"),
    ("Device", "gateways[].devices[]"),
    ("Modbus", "gateways[].devices[].modbus, gateways[].outputs[].modbus, gateways[].acknowledge[].modbus"),
    ("Serial", "gateways[].devices[].modbus.serial"),
    ("Mqtt", "gateways[].devices[].mqtt"),
    ("Offline", "gateways[].devices[].mqtt.offline"),
    ("Point", "gateways[].devices[].points[]"),
    ("Report", "gateways[].devices[].points[].report"),
    ("Status", "gateways[].devices[].points[].status"),
    ("Codes", "gateways[].devices[].points[].status.codes"),
    ("Flags", "gateways[].devices[].points[].status.flags"),
    ("AlarmSetting", "gateways[].devices[].points[].alarms.KIND, computed[].alarms.KIND"),
    ("SuppressedBy", "gateways[].devices[].points[].alarms.KIND.suppressed_by"),
    ("Computed", "computed[]"),
    ("Vote", "computed[].from, rule: vote"),
    ("Median", "computed[].from, rule: median"),
    ("Spread", "computed[].from, rule: spread"),
    ("Balance", "computed[].from, rule: balance"),
    ("Grade", "computed[].from, rule: grade"),
    ("Normal", "computed[].from, rule: normal"),
    ("FirstOut", "first_out[]"),
    ("Person", "people[]"),
    ("Roster", "rosters[]"),
    ("Shift", "rosters[].shifts[]"),
    ("Notify", "notify"),
    ("EscalationStep", "notify.steps[]"),
    ("Tickets", "tickets"),
)

_CSV: Final = """\
## points.csv

A table of points as engineers keep it in a spreadsheet: UTF-8, commas, names of columns in the first line. A row is a
point of the device that it names; its columns are fields of a point, a limit's column is its set point. Empty cells
are left out; empty rows are skipped. The points follow those of `plant.yaml` in the device.

Large plants belong here: a table loads six times as fast as YAML, in which 20,000 points take ten seconds, and which
ends at 2,000,000 values, some 70,000 points ([measured](benchmarks.md#the-pipeline-tocsin-bench-pipeline)).
"""

_LEARNED: Final = """\
## models/ and calibrations.json

`models/NAME.normal` is a normal-operation model as `tocsin learn` writes it; a computed point of rule `normal` names
it, and every point that it was learned of must be a point of the plant. `calibrations.json` holds the charts of points
with `cusum` or `ewma`: `{"tocsin": 1, "points": {POINT: {…}}}`, for each point these numbers:

"""

_Schema = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def _bounds(schema: _Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    above = "above " if "exclusiveMinimum" in schema else ""
    below = "below " if "exclusiveMaximum" in schema else ""
    if low is not None and high is not None:
        return f" {above}{low:g} to {below}{high:.10g}"
    return f" from {above}{low:g}" if low is not None else ""


def _words(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _list(schema: _Schema, parts: dict[str, _Schema]) -> str:
    if "prefixItems" in schema:
        return "two numbers"
    inner = _type(schema["items"], parts)
    return "list of mappings, see below" if inner.startswith("mapping") else f"list of: {inner}"


def _text(schema: _Schema) -> str:
    form = FORMS.get(schema.get("pattern", ""), "text")
    return "identifier" if form is FORMS[IDENTIFIER] else form


def _type(schema: _Schema, parts: dict[str, _Schema]) -> str:
    """A JSON schema's type in an integrator's words."""
    if "anyOf" in schema:
        schema = next(each for each in schema["anyOf"] if each.get("type") != "null")
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name == "_Name":
            return "text in both languages"
        schema = parts[name]
    if "oneOf" in schema:
        return "mapping with a `rule`, see below"
    if "enum" in schema or "const" in schema:
        return _words(schema.get("enum", [schema.get("const")]))
    simple: dict[str, Callable[[], str]] = {
        "array": lambda: _list(schema, parts),
        "string": lambda: _text(schema),
        "integer": lambda: f"whole number{_bounds(schema)}",
        "number": lambda: f"number{_bounds(schema)}",
        "boolean": lambda: "`true` or `false`",
        "object": lambda: "mapping, see below",
    }
    return simple[schema["type"]]()


def _default(name: str, schema: _Schema, required: Sequence[str]) -> str:
    if name in required:
        return "**needed**"
    value = schema.get("default")
    if value is None or isinstance(value, dict | list):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _fields() -> str:
    whole = PlantFile.model_json_schema()
    parts: dict[str, _Schema] = whole["$defs"] | {"PlantFile": whole}
    text = ""
    for model, path in _SECTIONS:
        part = parts[model]
        rows = [
            (f"`{name}`", _type(schema, parts), _default(name, schema, part.get("required", ())), schema["description"])
            for name, schema in part["properties"].items()
        ]
        text += f"### `{path}`\n\n{part['description']}\n\n{table(('key', 'what', 'default', 'meaning'), rows)}\n"
    return text


def _uses() -> str:
    names = list(AlarmSetting.model_fields)
    rows = [(f"`{kind}`", ", ".join(f"`{name}`" for name in names if name in USES[kind])) for kind in AlarmKind]
    return f"Which settings mean something to which kind:\n\n{table(('kind', 'settings'), rows)}\n"


def _limits(defaults: KindDefaults, kind: PointKind) -> list[tuple[str, str, str, str, str, str]]:
    rows = []
    for alarm in LIMITS:
        if alarm not in defaults.alarms:
            continue
        setting, clause = defaults.alarms[alarm]
        band = deadband_of(kind, *defaults.range) if setting.deadband is None else setting.deadband
        setpoint = f"{setting.setpoint:g} {defaults.unit}"
        delays = f"{setting.on_delay_s or 0:g} / {setting.off_delay_s or 0:g}"
        rows.append(
            (f"`{alarm}`", setpoint, f"{band:.3g}", delays, f"{setting.priority or PRIORITY[alarm]}", _said(clause))
        )
    return rows


def _said(clause: Text | None) -> str:
    return "" if clause is None else clause.en


_NAME: Final = name_of("例", "example")
_LIMIT_HEAD: Final = ("limit", "set point", "deadband", "on / off delay s", "priority", "source")


_UNITS: Final = {
    PointKind.TOXIC_GAS: "ppm (or mg/m3)",
    PointKind.COMBUSTIBLE_GAS: f"%LEL (open path: {OVER_PATH.unit})",
}
_SPANS: Final = {
    PointKind.TOXIC_GAS: "0 to 300 % of the limit",
    PointKind.COMBUSTIBLE_GAS: f"0 to 100 (open path: 0 to {OVER_PATH.range[1]:g})",
}


def _kinds() -> str:
    rows = []
    limits = []
    for kind in PointKind:
        defaults = defaults_of(Point(id="example", name=_NAME, kind=kind, cas="7664-41-7"))
        by_gas = kind in (PointKind.TOXIC_GAS, PointKind.MINE_METHANE)
        span = f"{defaults.range[0]:g} to {defaults.range[1]:g}"
        early = early_of(kind)
        clause = clause_of_early(kind, early.horizon_s)
        by_itself = AlarmKind.TIME_TO_LIMIT in defaults.alarms or kind is PointKind.TANK_LEVEL
        foreseen = f"{early.horizon_s:g} s ahead over {early.window_s:g} s{', by itself' if by_itself else ''}"
        rows.append(
            (
                f"`{kind}`",
                _UNITS.get(kind, defaults.unit),
                _SPANS.get(kind, span),
                f"{100 * deadband_of(kind, 0.0, 1.0):g} %",
                f"{PROCESS_DELAY_S.get(kind, 0.0):g} s",
                foreseen + (f" (a high limit; {clause.en})" if clause is not None else ""),
            )
        )
        if not by_gas:
            limits += [(f"`{kind}`", *row) for row in _limits(defaults, kind)]
        if kind is PointKind.COMBUSTIBLE_GAS:
            limits += [(f"`{kind}`", *row) for row in _limits(OVER_PATH, kind)]
    heads = ("kind", "unit", "range", "deadband of the range", "off-delay of own limits", "early warning")
    return f"{table(heads, rows)}\nLimits that come with the kind:\n\n{table(('kind', *_LIMIT_HEAD), limits)}\n"


def _gases() -> str:
    rows = []
    for cas, exposure in EXPOSURE.items():
        limits = dict(defaults_of(Point(id="gas", name=_NAME, kind=PointKind.TOXIC_GAS, cas=cas)).alarms)
        level_1, level_2 = limits[AlarmKind.H][0].setpoint, limits[AlarmKind.HH][0].setpoint
        which = "MAC" if exposure.mac is not None else "PC-TWA"
        limit = f"{which} {exposure.limit_mg_m3:g}"
        mean = limits_of(cas, "ppm")
        means = ("", "") if mean is None else (f"{mean.twa:g}", "" if mean.stel is None else f"{mean.stel:g}")
        rows.append((cas, f"{exposure.name.zh} {exposure.name.en}", limit, f"{level_1:g}", f"{level_2:g}", *means))
    return table(("CAS", "gas", "GBZ 2.1-2019, mg/m3", "`H`, ppm", "`HH`, ppm", "`twa`, ppm", "`stel`, ppm"), rows)


def _by_kind() -> str:
    """Of the alarms that are no limits: where there is one, and what it has if nothing else is said."""
    high = _words(kind for kind in SIDE if SIDE[kind] > 0)
    low = _words(kind for kind in SIDE if SIDE[kind] < 0)
    rows = [
        (AlarmKind.RATE, "on request", (f"window {RATE_WINDOW_S:g} s, deadband {100 * RATE_DEADBAND:g} % of the set"
         f" point, off-delay {RATE_OFF_DELAY_S:g} s")),
        *((kind, "where there is a set point", "as limits; see below for the side") for kind in GRADES),
        (AlarmKind.STEL, "by itself on toxic gas with a PC-STEL (GBZ 2.1-2019), in ppm or mg/m3; else on request",
         f"deadband {100 * EXPOSURE_DEADBAND:g} % of the set point; a reading holds until the point is stale"),
        (AlarmKind.TWA, "by itself on toxic gas with a PC-TWA; else on request", "the same"),
        (AlarmKind.PEAKS, "by itself on toxic gas with a PC-TWA and no PC-STEL; else on request",
         "set point: the PC-TWA"),
        *((kind, "on request", "by the charts in `calibrations.json`") for kind in CHARTS),
        (AlarmKind.ABNORMAL, "by itself on the score of a normal-operation model",
         "no delay: the model has delays of its own"),
        (AlarmKind.LOOP, "on request", (f"on-delay {LOOP_ON_DELAY_S:g} s, off-delay {BAD_OFF_DELAY_S:g} s; 4 and"
         " 20 mA are the ends of the range")),
        (AlarmKind.STUCK, "on request", (f"window {STUCK_WINDOW_S:g} s, at least {STUCK_PERIODS} periods; a gas"
         f" detector may stand at 0 ({OXYGEN_IN_AIR:g} for oxygen), give or take {100 * ZERO_BAND:g} % of its range")),
        (AlarmKind.SPIKE, "on request", f"off-delay {SPIKE_OFF_DELAY_S:g} s"),
    ]  # fmt: skip
    named = [(f"`{kind}`", where, said, f"{PRIORITY[kind]}") for kind, where, said in rows]
    return (
        f"{table(('kind', 'there is one', 'if nothing else is said', 'priority'), named)}\n"
        f"Of the grades high values are bad for {high}, low ones for {low} (the phreatic line is a depth below the"
        " surface). For other kinds `side` says it, or the set points as they run from blue to red.\n"
    )


def _rules() -> str:
    rows = [
        ("`vote`", ("those of its kind, of the vote's side; each limit with an on-delay of at least the longest period"
         " of its members' devices; `bad`"), "the members'"),
        ("`median`", "those of its kind; `bad`", "the members'"),
        ("`spread`", (f"none; `H` on request: deadband {100 * SPREAD_DEADBAND:g} % of the set point, on-delay"
         f" {SPREAD_ON_DELAY_S:g} s, priority medium"), "the members', from 0"),
        ("`balance`", (f"`H` {BALANCE_SIGMAS:g} (a loss), `L` -{BALANCE_SIGMAS:g} (a gain), deadband"
         f" {BALANCE_DEADBAND:g}, no delays, priority medium"), "σ, -10 to 10"),
        ("`grade`", "`blue` 1, `yellow` 2, `orange` 3, `red` 4 (GB 39496-2020 5.5.4), no deadband, no delays",
         "0 to 4"),
        ("`normal`", f"score: `abnormal`; t2, q: `H` {STATISTIC:g}, deadband {STATISTIC_DEADBAND:g}, no delays",
         "0 to 10"),
    ]  # fmt: skip
    return table(("rule", "alarms that come with it", "unit and range"), rows)


def _methane() -> str:
    rows = [
        (f"`{place}`", f"{alarm:g}", "" if cut is None else f"{cut:g}", f"below {reset:g}")
        for place, (alarm, cut, reset) in MINE_METHANE.items()
    ]
    return table(("place", "`H` alarm, %CH4", "`HH` power cut-off, %CH4", "reset"), rows)


def _charts() -> str:
    words = {
        "mean": "of the point in normal running, in its unit",
        "sigma": "standard deviation of a sample, in its unit",
        "rho": "autocorrelation from one sample to the next",
        "left": "what is left of it after prewhitening",
        "step_s": "seconds from sample to sample",
        "k": "CUSUM: reference value, in standard deviations",
        "h": "CUSUM: threshold, in standard deviations",
        "cusum_per_week": "false alarms of the CUSUM a week",
        "weight": "EWMA: weight of a new sample",
        "width": "EWMA: width of its limits, in standard deviations",
        "ewma_per_week": "false alarms of the EWMA a week",
    }
    names = [field.name for field in fields(Calibration)]
    return _LEARNED + table(("field", "meaning"), [(f"`{name}`", words[name]) for name in names])


def _columns() -> str:
    needed = ", ".join(f"`{name}`" for name in NEEDED_COLUMNS)
    others = ", ".join(f"`{name}`" for name in COLUMNS if name not in NEEDED_COLUMNS)
    return f"{_CSV}\nNeeded columns: {needed}. The others: {others}.\n"


def document() -> str:
    """The whole page, Markdown."""
    return (
        f"{_HEAD}{EXAMPLE}```\n\n{_MORE}{MORE}```\n\n{_CHECK}{FORMS[IDENTIFIER]}.\n\n{_fields()}{_uses()}{_columns()}\n"
        f"{_charts()}\n"
        "## What each kind brings\n\n"
        "Whatever the plant file says goes before it. Every point has besides: `bad` (instrument fault), raised after"
        f" {BAD_PERIODS:g} periods of its device, or {UNCERTAIN_S:g} s of readings that are uncertain, and returned"
        f" after {BAD_OFF_DELAY_S:g} s of good ones; `stale` (no data), raised"
        f" after {STALE_PERIODS} periods without a reading but not before {STALE_LEAST_S:g} s. Windows hold at least"
        f" {LEAST_WINDOW_PERIODS} periods. Deadbands: EEMUA 191. `bad` and `stale` have priority"
        f" {PRIORITY[AlarmKind.BAD]}, but {BLIND_GAS_PRIORITY} on gas detectors"
        f" ({_words(kind for kind in PointKind if kind in GAS_KINDS)}): a blind one must not be the least of alarms"
        " (our own choice, of no standard). So it is for `loop` and `stuck`.\n\n"
        f"{_kinds()}"
        "The values of a tailings pond's grades are its designer's (GB 39496-2020 5.5.4): none come with a kind, and"
        " deadbands and ranges of its kinds are ours.\n\n"
        "Other alarms, of which a plant file says more or less:\n\n"
        f"{_by_kind()}\n"
        "Computed points come after all measured ones, have no gateway, and `stale` only where it is asked for; so with"
        " `bad`, but for `vote` and `median`, which have it by themselves: it says that no member is left, and their"
        " limits are blind. What comes with their rule:\n\n"
        f"{_rules()}\n"
        "Why a vote's limits wait: at a start, or when a gateway is there again, the members arrive one after the"
        " other, and one that is not heard of yet may count as tripped. An `on_delay_s` of the plant file goes before"
        " it.\n\n"
        "Where `time-to-limit` has no `suppressed_by` of its own, it is suppressed with the limit that it foresees. No"
        " instrument alarm `bad` or `stale` is suppressed: it could stay hidden after its point falls silent.\n\n"
        "`status`: what is read while an instrument warms up is uncertain, while it is being calibrated bad, and so for"
        f" `settle_s` after ({GAS_SETTLE_S:g} s for gas detectors); neither raises nor clears a process alarm.\n\n"
        "Toxic gases, by CAS number (GB/T 50493-2019 5.5.2: level 1 at 100 %, level 2 at 200 % of the occupational"
        " exposure limit; ppm at 20 °C). A gas that is not here names its own set points.\n\n"
        f"{_gases()}\n"
        "Methane in coal mines, by place (AQ 1029; 煤矿安全规程 Art. 498), without on-delay; the off-delay of"
        f" {GAS_OFF_DELAY_S:g} s, so that an alarm without deadband does not chatter, is our own choice:\n\n"
        f"{_methane()}"
    )


if __name__ == "__main__":
    sys.stdout.write(document())
