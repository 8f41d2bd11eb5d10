"""The SQL tables: what each row means and what is unique; times are i64 nanoseconds UTC throughout."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite numbers rows by itself only in a column of its own INTEGER type; elsewhere 32 bits would run out.
RowId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The declarative base; constraint names follow one rule so that a migration can name them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads this class attribute by name
        str: Text(),
        int: BigInteger(),
        float: Float(53),
        bool: Boolean(),
        bytes: LargeBinary(),
        dict[str, Any]: JSON(none_as_null=True),
    }


class Lease(Base):
    """Who does the work of a role: nobody where `holder` is empty.

    `epoch` counts the takeovers, `beat` the holder's signs of life; `adapters.lease` alone changes them.
    """

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int]
    beat: Mapped[int]


class Worker(Base):
    """How far one partition of the stream is processed: the last message, and its time stamp in `updated_ns`.

    `computed_position`: what was computed up to there is in the stream again.
    """

    __tablename__ = "worker"
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    position: Mapped[int]
    computed_position: Mapped[int]
    updated_ns: Mapped[int]


class Occurrence(Base):
    """One raising of an alarm, as it stands now; only transitions change it.

    `suppressed`: it is hidden from the operator, for whichever reason; `annunciated`: it was not when it was raised.
    `reason`: what lay behind the raising, in the engine's words.
    """

    __tablename__ = "occurrence"
    __table_args__ = (
        Index(None, "alarm", "raised_ns"),
        Index(None, "phase"),
        Index(None, "raised_ns"),
        Index(None, "returned_ns"),
    )
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    alarm: Mapped[str]
    point: Mapped[str]
    source: Mapped[str | None]
    kind: Mapped[str]
    priority: Mapped[str]
    phase: Mapped[str]
    raised_ns: Mapped[int]
    reading_ns: Mapped[int]
    committed_ns: Mapped[int]
    acknowledged_ns: Mapped[int | None]
    acknowledged_by: Mapped[str | None]
    returned_ns: Mapped[int | None]
    shelved_until_ns: Mapped[int | None]
    shelved_once: Mapped[bool] = mapped_column(default=False, server_default=false())
    out_of_service: Mapped[bool]
    suppressed: Mapped[bool] = mapped_column(default=False, server_default=false())
    annunciated: Mapped[bool] = mapped_column(default=True, server_default=true())
    value: Mapped[float | None]
    setpoint: Mapped[float | None]
    unit: Mapped[str]
    message: Mapped[dict[str, Any]]
    clause: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None]


class Transition(Base):
    """One step of an alarm's state machine, never changed afterwards."""

    __tablename__ = "transition"
    __table_args__ = (Index(None, "occurrence"), Index(None, "committed_ns"), {"sqlite_autoincrement": True})
    seq: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    occurrence: Mapped[str] = mapped_column(String(16))
    alarm: Mapped[str]
    event: Mapped[str]
    phase_from: Mapped[str]
    phase_to: Mapped[str]
    time_ns: Mapped[int]
    now_ns: Mapped[int]
    value: Mapped[float | None]
    who: Mapped[str | None]
    reason: Mapped[str | None]
    position: Mapped[int]
    committed_ns: Mapped[int]
    latency_ns: Mapped[int | None]


class Command(Base):
    """A person's command as the alarms worker answered it; its place in the stream is `position`."""

    __tablename__ = "command"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]
    verb: Mapped[str]
    occurrence: Mapped[str | None]
    alarm: Mapped[str | None]
    who: Mapped[str]
    reason: Mapped[str | None]
    accepted: Mapped[bool]
    answer: Mapped[str]
    at_ns: Mapped[int]


class Ticket(Base):
    """A hazard ticket (隐患)."""

    __tablename__ = "ticket"
    __table_args__ = (Index(None, "state"), Index(None, "opened_ns"))
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[dict[str, Any]]
    source: Mapped[str | None]
    level: Mapped[str]
    state: Mapped[str]
    opened_ns: Mapped[int]
    deadline_ns: Mapped[int]
    reason: Mapped[str]
    alarm: Mapped[str]
    liable: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]
    submitted_by: Mapped[str | None]


class TicketOccurrence(Base):
    """Which raisings a ticket covers."""

    __tablename__ = "ticket_occurrence"
    __table_args__ = (Index(None, "occurrence"),)
    ticket: Mapped[str] = mapped_column(String(32), ForeignKey("ticket.id"), primary_key=True)
    occurrence: Mapped[str] = mapped_column(String(16), primary_key=True)


