"""Who is told of an alarm, when, and when the calling stops."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from tests.core.plants import SECOND, START_NS
from tests.core.test_tickets import RAISED
from tocsin_core.lifecycle import Event
from tocsin_core.plant import Priority
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import EscalationStep, Gateway, Notify, Person, PlantFile, Roster, Shift, Site
from tocsin_core.routing import (
    MOST_LINES,
    Asking,
    RoutingReason,
    awaits_answer,
    decide,
    follow_up,
    message_id,
    on_duty,
    reached,
    rerouted,
    reworded,
)
from tocsin_core.tickets import AlarmEvent


def shift(from_: str, to: str, *people: str) -> Shift:
    """A shift of these people."""
    return Shift(from_=from_, to=to, people=people)


DUTY: Final = Roster(
    id="duty", name=name_of("值班", "Duty"), shifts=(shift("08:00", "20:00", "li"), shift("20:00", "08:00", "wu"))
)
FILE: Final = PlantFile(
    tocsin=1,
    site=Site(id="site", name=name_of("化工厂", "Chemical works"), timezone="Asia/Shanghai"),
    gateways=(Gateway(id="gw"),),
    people=(
        Person(id="li", name=name_of("李", "Li"), channels=("sms://li", "mailto://li")),
        Person(id="wu", name=name_of("吴", "Wu"), channels=("sms://wu",)),
        Person(id="chief", name=name_of("张", "Zhang"), channels=("sms://chief",)),
    ),
    rosters=(DUTY,),
    notify=Notify(
        steps=(EscalationStep(after_s=0, to=("duty",)), EscalationStep(after_s=300, to=("chief", "duty"))),
        repeat_s=600,
    ),
)
# 2027-01-15T16:00 at the site: Li is on duty.
NOW: Final = START_NS


def at(text: str, timezone: str) -> int:
    """The instant of a wall-clock time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("time", "people"),
    [("07:59", ("wu",)), ("08:00", ("li",)), ("19:59", ("li",)), ("20:00", ("wu",)), ("00:00", ("wu",))],
)
def test_a_shift_may_pass_midnight(time: str, people: tuple[str, ...]) -> None:
    """Each minute of the day belongs to one shift: it begins at its first minute and ends before its last."""
    assert on_duty(DUTY, at(f"2027-01-15T{time}", "Asia/Shanghai"), "Asia/Shanghai") == people


def test_a_shift_that_ends_when_it_begins_lasts_the_whole_day() -> None:
    """And whoever stands in two shifts is there once."""
    roster = Roster(
        id="r", name=name_of("r", "r"), shifts=(shift("06:00", "06:00", "li"), shift("00:00", "12:00", "wu", "li"))
    )
    assert on_duty(roster, at("2027-01-15T05:00", "UTC"), "UTC") == ("li", "wu")
    assert on_duty(roster, at("2027-01-15T13:00", "UTC"), "UTC") == ("li",)


