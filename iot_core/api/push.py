"""Where alarms go: list, add, remove, send a test."""

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, delete, get, post
from iot_core.push import targets
from iot_core.registry.audit import Change, record


async def list_(call: Call[NoQuery]) -> shapes.PushTargets:
    """List targets with their backlog and last error."""
    async with call.connection() as connection:
        found = await targets.list_targets(connection)
    return shapes.PushTargets(items=tuple(_shape(each, call.lang) for each in found))


async def add(call: Call[NoQuery], body: shapes.PushNew) -> shapes.PushAdded:
    """Add a webhook. Its secret is in this answer and nowhere else."""
    async with call.connection() as connection, connection.transaction():
        target, secret = await targets.add(
            connection, body.key, body.url, body.secret,
            accepts_simulated=body.accepts_simulated, min_severity=body.min_severity,
            allow_private=call.services.settings.push.allow_private,
        )  # fmt: skip
        after = {"url": target.url, "accepts_simulated": target.accepts_simulated, "min_severity": target.min_severity}
        await record(connection, call.who.name, "push.add", Change(f"push/{target.key}", after=after))
    return shapes.PushAdded(target=_shape(target, call.lang), secret=secret)


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
    )


routes = (
    get("/push", list_, action=Action.PUSH),
    post("/push", add, Action.PUSH, status=201),
    delete("/push/{key}", remove, Action.PUSH),
    post("/push/{key}/test", test, Action.PUSH, status=202),
)
