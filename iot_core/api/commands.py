"""Commands: send one and wait, order many, look at them, confirm, cancel."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_devices
from iot_core.commanding import Commanding, Wanted
from iot_core.errors import CommandRejected, NotFoundError, RequestError
from iot_core.messages import text
from iot_core.model import CommandState
from iot_core.registry import commands
from iot_core.registry.commands import CommandRow
from iot_core.registry.found import short
from iot_core.registry.selector import known, parse, where

_MOST: Final = 100_000
_SAMPLE: Final = 10


async def send(call: Call[NoQuery], body: shapes.CommandNew) -> shapes.CommandSent:
    """Send a command to a device now, or not at all, and say how far it came.

    `sent`: it left for the device. `delivered`: the device confirmed that it has it. `succeeded` and `failed` are the
    device's own word, or what its registers read as afterwards, when that comes within `wait_s`.
    """
    key = call.path["key"]
    async with call.connection() as connection:
        device = await short(connection, key)
    row = await _commanding(call, key).send(
        device.key, body.name, body.params, wait_s=body.wait_s, by=call.who.name, by_user=call.who.user_id
    )
    return shapes.CommandSent(
        id=row.id, device=device.key, name=body.name, state=CommandState(row.state), detail=row.detail
    )


async def order(call: Call[NoQuery], body: shapes.OrderNew) -> shapes.CommandOrder:
    """Keep a command for one device, a list or a selector; it is sent as soon as each device can be told."""
    async with call.connection() as connection:
        keys = await meant(call, connection, body)
    if body.dry:
        return shapes.CommandOrder(
            number=None, name=body.name, params=body.params, selector=body.where or "", total=len(keys), states={},
            by=call.who.name, devices=tuple(keys[:_SAMPLE]),
        )  # fmt: skip
    asked = Wanted(
        name=body.name, params=body.params, by=call.who.name, by_user=call.who.user_id, selector=body.where or "",
        ttl=None if body.ttl_s is None else timedelta(seconds=body.ttl_s), tries=body.tries, rate=body.rate,
        stop_after=body.stop_after, idempotency_key=body.idempotency_key,
    )  # fmt: skip
    number, new = await _commanding(call, keys[0]).order(asked, keys)
    async with call.connection() as connection:
        return order_shape(await commands.get_order(connection, number), repeated=not new)


async def list_(call: Call[shapes.CommandsQuery]) -> shapes.Commands:
    """List commands, the newest first."""
    asked = call.query
    async with call.connection() as connection:
        if asked.device is not None:
            await short(connection, asked.device)
        rows = await commands.list_commands(
            connection, device=asked.device, order_id=asked.order, state=asked.state, open_only=asked.open,
            limit=asked.limit, areas=None if call.areas is None else sorted(call.areas),
        )  # fmt: skip
    return shapes.Commands(items=tuple(shape(row, call.lang) for row in rows))


async def show(call: Call[NoQuery]) -> shapes.Command:
    """Show one command."""
    number = call.number("id", NotFoundError("command.not_found", id=call.path["id"]))
    async with call.connection() as connection:
        found = await commands.get(connection, number)
        await require_devices(call, connection, [found.device])
    return shape(found, call.lang)


async def cancel(call: Call[NoQuery]) -> shapes.CommandsCancelled:
    """Cancel a command that has not left yet."""
    number = call.number("id", NotFoundError("command.not_found", id=call.path["id"]))
    async with call.connection() as connection:
        found = await commands.get(connection, number)
        await require_devices(call, connection, [found.device])
        return await _cancelled(connection, [found], call.who.name)


async def show_order(call: Call[NoQuery]) -> shapes.CommandOrder:
    """Show an order, and how many of its commands are in which state."""
    number = _number(call)
    async with call.connection() as connection:
        await _require_order(call, connection, number)
        return order_shape(await commands.get_order(connection, number))


async def confirm(call: Call[NoQuery]) -> shapes.CommandOrder:
    """Confirm an order as the second person, where its class wants two."""
    number = _number(call)
    async with call.connection() as connection:
        await _require_order(call, connection, number)
        await commands.confirm(connection, number, by=call.who.name, by_user=call.who.user_id)
        return order_shape(await commands.get_order(connection, number))


async def cancel_order(call: Call[NoQuery]) -> shapes.CommandsCancelled:
    """Cancel those of an order's commands that have not left yet."""
    number = _number(call)
    async with call.connection() as connection:
        await commands.get_order(connection, number)
        await _require_order(call, connection, number)
        rows = await commands.list_commands(connection, order_id=number, open_only=True, limit=_MOST)
        return await _cancelled(connection, rows, call.who.name)