@pytest.mark.parametrize("day", ["2027-03-28", "2027-10-31"])
def test_a_clock_change_leaves_no_minute_without_duty(day: str) -> None:
    """Where summer time begins or ends, every minute of that day has exactly one shift, by the clock on the wall."""
    start = at(f"{day}T00:00", "Europe/Berlin")
    for minute in range(26 * 60):
        now_ns = start + minute * 60 * SECOND
        wall = datetime.fromtimestamp(now_ns // SECOND, tz=ZoneInfo("Europe/Berlin"))
        assert on_duty(DUTY, now_ns, "Europe/Berlin") == (("li",) if 8 <= wall.hour < 20 else ("wu",))


def plan(events: Sequence[AlarmEvent], running: Priority | None = None) -> list[tuple[str, float, str]]:
    """Channel, seconds from now and reason of what is planned, perhaps while another alarm of the place waits."""
    decision = decide(events, {} if running is None else {"tank-farm": {"PT-1/H": running}}, FILE, NOW)
    assert decision.cancel == ()
    return [(each.channel, (each.due_ns - NOW) / SECOND, each.reason.value) for each in decision.messages]


def test_a_first_alarm_starts_the_whole_chain() -> None:
    """Whoever is on duty at once over all their channels, then each step when its time comes, each person once."""
    assert plan([RAISED]) == [
        ("sms://li", 0, "first alarm of its place"),
        ("mailto://li", 0, "first alarm of its place"),
        ("sms://chief", 300, "nobody has acknowledged"),
        ("sms://li", 300, "nobody has acknowledged"),
        ("mailto://li", 300, "nobody has acknowledged"),
    ]


def test_a_step_goes_to_who_will_be_on_duty_then() -> None:
    """Planned a minute before the shift changes, the second step is for the next shift."""
    now = at("2027-01-15T19:59", "Asia/Shanghai")
    messages = decide([RAISED], {}, FILE, now).messages
    assert [each.to for each in messages] == ["li", "li", "chief", "wu"]


def test_while_a_chain_runs_only_a_graver_alarm_is_told() -> None:
    """Level 2 after level 1 is told at once to the first step; another level 1 is seen by whoever answers."""
    graver = replace(RAISED, occurrence="2" * 16, alarm="NH3-101/HH", priority=Priority.CRITICAL)
    assert plan([RAISED], Priority.HIGH) == []
    assert plan([RAISED, graver], Priority.HIGH) == [
        ("sms://li", 0, "a graver alarm while the chain is running"),
        ("mailto://li", 0, "a graver alarm while the chain is running"),
    ]
    assert plan([graver], Priority.CRITICAL) == []


@pytest.mark.parametrize(
    "event",
    [
        replace(RAISED, suppressed=True),
        replace(RAISED, priority=Priority.MEDIUM),
        replace(RAISED, event=Event.RETURN, unanswered=False),
        replace(RAISED, event=Event.UNSHELVE, unanswered=False),
    ],
    ids=["hidden", "lower priority", "return", "nothing to answer"],
)
def test_nobody_is_called_for_what_needs_no_answer(event: AlarmEvent) -> None:
    """Hidden alarms, lower ones, returns, and an alarm that comes off the shelf when it is normal."""
    assert plan([event]) == []


def test_an_unanswered_alarm_that_comes_off_the_shelf_is_told() -> None:
    """Hiding it was no answer."""
    assert plan([replace(RAISED, event=Event.UNSHELVE)])[0] == (
        "sms://li",
        0,
        "an unacknowledged alarm came off the shelf",
    )


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event.REALARM, "an acknowledged alarm is still active"),
        (Event.UNACKNOWLEDGE, "an acknowledgement was taken back"),
        (Event.IN_SERVICE, "an unacknowledged alarm is no longer suppressed"),
    ],
)
def test_an_alarm_that_asks_again_calls_like_a_raising(event: Event, reason: str) -> None:
    """The whole chain from its first step; and where another alarm's chain is running, only if it is graver."""
    again = replace(RAISED, event=event, time_ns=RAISED.time_ns + SECOND)
    chain, first_time = plan([again]), plan([RAISED])
    assert chain[:1] == [("sms://li", 0, reason)]
    assert [(channel, after_s) for channel, after_s, _ in chain] == [(to, after_s) for to, after_s, _ in first_time]
    assert plan([again], Priority.HIGH) == []
    assert plan([again], Priority.LOW)[0][2] == "a graver alarm while the chain is running"


def test_each_calling_about_one_occurrence_has_ids_of_its_own() -> None:
    """They come of the event time that began it, so that planning it again gives the same; repeats stay apart, too."""

    def ids(event: AlarmEvent, now_ns: int = NOW) -> list[str]:
        messages = decide([event], {}, FILE, now_ns).messages
        return [each.id for each in (*messages, *follow_up(messages[-1], FILE, now_ns))]

    events = [RAISED] + [replace(RAISED, event=Event.REALARM, time_ns=RAISED.time_ns + hour) for hour in (3600, 7200)]
    callings = [ids(event) for event in events]
    assert len({one for calling in callings for one in calling}) == sum(map(len, callings))
    assert [ids(event, NOW + SECOND) for event in events] == callings


def test_a_calling_that_an_older_release_began_goes_on_under_its_ids() -> None:
    """What the raising planned then is planned alike now: a repeat that one of two messages planned is there once."""
    first, *_, last = decide([RAISED], {}, FILE, NOW).messages
    assert (first.round_ns, last.round_ns) == (0, 0)
    (again, *_) = follow_up(last, FILE, NOW)
    assert again.id == message_id("tank-farm", RAISED.occurrence, 1, 1, "chief", "sms://chief") == "e8cc6b0feba247c6"


