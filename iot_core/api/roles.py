"""Who may do what: one table, role x action, from which docs/security.md is written and every route tested."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from iot_core.api.shapes import Role
from iot_core.errors import ForbiddenError
from iot_core.registry.rights import ROLES, places
from iot_core.registry.tokens import Token

__all__ = ["TABLE", "Action", "actions_of", "at_most", "may", "outside", "require", "role_of", "where"]


class Action(StrEnum):
    """What a request does, as far as rights are concerned."""

    READ = "read"
    SIGN_IN = "sign_in"
    DEVICES = "devices"
    AREAS = "areas"
    AUDIT = "audit"
    ACKNOWLEDGE = "acknowledge"
    COMMAND = "command"
    FIRMWARE = "firmware"
    PUSH = "push"
    TOKENS = "tokens"
    USERS = "users"
    LOAD = "load"
    BATCHES = "batches"
    HOUSEHOLD = "household"
    """See what one household uses, outside the platform too."""


_VIEWER: Final = frozenset({Action.READ, Action.SIGN_IN})
# On site a technician takes an alarm that the work itself set off, so acknowledging is theirs too.
_TECHNICIAN: Final = _VIEWER | {Action.DEVICES, Action.AREAS, Action.AUDIT, Action.ACKNOWLEDGE, Action.COMMAND}
_OPERATOR: Final = _TECHNICIAN | {Action.HOUSEHOLD}
# Push targets name webhooks, whose addresses are often secrets themselves: not even shown below admin.
_ADMIN: Final = frozenset(Action)

TABLE: Final = {
    Role.VIEWER: _VIEWER,
    Role.TECHNICIAN: _TECHNICIAN,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
}


def where(who: Token, action: Action) -> frozenset[int] | None:
    """Say where somebody may do this: everywhere (None), or in these areas (empty: nowhere)."""
    return places(who.rights, [role for role, allowed in TABLE.items() if action in allowed])


def may(who: Token, action: Action) -> bool:
    """Say whether somebody may do this anywhere."""
    found = where(who, action)
    return found is None or bool(found)


def actions_of(who: Token) -> tuple[str, ...]:
    """List what somebody may do somewhere."""
    return tuple(action.value for action in Action if may(who, action))


def role_of(who: Token) -> Role:
    """Name the highest role that somebody has anywhere."""
    return Role(max((right.role for right in who.rights), key=ROLES.index, default=Role.VIEWER))


def require(who: Token, action: Action) -> frozenset[int] | None:
    """Say where somebody may do this. Raises ForbiddenError, naming the right, when that is nowhere."""
    if not may(who, action):
        named = {name for right in who.rights for name in (right.named if right.areas is not None else ("*",))}
        raise ForbiddenError(
            "api.forbidden", role=role_of(who).value, action=action.value, area=", ".join(sorted(named)) or "-"
        )
    return where(who, action)


NO_AREA: Final = "-"
"""Instead of an area: what stands in none, or names none."""


def outside(who: Token, action: Action, area: str) -> ForbiddenError:
    """Refuse what somebody may do elsewhere only, naming the right and the area."""
    allowed = [role for role, actions in TABLE.items() if action in actions]
    held = sorted({name for right in who.rights if right.role in allowed for name in right.named})
    code = "api.forbidden_no_area" if area == NO_AREA else "api.forbidden_area"
    return ForbiddenError(code, action=action.value, area=area, held=", ".join(held))


def at_most(who: Token, asked: Role | None) -> Role:
    """Give the role somebody may hand on: what was asked for, never more than their own."""
    own = role_of(who)
    if asked is None:
        return own
    if list(TABLE).index(asked) > list(TABLE).index(own):
        raise ForbiddenError("api.role_above", role=own.value, asked=asked.value)
    return asked
