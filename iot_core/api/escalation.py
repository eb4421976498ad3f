"""Escalation chains and the holidays that hours follow."""

from datetime import date

from iot_core.api import shapes
from iot_core.api.classes import require_classes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, delete, get, post
from iot_core.errors import NotFoundError
from iot_core.push import chains
from iot_core.push.chain import Step, check
from iot_core.registry.audit import Change, record


async def list_(call: Call[NoQuery]) -> shapes.Escalations:
    """List the chains."""
    async with call.connection() as connection:
        rows = await chains.list_(connection)
    return shapes.Escalations(
        items=tuple(
            shapes.Escalation(**{**row, "steps": tuple(shapes.EscalationStep(**step) for step in row["steps"])})
            for row in rows
        )
    )


async def add(call: Call[NoQuery], body: shapes.EscalationNew) -> shapes.Nothing:
    """Add a chain; it begins with the alarms that are raised from now on."""
    steps = [Step(after_s=step.after_s, target=step.target, hours=step.hours) for step in body.steps]
    chain = check(steps, body.repeat_s, body.remind)
    require_classes(call, body.classes)
    async with call.connection() as connection, connection.transaction():
        await chains.add(
            connection, body.key, chain, min_severity=body.min_severity, classes=body.classes, areas=body.areas,
            hours=body.hours, accepts_simulated=body.accepts_simulated,
        )  # fmt: skip
        after = {"steps": [f"{step.after_s} s: {step.target}" for step in steps], "repeat_s": body.repeat_s}
        await record(connection, call.who.name, "escalation.add", Change(f"escalation/{body.key}", after=after))
    return shapes.Nothing()


async def remove(call: Call[NoQuery]) -> shapes.Nothing:
    """Remove a chain."""
    key = call.path["key"]
    async with call.connection() as connection, connection.transaction():
        await chains.remove(connection, key)
        await record(connection, call.who.name, "escalation.remove", Change(f"escalation/{key}"))
    return shapes.Nothing()


async def holidays(call: Call[NoQuery]) -> shapes.Holidays:
    """List the holidays."""
    async with call.connection() as connection:
        rows = await chains.holidays(connection)
    return shapes.Holidays(items=tuple(shapes.Holiday(**row) for row in rows))


async def add_holiday(call: Call[NoQuery], body: shapes.HolidayNew) -> shapes.Nothing:
    """Note a holiday."""
    async with call.connection() as connection, connection.transaction():
        await chains.add_holiday(connection, body.day, body.name)
        change = Change(f"holiday/{body.day}", after={"name": body.name})
        await record(connection, call.who.name, "holiday.add", change)
    return shapes.Nothing()


async def remove_holiday(call: Call[NoQuery]) -> shapes.Nothing:
    """Forget a holiday."""
    try:
        day = date.fromisoformat(call.path["day"])
    except ValueError as exc:
        raise NotFoundError("chain.no_holiday", day=call.path["day"]) from exc
    async with call.connection() as connection, connection.transaction():
        await chains.remove_holiday(connection, day)
        await record(connection, call.who.name, "holiday.remove", Change(f"holiday/{day}"))
    return shapes.Nothing()


routes = (
    get("/escalations", list_, action=Action.PUSH),
    post("/escalations", add, Action.PUSH, status=201),
    delete("/escalations/{key}", remove, Action.PUSH),
    get("/holidays", holidays, action=Action.PUSH),
    post("/holidays", add_holiday, Action.PUSH, status=201),
    delete("/holidays/{day}", remove_holiday, Action.PUSH),
)