class TicketLog(Base):
    """What happened to a ticket, by whom; `what` is a Name {zh, en} or {text}."""

    __tablename__ = "ticket_log"
    __table_args__ = (Index(None, "ticket"),)
    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    ticket: Mapped[str] = mapped_column(String(32), ForeignKey("ticket.id"))
    at_ns: Mapped[int]
    who: Mapped[str]
    what: Mapped[dict[str, Any]]


class Message(Base):
    """One message to one person by one channel; unique by what it is about, so that planning it twice is harmless.

    `round_ns` is 0 for the calling of the raising, else the event time that began the calling; `answered` marks one
    that was on its way when its calling ended: nothing may follow from it.
    """

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("occurrence", "round_ns", "step", "repeat", "to_person", "channel"),
        Index(None, "state", "due_ns"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    occurrence: Mapped[str] = mapped_column(String(16))
    ticket: Mapped[str | None] = mapped_column(String(32))
    to_person: Mapped[str]
    channel: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    due_ns: Mapped[int]
    sent_ns: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str | None]
    reason: Mapped[str]
    round_ns: Mapped[int] = mapped_column(default=0, server_default="0")
    step: Mapped[int] = mapped_column(Integer)
    repeat: Mapped[int] = mapped_column(Integer)
    answered: Mapped[bool] = mapped_column(default=False, server_default=false())


class User(Base):
    """Somebody who may sign in, unless `disabled`: the logs speak of users, so none is ever deleted."""

    __tablename__ = "user"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    display: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    created_ns: Mapped[int]
    disabled: Mapped[bool] = mapped_column(default=False, server_default=false())


class Session(Base):
    """A sign-in; only the hash of its token is kept."""

    __tablename__ = "session"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(64), ForeignKey("user.name"))
    created_ns: Mapped[int]
    expires_ns: Mapped[int]


class Audit(Base):
    """One entry of the audit log, never changed and never deleted; `hash` is over all of it and the hash before it."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at_ns: Mapped[int]
    who: Mapped[str]
    role: Mapped[str]
    origin: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    outcome: Mapped[str]
    detail: Mapped[str]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """The last entry of the audit log: the one row that whoever appends must lock."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seq: Mapped[int]
    hash: Mapped[str] = mapped_column(String(64))


class ApiToken(Base):
    """A program's right to act for a user in a role, until it expires or is revoked; only its hash is kept."""

    __tablename__ = "api_token"
    __table_args__ = (UniqueConstraint("token_hash"),)
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    label: Mapped[str]
    user: Mapped[str] = mapped_column(String(64), ForeignKey("user.name"))
    role: Mapped[str]
    token_hash: Mapped[str] = mapped_column(String(64))
    created_ns: Mapped[int]
    expires_ns: Mapped[int | None]
    last_used_ns: Mapped[int | None]
    revoked_ns: Mapped[int | None]


class AlarmState(Base):
    """What hides a definition from the operator, which may hold while it has no occurrence."""

    __tablename__ = "alarm_state"
    alarm: Mapped[str] = mapped_column(primary_key=True)
    shelved_until_ns: Mapped[int | None]
    shelved_once: Mapped[bool] = mapped_column(default=False, server_default=false())
    out_of_service: Mapped[bool]
    suppressed: Mapped[bool] = mapped_column(default=False, server_default=false())
    who: Mapped[str | None]
    reason: Mapped[str | None]


class GatewayJournal(Base):
    """How far the alarm journal of a gateway that decides is taken in, and how often entries before that never came."""

    __tablename__ = "gateway_journal"
    gateway: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]
    lost: Mapped[int]


class GatewayOrder(Base):
    """A command on its way to the gateway that decides the alarm; `body` is what is sent until it is answered.

    `state`: waiting, done, or refused for the reason in `answer`.
    """

    __tablename__ = "gateway_order"
    __table_args__ = (Index(None, "state", "at_ns"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    gateway: Mapped[str] = mapped_column(String(64))
    alarm: Mapped[str]
    body: Mapped[bytes]
    at_ns: Mapped[int]
    state: Mapped[str]
    answer: Mapped[str]


class Quarantine(Base):
    """A payload, or a part of one, that was refused, and why; bounded, oldest dropped."""

    __tablename__ = "quarantine"
    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    at_ns: Mapped[int]
    topic: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    size: Mapped[int]
    head: Mapped[bytes]
