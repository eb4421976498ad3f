"""Devices: list, show, add one or many, remove, restore."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import msgspec
import structlog

from iot_core.alarms.lifecycle import list_alarms
from iot_core.api import shapes
from iot_core.api.alarms import alarm_shape
from iot_core.api.changes import changed
from iot_core.api.households import PUBLIC, require_publishing, withheld
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, delete, get, post
from iot_core.api.telemetry import latest_of
from iot_core.api.within import require_areas, require_devices, require_places, require_senders
from iot_core.errors import NotFoundError, RequestError, StoreUnavailable
from iot_core.messages import text
from iot_core.registry import device_edits, device_import, devices, found, maintenance
from iot_core.registry.area_changes import trial
from iot_core.registry.areas import names_above
from iot_core.store.connection import AWAY, RETRY

log = structlog.get_logger()

_BATCH_BYTES = 8 * 1024 * 1024
_REPLAY_S = 20.0
_LET_IN_S = 5.0
_OF_CLASSES = "SELECT EXISTS (SELECT FROM iot.device WHERE key = ANY($1) AND class_key = ANY($2))"
_EDITED = (
    "name", "area", "latitude", "longitude", "notes", "photos", "lifecycle", "gateway", "serial", "firmware",
    "warranty_until", "calibrated_at", "calibration_due",
)  # fmt: skip


async def list_devices(call: Call[shapes.DeviceQuery]) -> shapes.Devices:
    """Find devices by class, area, state and text; `total` counts all that match."""
    asked = call.query
    classes = call.services.profiles.classes
    if asked.class_key is not None and asked.class_key not in classes:
        raise NotFoundError("api.no_class", key=asked.class_key, choices=", ".join(sorted(classes)))
    wanted = found.Filter(
        class_key=asked.class_key, area=asked.area, state=asked.state, search=asked.search or "", within=call.areas
    )
    async with call.connection() as connection:
        items = await found.devices(connection, wanted, limit=asked.limit, after=asked.after)
        whole = asked.after is None and len(items) < asked.limit
        total = len(items) if whole else await found.count(connection, wanted)
    return shapes.Devices(items=tuple(device_shape(each) for each in items), total=total)


async def show(call: Call[NoQuery]) -> shapes.DeviceDetail:
    """Show one device with its units, latest values and open alarms."""
    key = call.path["key"]
    async with call.connection() as connection:
        device = await found.one(connection, key)
        detail = await found.detail(connection, key)
        hidden = bool(await withheld(call, connection, [(detail.id, device.class_key)], Action.DEVICES))
        latest = () if hidden else await latest_of(connection, call.services.profiles, detail.id, device.class_key)
        alarms = await list_alarms(connection, device_key=key)
        path, path_en = await names_above(connection, device.area) if device.area else ((), ())
        windows = await maintenance.listed(connection, device=key)
    rest = {name: getattr(detail, name) for name in _DETAILS}
    return shapes.DeviceDetail(
        **msgspec.structs.asdict(device_shape(device)),
        **rest,
        area_path=path,
        area_path_en=path_en,
        windows=tuple(msgspec.convert(each, shapes.Window, from_attributes=True) for each in windows),
        stored_once=_stored_once(detail, latest),
        units=tuple(msgspec.convert(unit, shapes.Unit, from_attributes=True) for unit in detail.units),
        latest=latest,
        withheld=hidden,
        alarms=tuple(alarm_shape(each, call.services.profiles, hidden=hidden) for each in alarms),
    )


async def add(call: Call[NoQuery], body: shapes.DeviceNew) -> shapes.DeviceAdded:
    """Add a device with its unit. Its secret is in this answer and nowhere else."""
    return (await _add(call, [body])).items[0]


async def add_batch(call: Call[NoQuery], body: shapes.DeviceBatch) -> shapes.DevicesAdded:
    """Add devices, all or none."""
    return await _add(call, body.devices)


async def remove(call: Call[NoQuery]) -> shapes.Device:
    """Retire a device and dismount its unit; its history stays."""
    key = call.path["key"]
    async with call.connection() as connection:
        await devices.remove(connection, key, by=call.who.name)
        return device_shape(await found.one(connection, key))


async def restore(call: Call[NoQuery], body: shapes.DeviceRestore) -> shapes.DeviceAdded:
    """Take a retired device back at the address it had; a conflict when somebody else is there now."""
    async with call.connection() as connection:
        added = await devices.restore(connection, call.path["key"], by=call.who.name, fresh_secret=body.fresh_secret)
    return (await told(call, [added])).items[0]


async def rows(call: Call[shapes.DeviceRowsQuery]) -> shapes.DeviceRows:
    """Give devices with all that a list of devices holds."""
    asked = call.query
    async with call.connection() as connection:
        found_rows = await found.full(connection, asked.where, after=asked.after, limit=asked.limit, within=call.areas)
    return shapes.DeviceRows(
        items=tuple(msgspec.convert({**row, "class": row["class_key"]}, shapes.DeviceFull) for row in found_rows)
    )


async def replace(call: Call[NoQuery], body: shapes.DeviceReplace) -> shapes.DeviceAdded:
    """Mount another unit at a device; history and alarms go on, the old secret dies."""
    async with call.connection() as connection:
        if call.areas is not None and body.address is not None:
            units = (await found.detail(connection, call.path["key"])).units
            model = body.profile or (units[0].profile if units else None)
            asked = devices.NewDevice(key=call.path["key"], profile=model, address=body.address)
            await require_senders(call, connection, [asked])
        added = await devices.replace_unit(
            connection, call.services.profiles, call.path["key"], by=call.who.name, **msgspec.structs.asdict(body)
        )
    return (await told(call, [added])).items[0]


async def edit(call: Call[NoQuery], body: shapes.DeviceEdit) -> shapes.Changed:
    """Change devices: those that a selector means, or those named."""
    if (body.where is None) is not bool(body.keys):
        raise RequestError("registry.which_devices")
    said = {name: value for name in _EDITED if (value := getattr(body, name)) is not msgspec.UNSET}
    fields = msgspec.to_builtins(said)  # days and lists as the audit keeps them
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        keys = body.keys if body.where is None else await device_edits.select(connection, body.where)
        await require_devices(call, connection, keys)
        if PUBLIC in body.add_labels and await _homes(call, connection, keys):
            require_publishing(call)
        if "area" in fields:
            await require_areas(call, connection, [fields["area"]])
        done = await device_edits.edit(
            connection, keys, fields, add_labels=body.add_labels, drop_labels=body.drop_labels, by=call.who.name
        )
    return changed(done, dry=body.dry_run)


async def import_(call: Call[NoQuery], body: shapes.DeviceImport) -> shapes.DevicesImported:
    """Add or bring up to date the devices of a list."""
    rows = [(each.row, _new(each)) for each in body.rows]
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        await require_places(call, connection, [(each.key, each.area) for _, each in rows])
        await _require_publishing(call, connection, [each for _, each in rows])
        await require_senders(call, connection, [each for _, each in rows])
        done = await device_import.import_(
            connection,
            call.services.profiles,
            rows,
            skip_bad=body.skip_bad or body.dry_run,
            by=call.who.name,
            dry=body.dry_run,
            before=frozenset(body.before) if body.dry_run else frozenset(),
        )
    if done.added and not body.dry_run:
        if not body.more:
            await let_in(call)
        await _replay(call, [each.address for each in done.added])
    return shapes.DevicesImported(
        added=tuple(
            shapes.SecretOnce(key=each.key, address=each.address, secret=None if body.dry_run else each.secret)
            for each in done.added
        ),
        changed=len(done.changes),
        unchanged=done.unchanged,
        problems=tuple(
            shapes.RowProblem(
                row=each.row, column=each.column, code=each.code, detail=text(each.code, call.lang, **each.facts)
            )
            for each in done.problems
        ),
        operations=() if body.dry_run else tuple(done.operations),
    )


async def _homes(call: Call[Any], connection: asyncpg.Connection, keys: Sequence[str]) -> bool:
    """Say whether one of these devices may be a household's."""
    homes = [key for key, each in call.services.profiles.classes.items() if each.household]
    return bool(await connection.fetchval(_OF_CLASSES, list(keys), homes))


