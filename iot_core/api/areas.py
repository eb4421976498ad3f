"""Areas: list, tree, add, import; renamed, moved and merged with their history."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from iot_core.api import shapes
from iot_core.api.changes import changed
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_areas
from iot_core.errors import RequestError
from iot_core.registry import area_changes, area_history, areas
from iot_core.registry.area_changes import trial

_IMPORT_MOST = 8 * 1024 * 1024


async def list_areas(call: Call[shapes.AreasQuery]) -> shapes.Areas:
    """List areas in key order."""
    async with call.connection() as connection:
        found = await areas.areas(connection, ended=call.query.ended, within=call.areas)
        return shapes.Areas(items=tuple(_area(each) for each in found))


async def show(call: Call[NoQuery]) -> shapes.AreaDetail:
    """Show an area with what it was called and where it hung, from when to when."""
    key = call.path["key"]
    async with call.connection() as connection:
        found = _area(await areas.find(connection, key))
        history = await area_history.versions(connection, key)
    versions = tuple(msgspec.convert(each, shapes.AreaVersion, from_attributes=True) for each in history)
    return shapes.AreaDetail(**msgspec.structs.asdict(found), history=versions)


async def tree(call: Call[NoQuery]) -> shapes.AreaTree:
    """Give the areas as a tree."""
    async with call.connection() as connection:
        return shapes.AreaTree(items=grow(await areas.areas(connection, within=call.areas)))


async def add(call: Call[NoQuery], body: shapes.AreaNew) -> shapes.Area:
    """Add an area."""
    async with call.connection() as connection:
        await require_areas(call, connection, [body.parent])
        return _area(await areas.add(connection, _new(body), by=call.who.name))


async def rename(call: Call[NoQuery], body: shapes.AreaRename) -> shapes.Changed:
    """Give an area another name; the old one stays findable."""
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        done = await area_changes.rename(
            connection, call.path["key"], name=body.name, name_en=body.name_en, at=body.at, by=call.who.name
        )
    return changed(done, dry=body.dry_run)


async def move(call: Call[NoQuery], body: shapes.AreaMove) -> shapes.Changed:
    """Hang an area under another one, or make it a root."""
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        await require_areas(call, connection, [body.parent])
        done = await area_changes.move(connection, call.path["key"], parent=body.parent, at=body.at, by=call.who.name)
    return changed(done, dry=body.dry_run)


async def merge(call: Call[NoQuery], body: shapes.AreaMerge) -> shapes.Changed:
    """Merge areas into another one; no telemetry is rewritten."""
    if (body.into is None) is (body.new is None):
        raise RequestError("registry.merge_into_what")
    into = body.into if body.new is None else _new(body.new)
    assert into is not None
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        target = body.into if body.new is None else body.new.parent
        await require_areas(call, connection, [*body.areas, target])
        done = await area_changes.merge(connection, body.areas, into, at=body.at, by=call.who.name)
    return changed(done, dry=body.dry_run)


async def end(call: Call[NoQuery], body: shapes.AreaEnd) -> shapes.Changed:
    """Give an empty area up that goes into no other one; its history stays."""
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        done = await area_changes.end(connection, call.path["key"], at=body.at, by=call.who.name)
    return changed(done, dry=body.dry_run)


async def import_(call: Call[NoQuery], body: shapes.AreaImport) -> shapes.Changed:
    """Add areas and bring those that are there up to date; all or none."""
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        new = [_new(each) for each in body.areas]
        brought = {each.key for each in new}
        await require_areas(call, connection, [*brought, *(each.parent for each in new if each.parent not in brought)])
        done = await area_changes.import_(connection, new, at=body.at, by=call.who.name)
    return changed(done, dry=body.dry_run)


def grow(found: Sequence[areas.Area]) -> tuple[shapes.AreaNode, ...]:
    """Join areas into trees, children in key order."""
    inside: defaultdict[str | None, list[areas.Area]] = defaultdict(list)
    there = {area.key for area in found}
    for area in found:
        inside[area.parent if area.parent in there else None].append(area)

    def node(area: areas.Area) -> shapes.AreaNode:
        children = tuple(node(child) for child in inside[area.key])
        below = area.devices + sum(child.devices_below for child in children)
        return shapes.AreaNode(**msgspec.structs.asdict(_area(area)), devices_below=below, children=children)

    return tuple(node(root) for root in inside[None])


def _new(body: shapes.AreaNew) -> areas.NewArea:
    return areas.NewArea(**msgspec.structs.asdict(body))


def _area(area: areas.Area) -> shapes.Area:
    return msgspec.convert(area, shapes.Area, from_attributes=True)


routes = (
    get("/areas", list_areas, reach=Reach.OWN),
    get("/areas/tree", tree, reach=Reach.OWN),
    get("/areas/{key}", show),
    post("/areas", add, Action.AREAS, status=201, reach=Reach.OWN),
    post("/areas/import", import_, Action.AREAS, most=_IMPORT_MOST, reach=Reach.OWN),
    post("/areas/merge", merge, Action.AREAS, reach=Reach.OWN),
    post("/areas/{key}/rename", rename, Action.AREAS),
    post("/areas/{key}/move", move, Action.AREAS),
    post("/areas/{key}/end", end, Action.AREAS),
)
