"""The poll loop of one Modbus device: its ticks, its read plan, and how it is left alone while it is dead."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tocsin_core.clock import Clock
from tocsin_core.readings import BAD_COMM_FAILURE
from tocsin_core.registers import Reply
from tocsin_core.schedule import first_due, next_due
from tocsin_edge.adapters.modbus import Answer, ModbusLine
from tocsin_edge.loops.health import Health, grace_s
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.measured import measured
from tocsin_edge.settings import DeviceSettings, ModbusDevice

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
MS_PER_S: Final = 1000
PROBE_EVERY_NS: Final = 5 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Cycle:
    """One pass over the read plan: an answer or a quality byte for each request, and when."""

    replies: list[Reply]
    time_ms: int
    reason: str
    silent: bool


async def poll(
    device: DeviceSettings, how: ModbusDevice, line: ModbusLine, clock: Clock, put: Callable[[Sample], None]
) -> None:
    """Poll `device` on its ticks for ever.

    A device that does not answer gives bad readings with each period until it counts as dead; from then on it is
    probed with a single short question, at least a period and at most 5 s apart, and only its return is told. One that
    was never reached gives none at all while it may still be starting.
    """
    health = Health(device.id, clock, grace_s(device.period_ns / NS_PER_S))
    due = first_due(device.period_ns, device.id, clock.now_ns())
    while True:
        # Never longer than a period and a bit, so that a clock set back does not stop the polls.
        await asyncio.sleep(min(due - clock.now_ns(), 2 * device.period_ns) / NS_PER_S)
        cycle = await _cycle(how, line, clock, probe=health.dead)
        decoded = how.plan.decode(cycle.replies)
        found = measured(device, decoded.value, decoded.quality, cycle.time_ms)
        told = True
        if cycle.silent:
            told = health.fail(cycle.reason)
        else:
            health.answer()
            health.complain("; ".join(filter(None, (cycle.reason, found.reason))))
        if told:
            put(Sample(device, found.columns, dead=health.dead))
        after = clock.now_ns()
        if health.dead and device.period_ns < PROBE_EVERY_NS:
            after += PROBE_EVERY_NS - device.period_ns
        due = next_due(device.period_ns, device.id, due, after)


async def _cycle(how: ModbusDevice, line: ModbusLine, clock: Clock, *, probe: bool) -> Cycle:
    """Ask every request of the plan; after the first that nobody answers the rest are not asked."""
    started = clock.now_ns()
    replies: list[Reply] = []
    reason, silent = "", False
    for request in how.plan.requests:
        if silent:
            replies.append(BAD_COMM_FAILURE)
            continue
        answer = Answer(BAD_COMM_FAILURE)
        for _ in range(1 if probe else 1 + how.address.retries):
            answer = await line.ask(how.address.unit, request, how.address.timeout_ms / MS_PER_S)
            if not answer.silent:
                break
        replies.append(answer.reply)
        reason, silent = answer.reason or reason, answer.silent
    middle = (started + clock.now_ns()) // 2
    # Some of it was answered: the device lives, and what it did not answer is bad.
    return Cycle(replies, middle // NS_PER_MS, reason, silent=silent and all(isinstance(r, int) for r in replies))
