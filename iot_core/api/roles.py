"""Who may do what: one table, role x action."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from iot_core.api.shapes import Role
from iot_core.errors import ForbiddenError

__all__ = ["TABLE", "Action", "actions_of", "at_most", "require"]


class Action(StrEnum):
    """What a request does, as far as rights are concerned."""

    READ = "read"
    SIGN_IN = "sign_in"
    DEVICES = "devices"
    AREAS = "areas"
    AUDIT = "audit"
    ACKNOWLEDGE = "acknowledge"
    PUSH = "push"
    TOKENS = "tokens"
    LOAD = "load"


_VIEWER: Final = frozenset({Action.READ, Action.SIGN_IN})
# On site a technician takes an alarm that the work itself set off, so acknowledging is theirs too.
_TECHNICIAN: Final = _VIEWER | {Action.DEVICES, Action.AREAS, Action.AUDIT, Action.ACKNOWLEDGE}
_OPERATOR: Final = _TECHNICIAN
# Push targets name webhooks, whose addresses are often secrets themselves: not even shown below admin.
_ADMIN: Final = frozenset(Action)

TABLE: Final = {
    Role.VIEWER: _VIEWER,
    Role.TECHNICIAN: _TECHNICIAN,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
}


def actions_of(role: str) -> tuple[str, ...]:
    """List what a role may do."""
    allowed = TABLE[Role(role)]
    return tuple(action.value for action in Action if action in allowed)


def require(role: str, action: Action) -> None:
    """Raise ForbiddenError when a role may not do this."""
    if action not in TABLE[Role(role)]:
        raise ForbiddenError("api.forbidden", role=role, action=action.value)


def at_most(role: str, asked: Role | None) -> Role:
    """Give the role somebody may hand on: what was asked for, never more than their own."""
    own = Role(role)
    if asked is None:
        return own
    if list(TABLE).index(asked) > list(TABLE).index(own):
        raise ForbiddenError("api.role_above", role=role, asked=asked.value)
    return asked