async def _require_publishing(
    call: Call[Any], connection: asyncpg.Connection, rows: Sequence[devices.NewDevice]
) -> None:
    """Refuse households' meters with the label `public` from who may not see them."""
    labelled = [each for each in rows if PUBLIC in (each.labels or ())]
    profiles = call.services.profiles
    for each in labelled:
        with suppress(NotFoundError):
            key = each.class_key or (profiles.get(each.profile).class_key if each.profile else "")
            if key in profiles.classes and profiles.classes[key].household:
                require_publishing(call)
    if labelled and await _homes(call, connection, [each.key for each in labelled]):
        require_publishing(call)


def _new(row: shapes.DeviceRow) -> devices.NewDevice:
    said = msgspec.structs.asdict(row)
    del said["row"]
    return devices.NewDevice(**said)


async def _add(call: Call[NoQuery], new: Sequence[shapes.DeviceNew]) -> shapes.DevicesAdded:
    rows = [devices.NewDevice(**msgspec.structs.asdict(each)) for each in new]
    async with call.connection() as connection:
        await require_places(call, connection, [(each.key, each.area) for each in rows])
        await _require_publishing(call, connection, rows)
        await require_senders(call, connection, rows)
        added = await devices.add(connection, call.services.profiles, rows, by=call.who.name)
    return await told(call, added)


