"""What single households use, for who has the right `household` where the meter stands; labelled `public`, for all.

the newest reading               `household`, or `devices`: a technician stands before the meter and reads it
spans, charts, sums, streams     `household`
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from iot_core.api.roles import Action, outside, require, where
from iot_core.api.routes import Call
from iot_core.errors import ForbiddenError
from iot_core.registry.scope import Scoped

__all__ = ["PUBLIC", "require_household", "require_publishing", "withheld", "without_households"]

PUBLIC: Final = "public"
"""The label of a device of a household class that is no household's."""
_WITHHELD: Final = """
SELECT d.id, area.key AS area FROM iot.device d LEFT JOIN iot.area ON area.id = d.area_id
WHERE d.id = ANY($1) AND NOT 'public' = ANY(d.labels) AND NOT coalesce(d.area_id = ANY($2), false) ORDER BY d.key
"""


async def withheld(
    call: Call[Any], connection: asyncpg.Connection, devices: Sequence[tuple[int, str]], *also: Action
) -> dict[int, str]:
    """Say of which of these devices (id, class) the asker may not see what they use, each with its area (`-`: none)."""
    allowed: set[int] = set()
    for action in (Action.HOUSEHOLD, *also):
        places = where(call.who, action)
        if places is None:
            return {}
        allowed |= places
    classes = call.services.profiles.classes
    homes = [number for number, key in devices if key in classes and classes[key].household]
    if not homes:
        return {}
    return {row["id"]: row["area"] or "-" for row in await connection.fetch(_WITHHELD, homes, list(allowed))}


async def without_households(
    call: Call[Any], connection: asyncpg.Connection, found: list[Scoped], *also: Action
) -> list[Scoped]:
    """Leave out what the asker may not see; refuse where nothing else was asked for."""
    hidden = await withheld(call, connection, [(each.id, each.class_key) for each in found], *also)
    left = [each for each in found if each.id not in hidden]
    if hidden and not left:
        raise _refusal(call, next(iter(hidden.values())))
    return left


async def require_household(
    call: Call[Any], connection: asyncpg.Connection, device: tuple[int, str], *also: Action
) -> None:
    """Refuse what one device (id, class) says where the asker may not see it, naming the right and the area."""
    for area in (await withheld(call, connection, [device], *also)).values():
        raise _refusal(call, area)


def require_publishing(call: Call[Any]) -> None:
    """Refuse to show a household's use to everybody (the label `public`) where the asker may not see it."""
    require(call.who, Action.HOUSEHOLD)
    allowed = where(call.who, Action.HOUSEHOLD)
    if allowed is not None and (call.areas is None or not call.areas <= allowed):
        raise outside(call.who, Action.HOUSEHOLD, "*")


def _refusal(call: Call[Any], area: str) -> ForbiddenError:
    try:
        require(call.who, Action.HOUSEHOLD)
    except ForbiddenError as exc:
        return exc
    return outside(call.who, Action.HOUSEHOLD, area)