def test_a_last_step_in_vain_waits_no_longer_than_one_that_was_heard() -> None:
    """A minute, or `repeat_s` where that is shorter."""
    last = decide([RAISED], {}, FILE, NOW).messages[-1]
    hasty = FILE.model_copy(update={"notify": FILE.notify.model_copy(update={"repeat_s": 20.0})})
    due = [{each.due_ns for each in follow_up(last, file, NOW, in_vain=True)} for file in (FILE, hasty)]
    assert due == [{NOW + 60 * SECOND}, {NOW + 20 * SECOND}]


def test_what_waits_is_told_though_the_name_of_what_was_told_ends_alike() -> None:
    """Whoever read of tank 11, where nothing waits any more, would go there."""
    told = "11# tank no data / 11# tank: no data（首出：a） / (first out: a)\n北厂, 12:00"
    ends_alike, same = (
        Asking(name, Priority.HIGH, NOW, name_of(f"{name} tank no data", f"{name} tank: no data"))
        for name in ("1#", "11#")
    )
    words = reworded(told, [ends_alike], FILE)
    assert words is not None
    assert words[1].startswith("1# tank no data / ")
    assert reworded(told, [ends_alike, same], FILE) is None


def test_an_answer_cancels_what_waits() -> None:
    """Once nothing in the place is left to acknowledge its chain ends; a place that still waits goes on."""
    acknowledged = replace(RAISED, event=Event.ACKNOWLEDGE, unanswered=False)
    alone = {"tank-farm": {RAISED.alarm: Priority.HIGH}}
    assert decide([acknowledged], alone, FILE, NOW).cancel == ("tank-farm",)
    both = {"tank-farm": alone["tank-farm"] | {"PT-1/H": Priority.HIGH}}
    assert decide([acknowledged], both, FILE, NOW).cancel == ()
    hidden = replace(RAISED, event=Event.SHELVE, suppressed=True)
    assert decide([hidden], alone, FILE, NOW).cancel == ("tank-farm",)


def test_raised_and_acknowledged_at_once_calls_nobody() -> None:
    """What was answered within the same batch needs no message."""
    decision = decide([RAISED, replace(RAISED, event=Event.ACKNOWLEDGE, unanswered=False)], {}, FILE, NOW)
    assert (decision.messages, decision.cancel) == ((), ("tank-farm",))


def test_an_answer_and_a_new_alarm_in_one_batch_end_one_chain_and_start_another() -> None:
    """As they would in two: the old chain's messages are cancelled, and the new one is about the new alarm alone."""
    acknowledged = replace(RAISED, event=Event.ACKNOWLEDGE, unanswered=False)
    for later in (
        replace(RAISED, alarm="PT-1/H", occurrence="2" * 16, time_ns=RAISED.time_ns + SECOND),
        replace(RAISED, event=Event.REALARM, time_ns=RAISED.time_ns + SECOND),
    ):
        together = decide([acknowledged, later], {"tank-farm": {RAISED.alarm: Priority.HIGH}}, FILE, NOW)
        assert together.cancel == ("tank-farm",)
        assert together.messages == decide([later], {}, FILE, NOW).messages
        assert len(together.messages) == 5


def test_an_occurrence_that_replaces_one_that_waits_is_no_new_call() -> None:
    """It returned, nobody answered, it was raised again: the chain that runs goes on."""
    again = replace(RAISED, occurrence="2" * 16, time_ns=RAISED.time_ns + SECOND)
    decision = decide([again], {"tank-farm": {RAISED.alarm: Priority.HIGH}}, FILE, NOW)
    assert (decision.messages, decision.cancel) == ((), ())


@pytest.mark.parametrize("priority", Priority)
def test_what_awaits_an_answer_is_one_condition(priority: Priority) -> None:
    """Unanswered, shown, and of a priority that people are told of."""
    for unanswered in (False, True):
        for suppressed in (False, True):
            told = awaits_answer(priority, FILE.notify, unanswered=unanswered, suppressed=suppressed)
            assert told is (unanswered and not suppressed and priority in {Priority.HIGH, Priority.CRITICAL})


