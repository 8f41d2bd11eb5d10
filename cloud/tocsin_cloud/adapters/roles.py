"""The roles, and the one table of what each of them may do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What somebody may be allowed to do."""

    READ = "plant.read"
    ANSWER = "alarms.answer"
    TAKE_OUT = "alarms.take-out"
    RECTIFY = "tickets.rectify"
    ACCEPT = "tickets.accept"
    READ_AUDIT = "audit.read"
    MANAGE_USERS = "users.manage"


class Role(StrEnum):
    """What a user is in the plant."""

    OPERATOR = "operator"
    SHIFT_LEADER = "shift-leader"
    SAFETY_OFFICER = "safety-officer"
    REGULATOR = "regulator"
    ADMINISTRATOR = "administrator"


_SHIFT: Final = frozenset({Permission.READ, Permission.ANSWER, Permission.RECTIFY})
GRANTED: Final[Mapping[str, frozenset[Permission]]] = {
    Role.OPERATOR: _SHIFT,
    Role.SHIFT_LEADER: _SHIFT | {Permission.TAKE_OUT},
    Role.SAFETY_OFFICER: _SHIFT | {Permission.TAKE_OUT, Permission.ACCEPT, Permission.READ_AUDIT},
    Role.REGULATOR: frozenset({Permission.READ, Permission.READ_AUDIT}),
    Role.ADMINISTRATOR: frozenset(Permission),
}


def granted(role: str) -> frozenset[Permission]:
    """Return what `role` may do; nothing, if there is no such role."""
    return GRANTED.get(role, frozenset())