async def told(call: Call[Any], added: Sequence[devices.Added]) -> shapes.DevicesAdded:
    """Let the devices sign in, take up what waited in the inbox, then show the devices with their secrets."""
    await let_in(call)
    replayed = await _replay(call, [each.address for each in added])
    async with call.connection() as connection:
        keys = tuple(each.key for each in added)
        rows = {each.key: each for each in await found.devices(connection, found.Filter(keys=keys), limit=len(keys))}
    return shapes.DevicesAdded(
        items=tuple(
            shapes.DeviceAdded(
                device=device_shape(rows[each.key]),
                address=each.address,
                secret=each.secret,
                replayed=replayed.get(each.address, 0),
                operation=each.operation,
            )
            for each in added
        )
    )


async def let_in(call: Call[Any]) -> None:
    """Wait until the broker knows the new secrets; it will learn them anyway if that takes long."""
    if call.services.broker is not None:
        with suppress(TimeoutError, *AWAY):
            async with asyncio.timeout(_LET_IN_S):
                await call.services.broker.refresh()


async def _replay(call: Call[Any], addresses: Sequence[str]) -> dict[str, int]:
    """Run what waited through the path. The devices are added already: a failure here must not hide their secrets."""
    replayed: dict[str, int] = {}
    try:
        async with asyncio.timeout(_REPLAY_S):
            async with call.connection() as connection:
                waiting = await devices.waiting(connection, addresses)
            for address in waiting:
                replayed[address] = await call.services.replay_address(address)
    except (*AWAY, *RETRY, StoreUnavailable) as exc:
        log.warning("inbox.replay_failed", reason=type(exc).__name__, addresses=len(addresses))
    return replayed


def _stored_once(detail: found.Detail, latest: Sequence[shapes.Latest]) -> bool | None:
    """Tell whether a redelivery would be seen: by a number, or by the device's own time (arrival time is uncertain)."""
    if detail.numbered:
        return True
    if not latest:
        return None
    newest = max(latest, key=lambda each: each.time)
    return newest.quality is not shapes.QualityName.UNCERTAIN


def device_shape(device: found.Device) -> shapes.Device:
    """Give a device as it is shown."""
    return msgspec.convert(device, shapes.Device, from_attributes=True)


_DETAILS: Any = (
    "gateway", "labels", "notes", "photos", "commissioned_at", "created_at", "retired_at", "online_changed_at",
    "silent_since", "held",
)  # fmt: skip

routes = (
    get("/devices", list_devices, reach=Reach.OWN),
    post("/devices", add, Action.DEVICES, status=201, reach=Reach.OWN),
    post("/devices/batch", add_batch, Action.DEVICES, status=201, most=_BATCH_BYTES, reach=Reach.OWN),
    get("/devices/rows", rows, reach=Reach.OWN),
    get("/devices/{key}", show),
    delete("/devices/{key}", remove, Action.DEVICES),
    post("/devices/{key}/restore", restore, Action.DEVICES),
    post("/devices/{key}/replace", replace, Action.DEVICES),
    post("/devices/edit", edit, Action.DEVICES, most=_BATCH_BYTES, reach=Reach.OWN),
    post("/devices/import", import_, Action.DEVICES, most=_BATCH_BYTES, reach=Reach.OWN),
)