def test_the_last_step_is_repeated_until_somebody_answers() -> None:
    """Ten minutes after it went out, to whoever is on duty by then; earlier steps are not."""
    messages = decide([RAISED], {}, FILE, NOW).messages
    first, last = messages[0], messages[-1]
    assert follow_up(first, FILE, NOW) == []
    evening = at("2027-01-15T19:55", "Asia/Shanghai")
    again = follow_up(last, FILE, evening)
    assert [(each.to, each.step, each.repeat, each.reason) for each in again] == [
        ("chief", 1, 1, RoutingReason.REPEATED),
        ("wu", 1, 1, RoutingReason.REPEATED),
    ]
    assert {each.due_ns for each in again} == {evening + 600 * SECOND}
    assert [each.repeat for each in follow_up(again[0], FILE, evening)] == [2, 2]


def test_planning_twice_plans_the_same_messages() -> None:
    """Ids are a fixed function of chain, occurrence, step, repeat, person and channel: an outbox keeps one of each."""
    messages = decide([RAISED], {}, FILE, NOW).messages
    later = decide([RAISED], {}, FILE, NOW + SECOND).messages
    assert [each.id for each in messages] == [each.id for each in later]
    assert len({each.id for each in messages}) == len(messages)
    repeats = [each.id for last in messages[-3:] for each in follow_up(last, FILE, NOW)]
    assert len(set(repeats)) == 3
    assert messages[0].id == message_id("tank-farm", RAISED.occurrence, 0, 0, "li", "sms://li") == "3038e5a7f56b3695"


def test_a_flood_is_one_message_with_the_first_out_on_top() -> None:
    """Ten thousand alarms of one place: one message a channel, the earliest on top, then the gravest."""
    events = [
        replace(
            RAISED,
            occurrence=f"{number:016x}",
            alarm=f"P{number}/H",
            time_ns=START_NS + (SECOND if number != 7000 else 0),
            priority=Priority.CRITICAL if number == 9000 else Priority.HIGH,
            message=name_of(f"报警{number}", f"alarm {number}"),
        )
        for number in range(10_000)
    ]
    messages = [each for each in decide(events, {}, FILE, NOW).messages if each.step == 0]
    assert [each.channel for each in messages] == ["sms://li", "mailto://li"]
    assert messages[0].subject == "【化工厂】报警7000（另有 9999 条 / and 9999 more）"
    lines = messages[0].body.splitlines()
    assert lines[:3] == ["报警7000 / alarm 7000", "报警9000 / alarm 9000", "报警0 / alarm 0"]
    assert lines[MOST_LINES:] == [
        "另有 9980 条 / and 9980 more",
        "化工厂 / Chemical works，2027-01-15 16:00:00",
        "请立即确认。 / Please acknowledge.",
    ]
    assert messages[0].occurrence == f"{7000:016x}"


def test_places_have_chains_of_their_own() -> None:
    """A point that belongs to no hazard source is its own place."""
    alone = replace(RAISED, source=None, source_name=None, point="X")
    decision = decide([RAISED, alone], {}, FILE, NOW)
    assert {each.chain for each in decision.messages} == {"tank-farm", "X"}


def test_without_steps_nobody_is_called() -> None:
    """A plant may have nobody to call; its alarms stand on the page."""
    silent = FILE.model_copy(update={"notify": Notify()})
    assert decide([RAISED], {}, silent, NOW).messages == ()


def test_who_may_be_called_is_who_stands_in_a_step_or_in_its_rosters() -> None:
    """Whoever is on duty now; who stands in the plant file alone is called by nobody."""
    idle = Person(id="idle", name=name_of("闲", "Idle"), channels=("sms://idle",))
    known = FILE.model_copy(update={"people": (*FILE.people, idle)})
    assert reached(known) == ("sms://li", "mailto://li", "sms://wu", "sms://chief")
    assert reached(known.model_copy(update={"notify": Notify()})) == ()


def test_what_goes_to_an_address_that_is_no_more_goes_to_its_step_s_people() -> None:
    """At the time at which it was due, with the ids that these always had; of a step that is gone nothing."""
    planned = decide([RAISED], {}, FILE, NOW).messages
    old = replace(planned[0], to="gone", channel="sms://gone", due_ns=NOW + 7)
    instead = rerouted(old, FILE)
    assert [(each.id, each.to, each.channel) for each in instead] == [
        (each.id, each.to, each.channel) for each in planned if each.step == old.step
    ]
    assert {(each.due_ns, each.body, each.reason) for each in instead} == {(NOW + 7, old.body, old.reason)}
    assert rerouted(replace(old, step=2), FILE) == []
