"""What the gateway's own alarms, outputs and push-buttons are like, as data, as figures and in words."""

import json
from dataclasses import asdict
from typing import Final

import numpy as np

from tocsin_core.foreign import LONGEST_TEXT, is_writable, parsed
from tocsin_core.journal import encode
from tocsin_core.lifecycle import Phase, Verb
from tocsin_edge.adapters.metrics_text import Family
from tocsin_edge.loops.leaving import OFF, UNKNOWN
from tocsin_edge.loops.local_alarms import LocalAlarms, Wish

# Far beyond what any alarm may be shelved for, and short enough for the clock's numbers.
LONGEST_S: Final = 7 * 24 * 3600.0

_KEYS: Final = frozenset(("verb", "alarms", "who", "reason", "duration_s", "once"))


def alarms_page(alarms: LocalAlarms) -> str:
    """Every alarm that is not at rest, the newest journal entries, outputs and push-buttons, as JSON; times in ns."""
    state, rules = alarms.state, alarms.rules
    hidden = (state.shelved_until_ns > 0) | state.suppressed | state.out_of_service
    found = []
    for number in np.flatnonzero((state.phase != Phase.NORMAL) | hidden).tolist():
        definition = rules.definitions[number]
        onset_ns, value = int(state.onset_ns[number]), float(state.value[rules.point[number]])
        found.append(
            {
                "alarm": definition.id,
                "occurrence": alarms.occurrence(number),
                "priority": str(definition.priority),
                "phase": Phase(int(state.phase[number])).text,
                "onset_ns": onset_ns,
                "value": None if np.isnan(value) else value,
                "shelved_until_ns": int(state.shelved_until_ns[number]),
                "shelved_once": bool(state.shelved_once[number]),
                "out_of_service": bool(state.out_of_service[number]),
                "suppressed": bool(state.suppressed[number]),
            }
        )
    whole = {"alarms": found, "journal": _journal(alarms), **status(alarms)}
    return json.dumps(whole, ensure_ascii=False)


def _journal(alarms: LocalAlarms) -> dict[str, object]:
    journal = alarms.journal
    entries = [{"number": number, **json.loads(encode(entry))} for number, entry in alarms.recent]
    return {"newest": journal.newest, "committed": journal.committed, "held": journal.held, "entries": entries}


async def obey(alarms: LocalAlarms, body: bytes) -> str:
    """Do what a command (JSON) asks, and tell of each alarm what became of it.

    Raises:
        ValueError: it is none.
    """
    outcomes = await alarms.wish(wish_of(body))
    return json.dumps({"outcomes": [asdict(outcome) for outcome in outcomes]}, ensure_ascii=False)


def wish_of(body: bytes) -> Wish:
    """What a command (JSON) asks.

    Raises:
        ValueError: it is none.
    """
    told = parsed(body)
    if not isinstance(told, dict) or not told.keys() <= _KEYS:
        raise ValueError(f"a command has the keys {', '.join(sorted(_KEYS))}, and no others")
    names, duration_s, once = told.get("alarms"), told.get("duration_s", 0.0), told.get("once", False)
    who, reason = told.get("who"), told.get("reason", "")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("alarms: a list of alarms, or null for all that wait for an answer")
    if not isinstance(who, str) or not who or not isinstance(reason, str):
        raise ValueError("who, reason: texts, and somebody it must be")
    if not all(is_writable(text) for text in (who, reason, *(names or ()))):
        raise ValueError(f"who, reason, alarms: UTF-8 without NUL, of at most {LONGEST_TEXT} characters")
    if isinstance(duration_s, bool) or not isinstance(duration_s, int | float) or not 0 <= duration_s <= LONGEST_S:
        raise ValueError(f"duration_s: {duration_s!r}")
    if not isinstance(once, bool):
        raise ValueError(f"once: {once!r}")  # noqa: TRY004 - as any other mistake in it
    return Wish(
        Verb(str(told.get("verb"))), None if names is None else tuple(names), who, reason, float(duration_s), once
    )


def status(alarms: LocalAlarms) -> dict[str, object]:
    """How many alarms are decided here, and how outputs and push-buttons fare."""
    return {
        "decided": len(alarms.rules.definitions),
        "outputs": [asdict(switch.figures) for switch in alarms.switches],
        "leaving": [asdict(switch.figures) for switch in alarms.leaving.switches],
        "buttons": [asdict(button.figures) for button in alarms.buttons],
    }


def faults(alarms: LocalAlarms) -> tuple[str, ...]:
    """Which outputs would not warn, one line each."""
    return tuple(f"{switch.name}: {switch.reason}" for switch in alarms.switches if switch.reason)


def warnings(alarms: LocalAlarms) -> tuple[str, ...]:
    """What else does not do as it should, one line each."""
    found = [f"{button.name}: {button.reason}" for button in alarms.buttons if button.reason]
    found += alarms.leaving.warnings()
    if alarms.journal.held:
        found.append(f"{alarms.journal.held} entries of the alarm journal are in memory alone")
    if alarms.trouble:
        found.append(f"the alarms' state is not kept: {alarms.trouble}")
    return tuple(found)


def families(alarms: LocalAlarms) -> tuple[Family, ...]:
    """Every figure of the alarms, outputs and push-buttons."""
    phase = alarms.state.phase
    outputs = [({"output": switch.output.id}, switch.figures) for switch in alarms.switches]
    buttons = [({"button": each.button.id}, each.figures) for each in alarms.buttons]
    return (
        (
            "tocsin_edge_alarms",
            "gauge",
            "Alarms that are decided here, by phase.",
            [({"phase": each.text}, int((phase == each).sum())) for each in Phase],
        ),
        (
            "tocsin_edge_journal_entries_total",
            "counter",
            "The last number of the alarm journal, and up to which the database has it.",
            [({"what": "told"}, alarms.journal.newest), ({"what": "committed"}, alarms.journal.committed)],
        ),
        ("tocsin_edge_journal_in_memory", "gauge", "Entries that the disk did not take.", [({}, alarms.journal.held)]),
        (
            "tocsin_edge_output_wanted",
            "gauge",
            "Whether the output should be on.",
            [(of, float(each.wanted)) for of, each in outputs],
        ),
        (
            "tocsin_edge_output_failing",
            "gauge",
            "Whether the output cannot be switched, or does not do as it should.",
            [(of, float(bool(each.reason))) for of, each in outputs],
        ),
        (
            "tocsin_edge_output_writes_total",
            "counter",
            "Writes that were taken.",
            [(of, e.writes) for of, e in outputs],
        ),
        (
            "tocsin_edge_output_failures_total",
            "counter",
            "Cycles in which the output was not switched, or read back otherwise.",
            [(of, each.failures) for of, each in outputs],
        ),
        (
            "tocsin_edge_outputs_left_total",
            "counter",
            "Outputs that left the plant file, by what they were left as.",
            [({"as": each}, alarms.leaving.counts[each]) for each in (OFF, UNKNOWN)],
        ),
        ("tocsin_edge_button_presses_total", "counter", "Presses.", [(of, each.presses) for of, each in buttons]),
        (
            "tocsin_edge_button_failing",
            "gauge",
            "Whether the button cannot be read, or is stuck.",
            [(of, float(bool(each.reason))) for of, each in buttons],
        ),
    )
