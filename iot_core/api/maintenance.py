"""Work at devices: maintenance that keeps alarms quiet, tests that mark them; both end by themselves."""

from zoneinfo import ZoneInfo

import msgspec

from iot_core.api import shapes
from iot_core.api.changes import changed
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_areas, require_devices
from iot_core.errors import NotFoundError, RequestError
from iot_core.messages import text
from iot_core.registry import maintenance
from iot_core.registry.area_changes import trial
from iot_core.registry.windows import Kind


async def begin(call: Call[NoQuery], body: shapes.WindowNew) -> shapes.Changed:
    """Begin maintenance or a test of devices."""
    kind = Kind(body.kind)
    if kind is Kind.TEST and not body.keys:
        raise RequestError("maintenance.test_by_key")
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        keys, label = body.keys, body.label
        if call.areas is not None:
            if body.area is not None:
                await require_areas(call, connection, [body.area])
            if label is not None and not keys:  # kept as devices: others may be given that label later, elsewhere
                keys, label = tuple(await maintenance.labelled(connection, label)) or keys, None
                if not keys:
                    raise NotFoundError("maintenance.nothing", what=body.label or "-")
        done = await maintenance.begin(
            connection,
            devices=keys,
            area=body.area,
            label=label,
            starts=body.starts,
            ends=body.ends,
            reason=body.reason,
            kind=kind,
            by=call.who.name,
        )
        # Inside the transaction: what a label or an area covers is known only now.
        covered = [each.subject.partition("/")[2] for each in done.changes]
        await require_devices(call, connection, covered)
        others = await maintenance.overlapping(connection, done.operation, covered)
    return changed(done, dry=body.dry_run, warnings=[_warning(call, each) for each in others])


def _warning(call: Call[NoQuery], other: maintenance.Overlap) -> str:
    ends = other.ends.astimezone(ZoneInfo(call.services.settings.timezone))
    code = f"maintenance.overlaps_{other.kind}"
    told = f"{ends:%Y-%m-%d %H:%M:%S} {ends:%z}".removesuffix("00")
    return text(code, call.lang, id=other.id, n=other.devices, device=other.device, ends=told)


async def listed(call: Call[shapes.WindowQuery]) -> shapes.Windows:
    """List windows, the first to begin first."""
    asked = call.query
    async with call.connection() as connection:
        found = await maintenance.listed(connection, device=asked.device, since=asked.since, within=call.areas)
    return shapes.Windows(items=tuple(_shape(each) for each in found))


async def end(call: Call[NoQuery]) -> shapes.Window:
    """End a window before its time."""
    number = call.number("number", NotFoundError("maintenance.none", id=call.path["number"]))
    async with call.connection() as connection:
        await require_devices(call, connection, await maintenance.targets(connection, [number]))
        return _shape(await maintenance.end(connection, number, by=call.who.name))


def _shape(each: maintenance.Listed) -> shapes.Window:
    return msgspec.convert(each, shapes.Window, from_attributes=True)


routes = (
    get("/maintenance", listed, reach=Reach.OWN),
    post("/maintenance", begin, Action.DEVICES, most=1024 * 1024, reach=Reach.OWN),
    post("/maintenance/{number}/end", end, Action.DEVICES, reach=Reach.OWN),
)
