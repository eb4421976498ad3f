"""Held uplinks: searched by device, reason and time; one whole; run through the path again."""

from typing import Any, Final

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.api.households import require_household, withheld
from iot_core.api.inbox import shown
from iot_core.api.roles import Action, outside, where
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_devices
from iot_core.errors import NotFoundError, RequestError
from iot_core.ingest.replay import Selection, preview
from iot_core.messages import text
from iot_core.registry.audit import Change, record
from iot_core.registry.found import short

_SHOWN: Final = 2_000
_FACTS: Final = """
h.id, h.received_at, d.key AS device, h.driver, h.address, h.topic, h.kind, h.reason, h.detail, h.part, h.registers
"""
_WHERE: Final = """
($1::integer IS NULL OR h.device_id = $1) AND ($2::text IS NULL OR h.reason = $2)
AND ($3::timestamptz IS NULL OR h.received_at >= $3) AND ($4::timestamptz IS NULL OR h.received_at < $4)
AND ($5::integer[] IS NULL OR h.device_id IN (SELECT id FROM iot.device WHERE area_id = ANY($5)))
AND (h.device_id IS NULL OR NOT h.device_id = ANY($6))
"""
_HELD: Final = f"""
SELECT {_FACTS}, substring(h.payload FROM 1 FOR {_SHOWN}) AS payload
FROM iot.held_uplink h LEFT JOIN iot.device d ON d.id = h.device_id
WHERE {_WHERE} AND ($7::bigint IS NULL OR h.id < $7) ORDER BY h.id DESC LIMIT $8
"""
_COUNT: Final = f"SELECT count(*) FROM iot.held_uplink h WHERE {_WHERE}"
_OF_CLASSES: Final = """
SELECT id, class_key FROM iot.device d WHERE class_key = ANY($1)
    AND EXISTS (SELECT FROM iot.held_uplink h WHERE h.device_id = d.id)
"""
_ONE: Final = f"""
SELECT {_FACTS}, h.payload, h.content_format, h.retained, (
    SELECT array_agg(other.id ORDER BY other.id) FROM iot.held_uplink other
    WHERE other.message = h.message AND other.id <> h.id
) AS others
FROM iot.held_uplink h LEFT JOIN iot.device d ON d.id = h.device_id WHERE h.id = $1
"""


async def held(call: Call[shapes.HeldQuery]) -> shapes.HeldList:
    """List held uplinks, or parts of them, the newest first; `total` counts all that match."""
    asked = call.query
    async with call.reader() as connection:
        device = await short(connection, asked.device) if asked.device is not None else None
        reason = asked.reason.value if asked.reason else None
        wanted = (
            device.id if device else None,
            reason,
            asked.start,
            asked.end,
            None if call.areas is None else list(call.areas),
            list(await withheld(call, connection, await _homes(call, connection), Action.DEVICES)),
        )
        rows = await connection.fetch(_HELD, *wanted, asked.before, asked.limit)
        few = len(rows) < asked.limit and asked.before is None
        total = len(rows) if few else await connection.fetchval(_COUNT, *wanted)
    return shapes.HeldList(items=tuple(shapes.Held(**_facts(row, call.lang)) for row in rows), total=total)


async def one(call: Call[NoQuery]) -> shapes.HeldDetail:
    """Show one held row with its whole payload, and the other parts that are held of the same uplink."""
    wrong = NotFoundError("held.no_such", id=call.path["id"])
    number = call.number("id", wrong)
    async with call.reader() as connection:
        row = await connection.fetchrow(_ONE, number)
        if row is None:
            raise wrong
        if call.areas is not None and row["device"] is None:
            raise outside(call.who, Action.READ, "-")
        await require_devices(call, connection, [row["device"]])
        if row["device"] is not None:
            device = await short(connection, row["device"])
            await require_household(call, connection, (device.id, device.class_key), Action.DEVICES)
    return shapes.HeldDetail(
        **_facts(row, call.lang),
        content_format=row["content_format"],
        retained=row["retained"],
        hex=(row["payload"] or b"").hex(),
        others=tuple(row["others"] or ()),
    )


async def replay(call: Call[NoQuery], body: shapes.HeldReplay) -> shapes.HeldReplayed:
    """Run some held uplinks through the path again, replacing what is stored; go on with `after` until it is null.

    With `preview` nothing is done, and `reasons` counts what would be. What is still wrong is held again, once.
    """
    if body.device is None and body.reason is None and body.ids is None and not body.all:
        raise RequestError("held.choose")
    async with call.connection() as connection:
        device = await short(connection, body.device) if body.device is not None else None
        if call.areas is not None:
            if device is None:
                raise outside(call.who, Action.DEVICES, "*")
            await require_devices(call, connection, [device.key])
        newest: int = await connection.fetchval("SELECT coalesce(max(id), 0) FROM iot.held_uplink")
        selection = Selection(
            until=newest if body.until is None else body.until,
            device_id=device.id if device else None,
            reason=body.reason,
            ids=body.ids,
        )
        if body.preview:
            found = await preview(connection, selection)
            reasons = tuple(
                shapes.HeldCount(
                    reason=reason.value,
                    said=text(f"held.{reason.value}", call.lang, detail=""),
                    parts=parts,
                    uplinks=uplinks,
                )
                for reason, (parts, uplinks) in found.items()
            )
            return shapes.HeldReplayed(until=selection.until, reasons=reasons)
        if body.after == 0:
            said = msgspec.to_builtins(body)
            await record(connection, call.who.name, "held.replay", Change("held", None, said))
    step = await call.services.replay_held(selection, body.after)
    return shapes.HeldReplayed(
        until=selection.until, after=step.last, uplinks=step.uplinks, stored=step.stored, held=step.held
    )


async def _homes(call: Call[Any], connection: asyncpg.Connection) -> list[tuple[int, str]]:
    """Give the devices of which something is held and that may be households'."""
    if where(call.who, Action.DEVICES) is None or where(call.who, Action.HOUSEHOLD) is None:
        return []
    homes = [key for key, each in call.services.profiles.classes.items() if each.household]
    return [(row["id"], row["class_key"]) for row in await connection.fetch(_OF_CLASSES, homes)]


def _facts(row: asyncpg.Record, lang: str) -> dict[str, Any]:
    said = text(f"held.{row['reason']}", lang, detail=row["detail"])
    facts = {key: row[key] for key in shapes.Held.__struct_fields__ if key not in {"said", "payload"}}
    return {**facts, "payload": shown(row["payload"]), "said": said}


routes = (
    get("/held", held, reach=Reach.OWN),
    get("/held/{id}", one, reach=Reach.OWN),
    post("/held/replay", replay, Action.DEVICES, reach=Reach.OWN),
)