def shape(row: CommandRow, lang: str) -> shapes.Command:
    """Give a command as it is shown."""
    plain: dict[str, Any] = msgspec.structs.asdict(row)
    problem, number = plain.pop("problem"), plain.pop("order_id")
    said = None if problem is None else text(problem["code"], lang, **problem["facts"])
    return shapes.Command(**(plain | {"order": number, "state": CommandState(row.state), "said": said}))


async def _require_order(call: Call[Any], connection: asyncpg.Connection, number: int) -> None:
    """Refuse an order of which a device stands where the asker has no right."""
    if call.areas is not None:
        rows = await commands.list_commands(connection, order_id=number, limit=_MOST)
        await require_devices(call, connection, [row.device for row in rows])


async def _cancelled(connection: asyncpg.Connection, rows: Sequence[CommandRow], by: str) -> shapes.CommandsCancelled:
    ids = await commands.cancel(connection, [row.id for row in rows], by=by)
    on_their_way = [row for row in rows if row.ended_at is None and row.id not in ids]
    return shapes.CommandsCancelled(ids=tuple(ids), left=len(on_their_way))


async def meant(
    call: Call[Any], connection: asyncpg.Connection, body: shapes.OrderNew | shapes.SecretsRotate
) -> list[str]:
    """List the devices of a request that names some or selects them. Refuses those elsewhere, and nobody at all."""
    if (body.devices is None) == (body.where is None):
        raise RequestError("command.whom")
    keys = list(dict.fromkeys(body.devices)) if body.devices is not None else await _selected(connection, body.where)
    if not keys:
        raise RequestError("command.nobody", selector=body.where or "-")
    await require_devices(call, connection, keys)
    return keys


async def _selected(connection: asyncpg.Connection, selector: str | None) -> list[str]:
    terms = parse(selector or "")
    await known(connection, terms)
    condition, values = where(terms)
    found = (
        f"SELECT d.key FROM iot.device d WHERE d.retired_at IS NULL AND {condition} ORDER BY d.key LIMIT {_MOST + 1}"
    )
    keys = [row["key"] for row in await connection.fetch(found, *values)]
    if len(keys) > _MOST:
        raise RequestError("read.too_many", most=_MOST)
    return keys


def order_shape(found: commands.Order, *, repeated: bool = False) -> shapes.CommandOrder:
    """Give an order as it is shown."""
    return shapes.CommandOrder(
        number=found.id, name=found.name, params=found.params, selector=found.selector,
        total=sum(found.states.values()), states=found.states, by=found.by, created_at=found.created_at,
        rate=found.rate, stop_after=found.stop_after, stopped_at=found.stopped_at,
        second_person=found.second_person, confirmed_by=found.confirmed_by, repeated=repeated,
    )  # fmt: skip


def _number(call: Call[NoQuery]) -> int:
    return call.number("id", NotFoundError("command.no_order", id=call.path["id"]))


def _commanding(call: Call[NoQuery], key: str) -> Commanding:
    if call.services.commanding is None:
        raise CommandRejected("command.no_driver", device=key, protocol="-")
    return call.services.commanding


routes = (
    post("/devices/{key}/commands", send, Action.COMMAND),
    post("/commands", order, Action.COMMAND, most=1024 * 1024, reach=Reach.OWN),
    get("/commands", list_, reach=Reach.OWN),
    get("/commands/{id}", show, reach=Reach.OWN),
    post("/commands/{id}/cancel", cancel, Action.COMMAND, reach=Reach.OWN),
    get("/command-orders/{id}", show_order, reach=Reach.OWN),
    post("/command-orders/{id}/confirm", confirm, Action.COMMAND, reach=Reach.OWN),
    post("/command-orders/{id}/cancel", cancel_order, Action.COMMAND, reach=Reach.OWN),
)
