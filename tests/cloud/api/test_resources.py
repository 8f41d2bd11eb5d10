"""What each resource answers, and how it refuses."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import START_NS, message, occurrence, ticket, transition
from tests.support.postgres import on_both
from tocsin_cloud.adapters.sql.models import Quarantine, TicketLog, TicketOccurrence
from tocsin_cloud.api.model import rfc3339
from tocsin_cloud.api.openapi import description
from tocsin_cloud.api.ports import ClockStatus, DeviceStatus, Figures, GatewayStatus, Undeclared
from tocsin_cloud.loops.live import Outlook
from tocsin_core.kpi import Flood
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import BAD_COMM_FAILURE

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[3]


def at(seconds: float) -> str:
    """Return the time `seconds` after the start as the interface writes it."""
    return rfc3339(START_NS + round(seconds * 1e9))


@on_both
async def test_a_hazard_source_shows_its_worst_alarm(bench: Bench) -> None:
    """Hidden alarms do not count, one that returned is not active; an early warning is."""
    await bench.put(
        occurrence(1, kind="time-to-limit", priority="medium", phase="acknowledged"),
        occurrence(2, priority="low"),
        occurrence(3, priority="critical", shelved_until_ns=START_NS + 10**12),
        occurrence(4, priority="critical", out_of_service=True),
        occurrence(5, priority="critical", phase="normal"),
        occurrence(6, priority="medium", phase="returned-unacknowledged"),
        occurrence(7, priority="medium", phase="latched-acknowledged"),
        occurrence(8, priority="critical", suppressed=True),
    )
    async with bench.client("regulator") as client:
        assert (await client.get("/kpi")).json()["alarms_active"] == 5
        plant = (await client.get("/plant")).json()
    assert plant["site"] == {"id": "north", "name": {"zh": "北厂", "en": "North works"}, "timezone": "Asia/Shanghai"}
    assert plant["gateways"] == [{"id": "gw-1", "name": {"zh": "一号网关", "en": "Gateway 1"}}]
    assert plant["started_at"] == at(0)
    tanks, hall = plant["hazard_sources"]
    assert tanks["worst"] == "medium"
    assert (tanks["active"], tanks["unacknowledged"], tanks["early_warning"]) == (2, 2, True)
    assert (hall["worst"], hall["active"], hall["unacknowledged"], hall["early_warning"]) == (None, 0, 0, False)


async def test_points_show_their_reading_and_never_make_one_up(bench: Bench) -> None:
    """A good value is shown, a bad one is null with its reason, an old one is stale, and none yet is said."""
    bench.live.read(0, START_NS, 12.5)
    async with bench.client() as client:
        gas, pressure = (await client.get("/points")).json()
        assert (gas["value"], gas["quality"], gas["quality_text"], gas["time"]) == (12.5, 192, "good", at(0))
        assert (gas["unit"], gas["source"], gas["gateway"], gas["device"]) == ("ppm", "tanks", "gw-1", "gas")
        assert {limit["kind"] for limit in gas["limits"]} >= {"H", "HH", "bad", "stale"}
        assert (pressure["time"], pressure["value"]) == (None, None)
        assert pressure["quality_text"] == "bad: waiting for the first value"
        bench.live.read(0, START_NS, float("nan"), BAD_COMM_FAILURE)
        bad = (await client.get("/points/NH3-101")).json()
        assert (bad["value"], bad["quality"], bad["quality_text"]) == (None, 24, "bad: comm failure")
        bench.live.read(0, START_NS, 12.5)
        bench.clock.move(3600)
        stale = (await client.get("/points/NH3-101")).json()
        assert (stale["value"], stale["quality_text"]) == (12.5, "stale")
        assert (await client.get("/points/NH3-999")).status_code == 404


async def test_a_point_shows_where_it_is_heading(bench: Bench) -> None:
    """The projection comes with the single point."""
    bench.live.heading["NH3-101"] = Outlook(START_NS, 12.0, 0.1, 0.08, 0.12, 25.0, AlarmKind.H, 600.0, 130.0)
    async with bench.client() as client:
        point = (await client.get("/points/NH3-101")).json()
        assert point["projection"]["limit_kind"] == "H"
        assert point["projection"]["reaches_in_s"] == 130.0
        assert point["projection"]["time"] == at(0)
        assert (await client.get("/points/PT-201")).json()["projection"] is None


async def test_a_stranger_among_the_points(bench: Bench) -> None:
    """A metric outside the plant file is listed as undeclared and has an address of its own, slashes and all."""
    bench.live.strangers.append(Undeclared(2, "north/gw-9/flow", "m3/h", "gw-9", ""))
    for column, entry in ((bench.live.time_ns, START_NS), (bench.live.value, 4.0), (bench.live.quality, 192)):
        column.append(entry)  # type: ignore[arg-type]  # each column takes its own kind of number
    async with bench.client() as client:
        listed = (await client.get("/points")).json()[-1]
        assert (listed["id"], listed["declared"], listed["value"]) == ("north/gw-9/flow", False, 4.0)
        assert (await client.get("/points/north%2Fgw-9%2Fflow")).json()["unit"] == "m3/h"
        span = {"start": at(0), "end": at(10)}
        assert (await client.get("/points/north%2Fgw-9%2Fflow/readings", params=span)).json()["unit"] == "m3/h"


async def test_readings_come_in_columns(bench: Bench) -> None:
    """Times are RFC 3339, an unknown value is null, and the range is half open."""
    async with bench.client() as client:
        answer = await client.get("/points/NH3-101/readings", params={"start": at(0), "end": at(3)})
    assert answer.json() == {
        "point": "NH3-101",
        "unit": "ppm",
        "start": at(0),
        "end": at(3),
        "step_s": None,
        "time": [at(0), at(1), at(2)],
        "value": [0.0, None, 2.0],
        "min": [-1.0, None, 1.0],
        "max": [1.0, None, 3.0],
        "quality": [192, 192, 192],
        "unsynchronised": [],
    }


async def test_readings_of_a_clock_that_nobody_had_set_are_marked(bench: Bench) -> None:
    """Those stretches of the point's own gateway that reach into the range; the gateway shows all, and its clock."""
    spans = ((-9, -1), (-1, 0), (3, 9))
    stretches = tuple((START_NS + first * 10**9, START_NS + last * 10**9) for first, last in spans)
    clock = ClockStatus(synchronised=False, since_ns=START_NS, error_ms=None, step_s=-2.5)
    other = GatewayStatus("gw-9", "online", unsynchronised=stretches)
    bench.live.known = [other, GatewayStatus("gw-1", "online", clock=clock, unsynchronised=stretches)]
    async with bench.client() as client:
        for (start, end), expected in (((0, 3), [(-1, 0)]), ((0, 4), [(-1, 0), (3, 9)]), ((1, 3), [])):
            answer = await client.get("/points/NH3-101/readings", params={"start": at(start), "end": at(end)})
            assert answer.json()["unsynchronised"] == [{"first": at(a), "last": at(b)} for a, b in expected]
        (shown,) = [row for row in (await client.get("/gateways")).json() if row["id"] == "gw-1"]
    assert shown["clock"] == {"synchronised": False, "since": at(0), "error_ms": None, "step_s": -2.5}
    assert shown["unsynchronised"] == [{"first": at(a), "last": at(b)} for a, b in spans]


