"""Keeping to areas: what a request names must stand where its asker has the right."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from iot_core.alarms.lifecycle import PLACED
from iot_core.api.roles import Action, outside
from iot_core.broker.rights import covers, granted
from iot_core.errors import ForbiddenError, IotError
from iot_core.registry.audit import Change
from iot_core.registry.devices import NewDevice, completed
from iot_core.registry.rights import standing
from iot_core.registry.selector import parse
from iot_core.registry.tokens import Token

if TYPE_CHECKING:
    from aiohttp import web

    from iot_core.api.routes import Call
    from iot_core.profiles import Profiles

__all__ = [
    "require_areas", "require_devices", "require_path", "require_places", "require_selector", "require_senders",
    "require_subjects",
]  # fmt: skip

_KNOWN: Final = "SELECT key FROM iot.area WHERE key = ANY($1) AND NOT id = ANY($2) ORDER BY key LIMIT 1"
_BRIDGES: Final = """
SELECT bridge.topic, device.area_id, area.key AS area FROM iot.bridge JOIN iot.device ON device.id = bridge.device_id
LEFT JOIN iot.area ON area.id = device.area_id WHERE device.retired_at IS NULL
"""
_THERE: Final = "SELECT key FROM iot.device WHERE key = ANY($1)"
_MEANT: Final = "SELECT id FROM iot.area WHERE key = $1 OR code = $1"
_PLACE: Final = {"device": "area", "area": "parent"}
_ALARM: Final = f"""
SELECT d.key AS device, r.key AS area, r.id AS area_id FROM iot.alarm a {PLACED} WHERE a.id = $1
"""


async def require_devices(call: Call[Any], connection: asyncpg.Connection, keys: Sequence[str]) -> None:
    """Refuse, naming the area, when one of these devices stands elsewhere. A key that nobody has passes: not found."""
    if call.areas is not None and call.action is not None:
        await _devices(connection, call.who, call.action, call.areas, keys)


async def require_areas(call: Call[Any], connection: asyncpg.Connection, keys: Sequence[str | None]) -> None:
    """Refuse, naming it, when one of these areas is elsewhere; so is None: no area at all."""
    if call.areas is not None and call.action is not None:
        await _areas(connection, call.who, call.action, call.areas, keys)


async def require_places(
    call: Call[Any], connection: asyncpg.Connection, rows: Sequence[tuple[str, str | None]]
) -> None:
    """Refuse when one of these devices, or the area it is to stand in, is elsewhere; a new one must name its area."""
    if call.areas is None:
        return
    await require_devices(call, connection, [key for key, _ in rows])
    there = {row["key"] for row in await connection.fetch(_THERE, [key for key, _ in rows])}
    await require_areas(call, connection, [area for key, area in rows if area is not None or key not in there])


async def require_senders(call: Call[Any], connection: asyncpg.Connection, new: Sequence[NewDevice]) -> None:
    """Refuse devices at topics below a bridge that stands elsewhere: what it carries is not the asker's to take."""
    if call.areas is None or call.action is None:
        return
    bridges = await connection.fetch(_BRIDGES)
    for each in new if bridges else ():
        for topic in _topics(each, call.services.profiles):
            over = [bridge for bridge in bridges if covers(f"{bridge['topic']}/#", topic)]
            if over and not any(bridge["area_id"] in call.areas for bridge in over):
                raise outside(call.who, call.action, over[0]["area"] or "-")


def _topics(new: NewDevice, profiles: Profiles) -> Sequence[str]:
    """List the vendor's topics on which a device would be heard; what cannot be added has none."""
    with suppress(IotError):
        done = completed(new, profiles)
        profile = profiles.get(done.profile or "")
        return granted(profile.address, profile.topics, done.address or "")
    return ()


async def require_selector(call: Call[Any], connection: asyncpg.Connection, selector: str) -> None:
    """Refuse a selector that is kept and could come to mean devices elsewhere: it must name an area of the asker's."""
    if call.areas is None or call.action is None:
        return
    for term in parse(selector):
        if term.field == "area" and not term.negated:
            meant = {row["id"] for row in await connection.fetch(_MEANT, term.value)}
            if meant and meant <= call.areas:
                return
    held = outside(call.who, call.action, "*").facts["held"]
    raise ForbiddenError("api.selector_area", action=call.action.value, held=held)


async def require_subjects(call: Call[Any], connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
    """Refuse to take changes back of which a subject (`device/KEY`, `area/KEY`) is elsewhere, or would be again."""
    if call.areas is None or call.action is None:
        return
    named: dict[str, list[str]] = {"device": [], "area": []}
    for each in changes:
        kind, _, key = each.subject.partition("/")
        if kind not in named:
            raise outside(call.who, call.action, "*")
        named[kind].append(key)
        before = each.before or {}
        if (back := _PLACE[kind]) in before:
            await require_areas(call, connection, [before[back]])
    await require_devices(call, connection, named["device"])
    await require_areas(call, connection, named["area"])


async def require_path(
    connection: asyncpg.Connection, who: Token, action: Action, areas: frozenset[int], request: web.Request
) -> None:
    """Refuse when what the path names stands elsewhere."""
    resource, named = request.match_info.route.resource, request.match_info
    path = resource.canonical if resource is not None else ""
    if "/devices/{key}" in path:
        await _devices(connection, who, action, areas, [named["key"]])
    elif "/areas/{key}" in path:
        await _areas(connection, who, action, areas, [named["key"]])
    elif named["id"].isdecimal() and len(named["id"]) <= 18:
        row = await connection.fetchrow(_ALARM, int(named["id"]))
        if row is not None and row["area_id"] not in areas:
            raise outside(who, action, row["area"] or "-")


async def _devices(
    connection: asyncpg.Connection, who: Token, action: Action, areas: frozenset[int], keys: Sequence[str]
) -> None:
    inside, area = await standing(connection, keys, areas)
    if not inside:
        raise outside(who, action, area)


async def _areas(
    connection: asyncpg.Connection, who: Token, action: Action, areas: frozenset[int], keys: Sequence[str | None]
) -> None:
    if None in keys:
        raise outside(who, action, "-")
    elsewhere = await connection.fetchval(_KNOWN, [key for key in keys if key is not None], list(areas))
    if elsewhere is not None:
        raise outside(who, action, elsewhere)
