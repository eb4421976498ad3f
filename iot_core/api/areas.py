"""Areas: list, tree, add."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, get, post
from iot_core.registry import areas


async def list_areas(call: Call[NoQuery]) -> shapes.Areas:
    """List all areas in key order."""
    async with call.connection() as connection:
        return shapes.Areas(items=tuple(_area(each) for each in await areas.areas(connection)))


async def tree(call: Call[NoQuery]) -> shapes.AreaTree:
    """Give the areas as a tree."""
    async with call.connection() as connection:
        return shapes.AreaTree(items=grow(await areas.areas(connection)))


async def add(call: Call[NoQuery], body: shapes.AreaNew) -> shapes.Area:
    """Add an area."""
    new = areas.NewArea(**msgspec.structs.asdict(body))
    async with call.connection() as connection:
        return _area(await areas.add(connection, new, by=call.who.name))


def grow(found: Sequence[areas.Area]) -> tuple[shapes.AreaNode, ...]:
    """Join areas into trees, children in key order."""
    inside: defaultdict[str | None, list[areas.Area]] = defaultdict(list)
    for area in found:
        inside[area.parent].append(area)

    def node(area: areas.Area) -> shapes.AreaNode:
        children = tuple(node(child) for child in inside[area.key])
        below = area.devices + sum(child.devices_below for child in children)
        return shapes.AreaNode(**msgspec.structs.asdict(_area(area)), devices_below=below, children=children)

    return tuple(node(root) for root in inside[None])


def _area(area: areas.Area) -> shapes.Area:
    return msgspec.convert(area, shapes.Area, from_attributes=True)


routes = (get("/areas", list_areas), get("/areas/tree", tree), post("/areas", add, Action.AREAS, status=201))
