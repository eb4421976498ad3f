"""Alarms: list, show with history, acknowledge."""

from collections.abc import Container, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import msgspec

from iot_core.alarms.alarm import AlarmEvent, AlarmRow, EventKind
from iot_core.alarms.changes import rules_at
from iot_core.alarms.deeds import Asked, Deed, act
from iot_core.alarms.figures import handover, kpis
from iot_core.alarms.lifecycle import (
    AlarmPush,
    acknowledge,
    count_alarms,
    get_alarm,
    list_alarms,
    silent_children,
)
from iot_core.alarms.say import say
from iot_core.api import shapes
from iot_core.api.households import withheld
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.trace import trace
from iot_core.api.within import require_devices
from iot_core.errors import NotFoundError
from iot_core.model import AlarmRule, Comparison, MetricType, Title
from iot_core.profiles import Profiles
from iot_core.push.receipts import note_seen
from iot_core.push.targets import said_failure
from iot_core.registry.audit import Change, record
from iot_core.registry.found import short


async def list_(call: Call[shapes.AlarmQuery]) -> shapes.Alarms:
    """List open alarms, the most urgent first, or all, the newest first; `total` counts all that match."""
    asked = call.query
    async with call.connection() as connection:
        if asked.device is not None:
            await short(connection, asked.device)
            await require_devices(call, connection, [asked.device])
        rows = await list_alarms(
            connection, open_only=asked.open, device_key=asked.device, limit=asked.limit, within=call.areas,
            incident=asked.incident, quiet=asked.quiet,
        )  # fmt: skip
        total = len(rows)
        if total == asked.limit:
            total = await count_alarms(
                connection, open_only=asked.open, device_key=asked.device, within=call.areas,
                incident=asked.incident, quiet=asked.quiet,
            )  # fmt: skip
        hidden = await _homes(call, connection, rows)
    items = (alarm_shape(row, call.services.profiles, hidden=row.device_id in hidden) for row in rows)
    return shapes.Alarms(items=tuple(items), total=total)


async def show(call: Call[NoQuery]) -> shapes.AlarmDetail:
    """Show an alarm with its history and what became of its messages."""
    profiles = call.services.profiles
    async with call.connection() as connection:
        found = await get_alarm(connection, _id(call))
        await note_seen(connection, [found.alarm.id], call.who.name)
        rule = await _rule(connection, found.alarm, call) if found.alarm.metric is None else None
        silent = rule is not None and rule.comparison is Comparison.SILENT
        children = await silent_children(connection, found.alarm) if silent else ()
        hidden = bool(await _homes(call, connection, [found.alarm]))
    return shapes.AlarmDetail(
        **msgspec.structs.asdict(alarm_shape(found.alarm, profiles, hidden=hidden)),
        events=tuple(_event(each, found.alarm, profiles, hidden=hidden) for each in found.events),
        pushes=tuple(_push(each, call.lang) for each in found.pushes),
        children=children,
        runbook=found.alarm.runbook or _runbook(found.alarm, profiles),
    )


async def way(call: Call[NoQuery]) -> shapes.AlarmTrace:
    """Tell an alarm's whole way in the order of time, from the reading that raised it to the receipts."""
    async with call.reader() as connection:
        found = await get_alarm(connection, _id(call))
        alarm = found.alarm
        hidden = bool(await _homes(call, connection, [alarm]))  # a reading of a household is for who may see it
        known = alarm.class_key in call.services.profiles.classes and not hidden
        rule = await _rule(connection, alarm, call)
        said = None if rule is None else say(rule, call.lang)
        of_metric = partial(typed, row=alarm, profiles=call.services.profiles, hidden=hidden)
        return await trace(connection, alarm.id, known=known, rule=said, typed=of_metric)


async def _homes(call: Call[Any], connection: asyncpg.Connection, rows: Sequence[AlarmRow]) -> Container[int | None]:
    """Name the devices of these alarms that are households' and whose readings the asker may not see."""
    devices = [(row.device_id, row.class_key or "") for row in rows if row.device_id is not None]
    return await withheld(call, connection, devices, Action.DEVICES)


async def _rule(connection: asyncpg.Connection, alarm: AlarmRow, call: Call[NoQuery]) -> AlarmRule | None:
    """Give the alarm's rule as it holds at its device now."""
    classes = call.services.profiles.classes
    if alarm.device_key is not None and alarm.class_key in classes:
        rules = [rule for rule, *_ in await rules_at(connection, classes, alarm.device_key)]
    else:
        rules = [rule for each in classes.values() for rule in each.rules]
    return next((rule for rule in rules if rule.key == alarm.rule), None)


async def do(call: Call[NoQuery], body: shapes.AlarmDeed) -> shapes.AlarmDone:
    """Assign, comment, shelve, take out of service, close with its cause, reopen; or undo the last such deed."""
    alarm_id = _id(call)
    asked = Asked(
        deed=Deed(body.do), by=call.who.name, now=datetime.now(UTC), version=body.version, note=body.note, to=body.to,
        until=body.until,
    )  # fmt: skip
    async with call.connection() as connection, connection.transaction():
        before = (await get_alarm(connection, alarm_id)).alarm
        row = await act(connection, alarm_id, asked)
        await note_seen(connection, [alarm_id], call.who.name)
        after = {"state": row.state, "assigned_to": row.assigned_to, "note": body.note}
        change = Change(f"alarm/{alarm_id}", {"state": before.state, "assigned_to": before.assigned_to}, after)
        await record(connection, call.who.name, f"alarm.{body.do}", change)
        events = (await get_alarm(connection, alarm_id)).events if asked.deed is Deed.UNDO else ()
    undone: Any = next((each.note for each in reversed(events) if each.kind is EventKind.UNDONE), None)
    return shapes.AlarmDone(**msgspec.structs.asdict(alarm_shape(row, call.services.profiles)), undone=undone)


