"""Where alarms go: list, add, remove, send a test; what became of each message, and the proof of a day."""

from datetime import timedelta
from typing import Final

from iot_core.api import shapes
from iot_core.api.classes import require_classes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, delete, get, post
from iot_core.model import Title
from iot_core.push import receipts, targets
from iot_core.registry.audit import Change, record

_AUDITED: Final = (
    "kind", "url", "accepts_simulated", "min_severity", "format", "classes", "areas", "hours", "watchdog", "heartbeat_s"
)  # fmt: skip


async def list_(call: Call[NoQuery]) -> shapes.PushTargets:
    """List targets with their backlog and last error."""
    async with call.connection() as connection:
        found = await targets.list_targets(connection)
    return shapes.PushTargets(items=tuple(_shape(each, call.lang) for each in found))


async def add(call: Call[NoQuery], body: shapes.PushNew) -> shapes.PushAdded:
    """Add a target. Its secret is in this answer and nowhere else."""
    require_classes(call, body.classes)
    async with call.connection() as connection, connection.transaction():
        said = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("key", "url", "secret")}
        target, secret = await targets.add(
            connection,
            body.key,
            body.url,
            body.secret,
            allow_private=call.services.settings.push.allow_private,
            vault=call.services.vault,
            **said,
        )
        after = {name: getattr(target, name) for name in _AUDITED}
        await record(connection, call.who.name, "push.add", Change(f"push/{target.key}", after=after))
    return shapes.PushAdded(target=_shape(target, call.lang), secret=secret)


async def rotate(call: Call[NoQuery], body: shapes.PushRotate) -> shapes.PushRotated:
    """Give a webhook a new secret, beside which the old one goes on signing for a while."""
    key = call.path["key"]
    async with call.connection() as connection, connection.transaction():
        secret = await targets.rotate(
            connection, key, timedelta(hours=body.keep_h), body.secret, vault=call.services.vault
        )
        await record(connection, call.who.name, "push.rotate", Change(f"push/{key}", after={"keep_h": body.keep_h}))
    return shapes.PushRotated(secret=secret)


async def log(call: Call[shapes.PushLogQuery]) -> shapes.PushMessages:
    """List messages with their receipts, the newest first."""
    asked = call.query
    async with call.connection() as connection:
        if asked.target is not None:
            await targets.get_target(connection, asked.target)
        rows = await receipts.log(connection, asked.target, asked.alarm, asked.state, asked.limit)
    return shapes.PushMessages(
        items=tuple(
            shapes.PushMessage(
                **row, last_error_said=targets.said_failure(row["last_error"], call.lang) if row["last_error"] else None
            )
            for row in rows
        )
    )


async def retry(call: Call[NoQuery], body: shapes.PushRetry) -> shapes.PushRevived:
    """Bring dead letters back for another 24 hours."""
    async with call.connection() as connection, connection.transaction():
        count = await targets.revive(connection, body.target, body.message_id)
        subject = f"push/{body.target or '*'}"
        await record(connection, call.who.name, "push.retry", Change(subject, after={"messages": count}))
    return shapes.PushRevived(messages=count)


async def prove(call: Call[shapes.PushProveQuery]) -> shapes.PushProofs:
    """List each alarm of a civil day with when it was created, delivered, seen and acknowledged."""
    async with call.connection() as connection:
        rows = await receipts.prove(connection, call.query.day, call.services.settings.timezone)
    return shapes.PushProofs(
        items=tuple(
            shapes.PushProof(
                **{name: value for name, value in row.items() if name not in ("title_vi", "title_en")},
                title=Title(row["title_vi"], row["title_en"]),
            )
            for row in rows
        )
    )


async def remove(call: Call[NoQuery]) -> shapes.Nothing:
    """Stop sending to a target; what waits for it is given up."""
    key = call.path["key"]
    async with call.connection() as connection, connection.transaction():
        before = await targets.get_target(connection, key)
        await targets.remove(connection, key)
        await record(connection, call.who.name, "push.remove", Change(f"push/{key}", before={"url": before.url}))
    return shapes.Nothing()


async def test(call: Call[NoQuery]) -> shapes.PushTested:
    """Put a test message into the outbox."""
    key = call.path["key"]
    async with call.connection() as connection, connection.transaction():
        message_id = await targets.enqueue_test(connection, key)
        await record(connection, call.who.name, "push.test", Change(f"push/{key}", after={"message_id": message_id}))
    return shapes.PushTested(message_id=message_id)


def _shape(target: targets.Target, lang: str) -> shapes.PushTarget:
    return shapes.PushTarget(
        key=target.key,
        kind=target.kind,
        url=target.url,
        accepts_simulated=target.accepts_simulated,
        min_severity=target.min_severity,
        created_at=target.created_at,
        backlog=target.backlog,
        dead=target.dead,
        last_error=target.last_error,
        last_error_said=targets.said_failure(target.last_error, lang) if target.last_error else None,
        last_delivered_at=target.last_delivered_at,
        format=target.format,
        language=target.language,
        template=target.template,
        classes=tuple(target.classes),
        areas=tuple(target.areas),
        hours=target.hours,
        watchdog=target.watchdog,
        heartbeat_s=target.heartbeat_s,
        heartbeat_at=target.heartbeat_at,
        mtls=target.mtls,
    )


routes = (
    get("/push", list_, action=Action.PUSH),
    post("/push", add, Action.PUSH, status=201),
    delete("/push/{key}", remove, Action.PUSH),
    post("/push/{key}/test", test, Action.PUSH, status=202),
    post("/push/{key}/rotate", rotate, Action.PUSH),
    get("/push/log", log, action=Action.PUSH),
    post("/push/retry", retry, Action.PUSH),
    get("/push/prove", prove, action=Action.PUSH),
)
