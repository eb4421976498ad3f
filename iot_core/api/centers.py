"""Other centers: who they are, and `POST /alarms`, by which they send us their alarms, signed (Standard Webhooks)."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from iot_core.alarms import feeding
from iot_core.alarms.outside import Kind, Outside
from iot_core.alarms.outside import take as take_outside
from iot_core.api import shapes
from iot_core.api.problems import Unauthorized
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, delete, get, post
from iot_core.errors import NotFoundError, RequestError
from iot_core.model import Severity, Title
from iot_core.push.heartbeat import HEARTBEAT
from iot_core.push.watchdog import RECOVERED, STALLED
from iot_core.push.webhook import check_secret, new_secret
from iot_core.registry import centers
from iot_core.registry.audit import Change, record

_TYPES: Final = ("alarm.raised", "alarm.updated", "alarm.cleared", "alarm.acknowledged")
# A core that feeds us says more than a center needs to. What would be refused would hold up what follows it there.
_KINDS: Final = {
    "alarm.raised": Kind.RAISED, "alarm.reopened": Kind.RAISED, "alarm.updated": Kind.UPDATED,
    "alarm.severity": Kind.UPDATED, "alarm.cleared": Kind.CLEARED, "alarm.closed": Kind.CLEARED,
    "alarm.acknowledged": Kind.NOTED, "alarm.comment": Kind.NOTED, "alarm.shelved": Kind.NOTED,
    "alarm.escalated": Kind.NOTED, "alarm.open": Kind.NOTED,
}  # fmt: skip
_WATCH: Final = {STALLED: Kind.RAISED, RECOVERED: Kind.CLEARED}
_NO_ALARMS: Final = frozenset({"push.test", "audit.recorded"})
_LONGEST_NOTE: Final = 2_000


async def list_(call: Call[NoQuery]) -> shapes.Centers:
    """List the centers that send us alarms."""
    async with call.connection() as connection:
        found = await centers.list_(connection)
    return shapes.Centers(items=tuple(_shape(each) for each in found))


async def add(call: Call[NoQuery], body: shapes.CenterNew) -> shapes.CenterAdded:
    """Add a center. The secret that it signs with is in this answer and nowhere else."""
    secret = new_secret() if body.secret is None else check_secret(body.secret)
    async with call.connection() as connection, connection.transaction():
        made = await centers.add(connection, body.key, body.name, secret, body.area, vault=call.services.vault)
        after = {"name": made.name, "area": made.area}
        await record(connection, call.who.name, "center.add", Change(f"center/{made.key}", after=after))
    return shapes.CenterAdded(center=_shape(made), secret=secret)


async def remove(call: Call[NoQuery]) -> shapes.Nothing:
    """Stop taking a center's alarms; those that it has sent stay."""
    key = call.path["key"]
    async with call.connection() as connection, connection.transaction():
        await feeding.leave(connection, await centers.find(connection, key))
        await centers.remove(connection, key)
        await record(connection, call.who.name, "center.remove", Change(f"center/{key}"))
    return shapes.Nothing()


async def take(call: Call[shapes.CenterQuery], body: shapes.OutsideMessage) -> shapes.OutsideTaken:
    """Take another center's alarm: raised, updated or cleared there. A repeat changes nothing."""
    async with call.connection() as connection:
        center = await centers.find(connection, call.query.center)
        await connection.execute(centers.HEARD, center.id)
        if body.type in _NO_ALARMS:
            return shapes.OutsideTaken()
        if body.type == HEARTBEAT:
            if body.data.next_within_s is not None:
                await feeding.beat(connection, center, body.data.next_within_s)
            return shapes.OutsideTaken()
        if body.type in _WATCH:
            taken = await feeding.told(connection, center, body.data.parts, _of_watch(call, body))
        else:
            rule = body.data.alarm.rule if body.data.alarm is not None else None
            said = replace(_understood(call, body), body=await call.request.read())
            said = feeding.as_vital_sign(center, rule, said)
            taken = await take_outside(connection, center, said)
    return shapes.OutsideTaken(alarm=taken.alarm_id, ignored=taken.ignored)


async def _verified(call: Call[shapes.CenterQuery]) -> None:
    """Raise Unauthorized unless the bytes were signed with the center's secret within the last five minutes."""
    try:
        async with call.connection() as connection:
            center = await centers.find(connection, call.query.center)
        Webhook(call.services.vault.open_text(center.secret, f"center/{center.key}")).verify(
            await call.request.read(), dict(call.request.headers), json_parse=False
        )
    except (NotFoundError, WebhookVerificationError, ValueError):
        raise Unauthorized("center.unsigned") from None


def _of_watch(call: Call[Any], body: shapes.OutsideMessage) -> Outside:
    """Give what every part of a watch's message has in common."""
    return Outside(
        message_id=call.request.headers["webhook-id"][:100], kind=_WATCH[body.type], at=_at(body), ref="core",
        severity=Severity.CRITICAL, title=Title("", ""), via=body.data.origin.via if body.data.origin else (),
    )  # fmt: skip


def _at(body: shapes.OutsideMessage) -> datetime:
    if body.timestamp.tzinfo is None:
        raise RequestError("center.no_zone")
    return min(body.timestamp, datetime.now(UTC))


def _understood(call: Call[Any], body: shapes.OutsideMessage) -> Outside:
    kind = _KINDS.get(body.type)
    if kind is None:
        raise RequestError("center.bad_type", type=body.type, types=", ".join(_TYPES))
    alarm, device = body.data.alarm, body.data.device
    if alarm is None:
        raise RequestError("center.no_alarm")
    if body.type == "alarm.reopened" and alarm.state == "returned":
        kind = Kind.NOTED  # what was undone there is that somebody took it: it is over, here too
    value = None if alarm.value is None else float(alarm.value)
    return Outside(
        message_id=call.request.headers["webhook-id"][:200],
        kind=kind,
        at=_at(body),
        ref=str(alarm.id),
        severity=alarm.severity,
        title=alarm.title if isinstance(alarm.title, Title) else Title(alarm.title, alarm.title),
        metric=alarm.metric,
        value=value,
        exercise=alarm.simulated or alarm.test,
        note=_note(body.type, alarm),
        version=alarm.version,
        area=device.area if device else None,
        class_key=device.class_ if device else None,
        name=device.name if device else None,
        latitude=device.latitude if device else None,
        longitude=device.longitude if device else None,
        via=body.data.origin.via if body.data.origin else (),
    )


def _note(type_: str, alarm: shapes.OutsideAlarm) -> str:
    """Say in the history what somebody did there: `comment: Lan: two engines on their way`."""
    by = alarm.acknowledged_by if type_ == "alarm.acknowledged" else alarm.by
    return ": ".join(each for each in (type_.rpartition(".")[2], by, alarm.note) if each)[:_LONGEST_NOTE]


def _shape(center: centers.Center) -> shapes.Center:
    return shapes.Center(
        key=center.key, name=center.name, area=center.area, created_at=center.created_at, heard_at=center.heard_at
    )


routes = (
    get("/centers", list_, action=Action.PUSH),
    post("/centers", add, Action.PUSH, status=201),
    delete("/centers/{key}", remove, Action.PUSH),
    post("/alarms", take, None, proof=_verified),
)