async def kpi(call: Call[shapes.KpiQuery]) -> shapes.AlarmKpi:
    """Give the figures by which an alarm system is judged."""
    now = datetime.now(UTC)
    async with call.reader() as connection:
        found = await kpis(connection, call.query.since or now - timedelta(days=30), now)
    return msgspec.convert(found, shapes.AlarmKpi)


async def hand_over(call: Call[NoQuery], body: shapes.HandoverNew) -> shapes.Handover:
    """Hand a shift over: the report is kept, with who had seen what."""
    async with call.connection() as connection, connection.transaction():
        made = await handover(connection, by=call.who.name, to=body.to, since=body.since, note=body.note)
        await record(
            connection, call.who.name, "alarm.handover", Change(f"handover/{made['id']}", None, {"to": body.to})
        )
    return msgspec.convert(made, shapes.Handover)


def _runbook(row: AlarmRow, profiles: Profiles) -> Title | None:
    """Give what the rule says today, for an alarm that was raised when it said nothing."""
    device_class = profiles.classes.get(row.rule.partition(".")[0])
    rules = device_class.rules if device_class is not None else ()
    return next((rule.runbook for rule in rules if rule.key == row.rule), None)


async def take(call: Call[NoQuery], body: shapes.Acknowledge) -> shapes.Acknowledged:
    """Acknowledge an alarm; doing it again changes nothing, and the answer says whose it was `already`."""
    alarm_id = _id(call)
    async with call.connection() as connection, connection.transaction():
        before = (await get_alarm(connection, alarm_id)).alarm
        now = datetime.now(UTC)
        row = await acknowledge(connection, alarm_id, by=call.who.name, version=body.version, now=now)
        await note_seen(connection, [alarm_id], call.who.name)
        already = row.acknowledged_at != now  # not `before`: another may have taken it since
        if not already:
            await record(
                connection, call.who.name, "alarm.acknowledge",
                Change(f"alarm/{alarm_id}", {"state": before.state}, {"state": row.state}),
            )  # fmt: skip
    return shapes.Acknowledged(**msgspec.structs.asdict(alarm_shape(row, call.services.profiles)), already=already)


def alarm_shape(row: AlarmRow, profiles: Profiles, *, hidden: bool = False) -> shapes.Alarm:
    """Give an alarm as it is shown; `hidden`: to somebody who may not see what the household uses."""
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
        area_name=row.area_name,
        area_name_en=row.area_name_en,
        latitude=row.latitude,
        longitude=row.longitude,
        metric=row.metric,
        value=typed(row.value, row, profiles, hidden=hidden),
        threshold=typed(row.threshold, row, profiles),
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
        assigned_to=row.assigned_to,
        cause=row.cause,
        shelved_until=row.shelved_until,
        shelved_by=row.shelved_by,
        shelved_reason=row.shelved_reason,
        suppressed_by=row.suppressed_by,
        incident=row.incident_id,
        members=row.members,
        test=row.test,
    )


def typed(value: float | None, row: AlarmRow, profiles: Profiles, *, hidden: bool = False) -> float | bool | None:
    """Give a number of an alarm, where truth is kept as 1 and 0, the type of its metric back.

    A number that is `hidden` is None; truth says no more than that there is an alarm.
    """
    device_class = profiles.classes.get(row.class_key or "")
    metric = device_class.metric(row.metric) if device_class is not None and row.metric is not None else None
    if value is not None and metric is not None and metric.type is MetricType.BOOL:
        return bool(value)
    return None if hidden else value


def _event(event: AlarmEvent, row: AlarmRow, profiles: Profiles, *, hidden: bool) -> shapes.AlarmEvent:
    plain = msgspec.convert(event, shapes.AlarmEvent, from_attributes=True)
    return msgspec.structs.replace(plain, value=typed(event.value, row, profiles, hidden=hidden))


def _push(push: AlarmPush, lang: str) -> shapes.AlarmPush:
    said = said_failure(push.last_error, lang) if push.last_error else None
    return shapes.AlarmPush(
        target=push.target,
        type=push.type,
        created_at=push.created_at,
        attempts=push.attempts,
        last_status=push.last_status,
        last_error=push.last_error,
        last_error_said=said,
        delivered_at=push.delivered_at,
        dead_at=push.dead_at,
    )


def _id(call: Call[NoQuery]) -> int:
    return call.number("id", NotFoundError("alarm.not_found", id=call.path["id"]))


routes = (
    get("/alarms", list_, reach=Reach.OWN),
    get("/alarms/kpi", kpi),
    post("/alarms/handover", hand_over, Action.ACKNOWLEDGE),
    get("/alarms/{id}", show),
    get("/alarms/{id}/trace", way),
    post("/alarms/{id}/do", do, Action.ACKNOWLEDGE),
    post("/alarms/{id}/acknowledge", take, Action.ACKNOWLEDGE),
)