async def test_a_range_too_large_is_refused_and_never_cut_short(bench: Bench) -> None:
    """20000 rows come whole, 20001 do not come at all; neither does a step too short for the range."""
    bench.history.rows = 20_001
    async with bench.client() as client:
        whole = await client.get("/points/NH3-101/readings", params={"start": at(0), "end": at(20_000)})
        assert len(whole.json()["time"]) == 20_000
        for query in ({"start": at(0), "end": at(20_001)}, {"start": at(0), "end": at(20_001), "step": "1"}):
            refused = await client.get("/points/NH3-101/readings", params=query)
            assert refused.status_code == 422
            assert "20000" in refused.json()["detail"]


@pytest.mark.parametrize(
    "query", [{"start": at(1), "end": at(1)}, {"start": "2026-01-01T00:00:00", "end": at(1)}, {"end": at(1)}]
)
async def test_a_range_that_is_none_is_refused(bench: Bench, query: dict[str, str]) -> None:
    """An empty range, a time without a zone and a missing end are told apart in the detail."""
    async with bench.client() as client:
        answer = await client.get("/points/NH3-101/readings", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("query.")


async def test_a_silent_history_is_no_crash(bench: Bench) -> None:
    """When the store does not answer, the interface says so and tells no more."""
    bench.history.broken = True
    async with bench.client() as client:
        answer = await client.get("/points/NH3-101/readings", params={"start": at(0), "end": at(1)})
    assert answer.status_code == 503
    assert "fire" not in answer.text


@on_both
async def test_alarms_are_sorted_for_the_operator(bench: Bench) -> None:
    """Unacknowledged first, then priority, then the newest."""
    await bench.put(
        occurrence(1, priority="low"),
        occurrence(2, priority="critical", phase="acknowledged"),
        occurrence(3, priority="high", phase="returned-unacknowledged"),
        occurrence(4, priority="high"),
        occurrence(5, priority="critical", phase="normal"),
        occurrence(6, priority="low", phase="acknowledged"),
    )
    async with bench.client() as client:
        active = (await client.get("/alarms")).json()
        assert [int(alarm["id"], 16) for alarm in active] == [4, 3, 1, 2, 6]
        assert active[0] == {
            "id": f"{4:016x}",
            "alarm": "NH3-101/H",
            "point": "NH3-101",
            "source": "tanks",
            "kind": "H",
            "priority": "high",
            "phase": "unacknowledged",
            "shelved_until": None,
            "shelved_once": False,
            "suppressed": False,
            "out_of_service": False,
            "raised_at": at(4),
            "committed_at": at(4.04),
            "acknowledged_at": None,
            "acknowledged_by": None,
            "returned_at": None,
            "value": 31.5,
            "setpoint": 25.0,
            "unit": "ppm",
            "message": {"zh": "氨浓度 高报", "en": "Ammonia high"},
            "clause": None,
            "because": None,
        }
        every = (await client.get("/alarms", params={"state": "all"})).json()
        assert len(every) == 6


@on_both
async def test_paging_through_alarms_loses_none(bench: Bench) -> None:
    """Even where a page ends among alarms of one millisecond, the pages together hold every alarm once."""
    for number in range(1, 10):
        await bench.put(occurrence(number, raised_ns=START_NS + number // 4 * 1_000_000 + number))
    seen: list[str] = []
    before = None
    async with bench.client() as client:
        for _ in range(9):
            params = {"state": "all", "limit": "2"} | ({} if before is None else {"before": before})
            page = (await client.get("/alarms", params=params)).json()
            if not page:
                break
            seen += [alarm["id"] for alarm in page]
            before = min(alarm["raised_at"] for alarm in page)
    assert sorted(seen) == [f"{number:016x}" for number in range(1, 10)]


@on_both
async def test_alarms_since_a_time_are_all_of_them(bench: Bench) -> None:
    """The one raised at that very time is the first, and paging backwards ends there."""
    for number in range(1, 8):
        await bench.put(occurrence(number, phase="normal"))
    seen: list[str] = []
    query = {"state": "all", "limit": "2", "since": at(3)}
    async with bench.client() as client:
        while page := (await client.get("/alarms", params=query)).json():
            seen += [alarm["raised_at"] for alarm in page]
            query["before"] = min(seen)
        assert sorted(seen) == [at(number) for number in range(3, 8)]
        assert (await client.get("/alarms", params={"since": at(3)})).json() == []


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/points/NH3-101/readings?start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z&step_s=5", "step_s"),
        ("/alarms?stat=all", "stat"),
        ("/plant?state=all", "state"),
        ("/openapi.json?x", "x"),
    ],
)
async def test_a_query_key_that_nobody_knows_is_refused(bench: Bench, path: str, key: str) -> None:
    """A misspelt filter is told by its name, instead of an answer to another question."""
    async with bench.client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith(f"query.{key}: unknown")


async def test_a_step_is_given_in_seconds(bench: Bench) -> None:
    """The step asked for comes back with the rows."""
    async with bench.client() as client:
        span = {"start": at(0), "end": at(10), "step": "5"}
        assert (await client.get("/points/NH3-101/readings", params=span)).json()["step_s"] == 5.0


@pytest.mark.parametrize(("step", "start"), [(None, 3723), (90, 3723), (120, 3680), (7200, 3200)])
async def test_a_long_trend_begins_where_roll_ups_do(bench: Bench, step: int | None, start: int) -> None:
    """A start goes down to the whole hour or minute when the steps are whole ones, and the answer tells so."""
    assert START_NS % 3600e9 == 400e9
    span = {"start": at(3723), "end": at(90_000)} | ({} if step is None else {"step": str(step)})
    async with bench.client() as client:
        assert (await client.get("/points/NH3-101/readings", params=span)).json()["start"] == at(start)


async def test_acknowledging_tells_the_worker_who_it_was(bench: Bench) -> None:
    """The command carries the person and the alarm; the answer is the alarm as it stands afterwards."""
    await bench.put(occurrence(1))
    async with bench.client() as client:
        answer = await client.post(f"/alarms/{1:016x}/ack", json={"comment": "seen"})
    assert answer.json()["phase"] == "acknowledged"
    assert answer.json()["acknowledged_by"] == "operator"
    (command,) = bench.worker.commands
    assert (command.verb, command.alarm, command.who, command.reason) == ("ack", "NH3-101/H", "operator", "seen")


async def test_an_acknowledgement_can_be_taken_back(bench: Bench) -> None:
    """By whoever may acknowledge; the alarm then asks again, and nobody stands for it."""
    await bench.put(occurrence(1, phase="acknowledged", acknowledged_by="wang", acknowledged_ns=START_NS))
    path = f"/alarms/{1:016x}/unacknowledge"
    async with bench.client("regulator") as client:
        assert (await client.post(path)).status_code == 403
    async with bench.client() as client:
        answer = (await client.post(path, json={"comment": "not mine"})).json()
    assert (answer["phase"], answer["acknowledged_by"], answer["acknowledged_at"]) == ("unacknowledged", None, None)
    (command,) = bench.worker.commands
    assert (command.verb, command.who, command.reason) == ("unacknowledge", "operator", "not mine")


async def test_a_shelf_may_end_with_the_return(bench: Bench) -> None:
    """Asked for as such it reaches the worker as such, and the alarm shows it; else it lasts its time."""
    await bench.put(occurrence(1))
    path, body = f"/alarms/{1:016x}/shelve", {"duration_s": 60, "reason": "repair"}
    async with bench.client() as client:
        assert (await client.post(path, json=body)).json()["shelved_once"] is False
        assert (await client.post(path, json=body | {"once": True})).json()["shelved_once"] is True
    assert [command.once for command in bench.worker.commands] == [False, True]


@on_both
async def test_an_alarm_tells_what_happened_to_it(bench: Bench) -> None:
    """Step by step as the journal holds it; one without any step is none."""
    raised = occurrence(1)
    answered = transition(raised)
    answered.event, answered.phase_from, answered.who, answered.reason = "acknowledge", "unacknowledged", "wang", "seen"
    answered.phase_to = "acknowledged"
    first = transition(raised)
    first.reason = "1oo2; first out of tank-first"
    await bench.put(raised, first, answered)
    async with bench.client("regulator") as client:
        steps = (await client.get(f"/alarms/{1:016x}/steps")).json()
        assert (await client.get("/alarms/none/steps")).status_code == 404
    assert steps[0] == {
        "at": at(1),
        "event": "raise",
        "phase_from": "normal",
        "phase_to": "unacknowledged",
        "value": 31.5,
        "who": None,
        "reason": "1oo2; first out of tank-first",
        "because": {"first_out": ["tank-first"], "vote": "1oo2", "contributions": []},
    }
    assert [(step["event"], step["who"], step["reason"]) for step in steps[1:]] == [("acknowledge", "wang", "seen")]
    assert steps[1]["because"] is None, "a person's words are no engine's"


async def test_what_the_worker_does_not_do_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is 409 with its reason, no stream is 503, silence is 504 after a bounded wait."""
    monkeypatch.setattr("tocsin_cloud.api.routes.alarms.ANSWER_TIMEOUT_S", 0.05)
    await bench.put(occurrence(1))
    path = f"/alarms/{1:016x}/ack"
    async with bench.client() as client:
        bench.worker.refuses = "the alarm is already acknowledged"
        refused = await client.post(path)
        assert (refused.status_code, refused.json()["detail"]) == (409, "the alarm is already acknowledged")
        bench.worker.refuses, bench.worker.unreachable = None, True
        assert (await client.post(path)).status_code == 503
        bench.worker.unreachable, bench.worker.silent = False, True
        assert (await client.post(path)).status_code == 504
        assert (await client.post("/alarms/none/ack")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"duration_s": 60}, {"duration_s": 0, "reason": "x"}, {"duration_s": 60, "reason": "x", "forever": True}],
)
async def test_shelving_needs_a_bound_and_a_reason(bench: Bench, body: dict[str, object]) -> None:
    """No reason, no time, or a key that nobody knows: refused before anything is asked of the worker."""
    await bench.put(occurrence(1))
    async with bench.client() as client:
        assert (await client.post(f"/alarms/{1:016x}/shelve", json=body)).status_code == 422
    assert not bench.worker.commands


@on_both
async def test_a_ticket_goes_round_its_loop(bench: Bench) -> None:
    """Submitted by one, not accepted by the same, not while its alarm is active, then accepted by another."""
    raised = occurrence(1)
    await bench.put(raised, ticket(1), TicketOccurrence(ticket="HD-1", occurrence=raised.id))
    await bench.put(TicketLog(ticket="HD-1", at_ns=START_NS, who="tocsin", what={"zh": "自动生成", "en": "Opened"}))
    async with bench.client("safety-officer") as officer, bench.client("administrator") as other:
        (listed,) = (await officer.get("/tickets")).json()
        assert (listed["id"], listed["alarms"], "evidence" in listed) == ("HD-1", [raised.id], False)
        early = await officer.post("/tickets/HD-1/accept", json={"comment": "fine"})
        assert early.status_code == 409
        sent = await officer.post("/tickets/HD-1/submit", json={"measures": "flange tightened"})
        assert sent.json()["state"] == "awaiting-acceptance"
        own = await officer.post("/tickets/HD-1/accept", json={"comment": "fine"})
        assert (own.status_code, own.json()["detail"]) == (409, "who submitted the work must not accept it")
        active = await other.post("/tickets/HD-1/accept", json={"comment": "fine"})
        assert (active.status_code, active.json()["detail"]) == (409, "an alarm of this ticket is still active")
        async with bench.database.write() as session:
            (await session.merge(raised)).phase = "normal"
        done = await other.post("/tickets/HD-1/accept", json={"comment": "fine"})
        assert done.json()["state"] == "accepted"
        assert [entry["what"] for entry in done.json()["log"]] == [
            {"zh": "自动生成", "en": "Opened"},
            "submit: flange tightened",
            "accept: fine",
        ]
        assert (await officer.get("/tickets")).json() == []
        assert len((await officer.get("/tickets", params={"state": "all"})).json()) == 1
    assert [event.data for event in bench.bus.published] == [{"id": "HD-1"}, {"id": "HD-1"}]


@on_both
async def test_evidence_is_shown_as_it_was_kept(bench: Bench) -> None:
    """The trend of a ticket passes through with its gaps and its limits; its times become RFC 3339."""
    kept = {
        "point": "NH3-101",
        "unit": "ppm",
        "from": START_NS,
        "to": START_NS + 2 * 10**9,
        "time": [START_NS, START_NS + 10**9],
        "value": [20.0, None],
        "limits": [{"kind": "H", "setpoint": 25.0}],
        "raised_at": START_NS + 2 * 10**9,
        "complete": True,
    }
    shown = {
        "point": "NH3-101",
        "unit": "ppm",
        "from": at(0),
        "to": at(2),
        "time": [at(0), at(1)],
        "value": [20.0, None],
        "limits": [{"kind": "H", "setpoint": 25.0}],
        "raised_at": at(2),
    }
    await bench.put(ticket(1, evidence=kept))
    async with bench.client() as client:
        assert (await client.get("/tickets/HD-1")).json()["evidence"] == shown


async def test_messages_never_show_an_address(bench: Bench) -> None:
    """Only the kind of channel is told: the address may hold a password."""
    raised = occurrence(1)
    await bench.put(raised, message(1, raised, channel="mailto://alarm:s3cret@mail.example.org"))
    async with bench.client("regulator") as client:
        answer = await client.get("/notifications")
    (shown,) = answer.json()
    assert (shown["channel"], shown["to"], shown["state"]) == ("mailto", "wang", "pending")
    assert "s3cret" not in answer.text


async def test_gateways_with_their_devices(bench: Bench) -> None:
    """A gateway not heard of is unknown; one that is heard of tells its devices and how far it is."""
    async with bench.client() as client:
        (silent,) = (await client.get("/gateways")).json()
        assert (silent["state"], silent["devices"]) == (
            "unknown",
            [{"id": "gas", "state": "unknown", "points": 2, "bad": 2}],
        )
        devices = (DeviceStatus("gas", "online"),)
        bench.live.known = [GatewayStatus("gw-1", "online", START_NS, START_NS, 120, 60, 59, devices)]
        bench.live.read(0, START_NS, 1.0)
        (heard,) = (await client.get("/gateways")).json()
    assert (heard["state"], heard["since"], heard["batch"], heard["committed"]) == ("online", at(0), 60, 59)
    assert heard["devices"] == [{"id": "gas", "state": "online", "points": 2, "bad": 1}]
    assert (heard["clock"], heard["unsynchronised"]) == (None, [])


@on_both
async def test_the_figures(bench: Bench) -> None:
    """Counts come from the tables, counters from the process, the latency from transitions that readings caused."""
    raised = occurrence(1)
    early = [occurrence(2 + n, kind=kind, phase="normal") for n, kind in enumerate(("time-to-limit", "abnormal"))]
    await bench.put(raised, *early, ticket(1), ticket(2, state="accepted"))
    await bench.put(message(1, raised, state="delivered"), transition(raised, 40_000_000), transition(raised))
    bench.live.counters = Figures(1000, 60.5, 3, 1, {"not Sparkplug": 2})
    async with bench.client() as client:
        kpi = (await client.get("/kpi")).json()
        later = (await client.get("/kpi", params={"since": at(3600)})).json()
    assert kpi["latency_ms"] == {"p50": 40.0, "p99": 40.0, "n": 1}
    assert later["latency_ms"]["n"] == 0
    assert (kpi["points"], kpi["readings_stored"], kpi["quarantined"]) == (2, 1000, {"not Sparkplug": 2})
    assert (kpi["alarms_raised"], kpi["alarms_active"], kpi["alarms_unacknowledged"]) == (3, 1, 1)
    assert (kpi["early_warnings"], kpi["tickets_opened"], kpi["tickets_open"]) == (2, 2, 1)
    assert kpi["messages_delivered"] == 1


@on_both
async def test_the_figures_of_the_alarm_system(bench: Bench) -> None:
    """Over the hours since `since`: of what was told to the operator, with the floods and the alarms that need work."""
    hour = 3600
    bench.clock.move(2 * hour)
    chatters = [occurrence(n, returned_ns=START_NS + (n + 2) * 10**9) for n in range(1, 12)]
    await bench.put(
        *chatters,
        occurrence(4000, alarm="PT-201/HH", priority="critical", returned_ns=START_NS + 4005 * 10**9),
        occurrence(4001, annunciated=False),
        occurrence(4002, id="old", alarm="PT-201/L", phase="acknowledged", raised_ns=START_NS - 90_000 * 10**9),
    )
    async with bench.client("regulator") as client:
        system = (await client.get("/kpi", params={"since": at(0)})).json()["alarm_system"]
        day = (await client.get("/kpi")).json()["alarm_system"]
    assert (system["from"], system["to"], system["alarms"]) == (at(0), at(2 * hour), 12)
    assert (system["by_hour"], system["per_hour"], system["per_day"]) == ([11.0, 1.0], 6.0, 144.0)
    assert (system["load"], system["bands"][0]) == ("manageable", {"load": "acceptable", "per_hour": 6.0})
    assert (system["most_in_ten_minutes"], system["ten_minutes_over"]) == (11.0, 1 / 12)
    (flood,) = system["floods"]
    assert flood == {"since": at(11), "until": at(607), "alarms": 11, "first": "NH3-101/H"}
    assert system["top"] == [{"alarm": "NH3-101/H", "count": 11}, {"alarm": "PT-201/HH", "count": 1}]
    assert system["chattering"] == [{"alarm": "NH3-101/H", "count": 11}]
    assert system["fleeting"] == [{"alarm": "PT-201/HH", "count": 1}]
    assert (system["standing"], system["priorities"]["critical"]) == (["PT-201/L"], 1 / 12)
    assert len(day["by_hour"]) == 24
    assert datetime.fromisoformat(day["from"]).timestamp() % hour == 0


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"])
async def test_figures_of_a_span_that_cannot_be_are_empty_and_no_crash(bench: Bench, since: str) -> None:
    """Of what lies farther back than a year nothing is told, and nothing of what is to come."""
    long_ago = START_NS - 400 * 86_400 * 10**9
    await bench.put(occurrence(1, phase="normal", raised_ns=long_ago, returned_ns=long_ago + 10**9))
    async with bench.client() as client:
        answer = await client.get("/kpi", params={"since": since})
    assert answer.status_code == 200
    assert answer.json()["alarm_system"]["alarms"] == 0


async def test_a_flood_is_part_of_the_plant(bench: Bench) -> None:
    """Whoever opens the page in the middle of one sees it at once."""
    async with bench.client("regulator") as client:
        assert (await client.get("/plant")).json()["flood"] is None
        bench.live.flooded = Flood(START_NS, None, 12, "NH3-101/H")
        flood = (await client.get("/plant")).json()["flood"]
    assert flood == {"since": at(0), "until": None, "alarms": 12, "first": "NH3-101/H"}


@on_both
async def test_the_quarantine_shows_why(bench: Bench) -> None:
    """The newest refused payload first, without its bytes."""
    row = {"topic": "spBv1.0/x", "reason": "not protobuf", "detail": "truncated", "size": 9, "head": b"\xff"}
    await bench.put(Quarantine(at_ns=START_NS, **row), Quarantine(at_ns=START_NS + 10**9, **row))
    async with bench.client() as client:
        first, second = (await client.get("/quarantine")).json()
    assert first == {"at": at(1), "topic": "spBv1.0/x", "reason": "not protobuf", "detail": "truncated", "size": 9}
    assert second["at"] == at(0)


async def test_the_probes_need_no_user(bench: Bench) -> None:
    """Alive, ready with the reason when it is not, and figures for Prometheus."""
    async with bench.client(None) as client:
        assert (await client.get("http://tocsin/healthz")).json()["status"] == "ok"
        assert (await client.get("http://tocsin/readyz")).status_code == 200
        bench.missing.append("the stream is away")
        unready = await client.get("http://tocsin/readyz")
        assert (unready.status_code, unready.json()["reason"]) == (503, "the stream is away")
        metrics = (await client.get("http://tocsin/metrics")).text
    assert 'tocsin_http_requests_total{method="GET",route="/readyz",status="503"} 1.0' in metrics


async def test_our_own_failure_is_told_without_its_inside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception becomes a 500 problem that holds nothing of it."""

    def break_down() -> Figures:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(bench.live, "figures", break_down)
    async with bench.client() as client:
        answer = await client.get("/kpi")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_page_and_its_addresses(bench: Bench) -> None:
    """Hashed assets are kept for ever, the page never, its own addresses lead to it, and no address of ours does."""
    async with bench.client(None) as client:
        page = await client.get("http://tocsin/")
        assert "<title>Tocsin" in page.text
        assert page.headers["cache-control"] == "no-cache"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert (await client.get("http://tocsin/alarms/history")).text == page.text
        asset = await client.get("http://tocsin/assets/index-4f3a.js")
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (await client.get("http://tocsin/assets/gone.js")).status_code == 404
        assert (await client.get("http://tocsin/../../etc/passwd")).text == page.text
        for nothing in ("api/v1/nothing", "api", "docs", "docs/x", "redoc", "openapi.json", "metrics/x", "robots.txt"):
            unknown = await client.get(f"http://tocsin/{nothing}")
            assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")


def test_the_checked_in_description_is_up_to_date() -> None:
    """docs/api/openapi.json is what the code says now; `python -m tocsin_cloud.api.openapi FILE` renews it."""
    checked_in = (REPOSITORY / "docs" / "api" / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(checked_in) == json.loads(description())
