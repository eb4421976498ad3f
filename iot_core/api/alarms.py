"""Alarms: list, show with history, acknowledge."""

import msgspec

from iot_core.alarms.alarm import AlarmRow
from iot_core.alarms.lifecycle import acknowledge, get_alarm, list_alarms
from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, get, post
from iot_core.errors import NotFoundError
from iot_core.registry.audit import Change, record
from iot_core.registry.found import short


async def list_(call: Call[shapes.AlarmQuery]) -> shapes.Alarms:
    """List open alarms, the most urgent first, or all, the newest first."""
    asked = call.query
    async with call.connection() as connection:
        if asked.device is not None:
            await short(connection, asked.device)
        rows = await list_alarms(connection, open_only=asked.open, device_key=asked.device, limit=asked.limit)
    return shapes.Alarms(items=tuple(alarm_shape(row) for row in rows))


async def show(call: Call[NoQuery]) -> shapes.AlarmDetail:
    """Show an alarm with its history and what became of its messages."""
    async with call.connection() as connection:
        found = await get_alarm(connection, _id(call))
    return shapes.AlarmDetail(
        **msgspec.structs.asdict(alarm_shape(found.alarm)),
        events=tuple(msgspec.convert(each, shapes.AlarmEvent, from_attributes=True) for each in found.events),
        pushes=tuple(msgspec.convert(each, shapes.AlarmPush, from_attributes=True) for each in found.pushes),
    )


async def take(call: Call[NoQuery], body: shapes.Acknowledge) -> shapes.Alarm:
    """Acknowledge an alarm; doing it again changes nothing."""
    alarm_id = _id(call)
    async with call.connection() as connection, connection.transaction():
        before = (await get_alarm(connection, alarm_id)).alarm
        row = await acknowledge(connection, alarm_id, by=call.who.name, version=body.version)
        if row.version != before.version:
            await record(
                connection, call.who.name, "alarm.acknowledge",
                Change(f"alarm/{alarm_id}", {"state": before.state}, {"state": row.state}),
            )  # fmt: skip
    return alarm_shape(row)


def alarm_shape(row: AlarmRow) -> shapes.Alarm:
    """Give an alarm as it is shown."""
    return shapes.Alarm(
        id=row.id,
        rule=row.rule,
        severity=row.severity,
        state=shapes.AlarmState(row.state),
        title=row.title,
        device=row.device_key,
        device_name=row.device_name,
        class_key=row.class_key,
        area=row.area_key,
        latitude=row.latitude,
        longitude=row.longitude,
        metric=row.metric,
        value=row.value,
        threshold=row.threshold,
        latched=row.latched,
        late=row.late,
        simulated=row.simulated,
        raised_at=row.raised_at,
        received_at=row.received_at,
        cleared_at=row.cleared_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        closed_at=row.closed_at,
        version=row.version,
    )


def _id(call: Call[NoQuery]) -> int:
    return call.number("id", NotFoundError("alarm.not_found", id=call.path["id"]))


routes = (
    get("/alarms", list_),
    get("/alarms/{id}", show),
    post("/alarms/{id}/acknowledge", take, Action.ACKNOWLEDGE),
)
