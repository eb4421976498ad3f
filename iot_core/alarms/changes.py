"""Changes of rules by people: checked before they are written, kept as versions, shown as they will hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.alarms.book import RULES, RuleBook, RuleRow, Scoped, effective, laid_over, reached, read_body, rows_of
from iot_core.alarms.watch import Knowledge
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import AlarmRule, DeviceClass

__all__ = ["book_with", "change_rule", "laid_there", "reach_of", "rows", "rules_at", "where_of"]

ENDED: Final = "UPDATE iot.alarm_rule SET ended_at = clock_timestamp() WHERE id = $1"
ADD: Final = """
INSERT INTO iot.alarm_rule (rule, class_key, area_id, label, device_id, body, version, by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
NOW: Final = """
SELECT id, body, version FROM iot.alarm_rule WHERE rule = $1 AND area_id IS NOT DISTINCT FROM $2
    AND label IS NOT DISTINCT FROM $3 AND device_id IS NOT DISTINCT FROM $4 AND ended_at IS NULL
"""
HOLDS: Final = """
WITH RECURSIVE up AS (
    SELECT id, parent_id FROM iot.area WHERE id = ANY($1)
    UNION SELECT area.id, area.parent_id FROM iot.area JOIN up ON area.id = up.parent_id
)
SELECT ARRAY(SELECT id FROM up) AS areas, ARRAY(SELECT id FROM iot.device WHERE area_id = ANY($1)) AS devices
"""
DEVICE: Final = """
WITH RECURSIVE up AS (
    SELECT a.id, a.parent_id, 0 AS steps FROM iot.area a JOIN iot.device d ON d.area_id = a.id WHERE d.key = $1
    UNION ALL SELECT a.id, a.parent_id, up.steps + 1 FROM iot.area a JOIN up ON a.id = up.parent_id WHERE up.steps < 32
)
SELECT d.id, d.class_key, d.labels, ARRAY(SELECT id FROM up ORDER BY steps DESC) AS areas
FROM iot.device d WHERE d.key = $1
"""

Where = tuple[int | None, str | None, int | None]
"""Area, label, device: at most one; none: the whole class."""


async def rows(connection: asyncpg.Connection, *, within: frozenset[int] | None = None) -> list[RuleRow]:
    """Give what holds now of what people changed; `within`: of what holds in these areas."""
    found = [RuleRow(**row) for row in await connection.fetch(RULES)]
    if within is None:
        return found
    there = await connection.fetchrow(HOLDS, list(within))
    return [
        each for each in found
        if (each.area_id is None or each.area_id in there["areas"])
        and (each.device_id is None or each.device_id in there["devices"])
    ]  # fmt: skip


async def where_of(connection: asyncpg.Connection, where: str) -> Where:
    """Read `area=hong-gai`, `label=old`, `device=lamp-7` or nothing. Raises RequestError, NotFoundError."""
    kind, _, name = where.partition("=")
    if not where:
        return None, None, None
    if kind == "label" and name:
        return None, name, None
    if kind not in {"area", "device"} or not name:
        raise RequestError("rule.bad_where", where=where)
    found: int | None = await connection.fetchval(f"SELECT id FROM iot.{kind} WHERE key = $1", name)
    if found is None:
        raise NotFoundError("registry.no_area" if kind == "area" else "registry.no_device", key=name)
    return (found, None, None) if kind == "area" else (None, None, found)


async def laid_there(connection: asyncpg.Connection, rule: str, where: Where) -> Mapping[str, Any] | None:
    """Give what people changed of a rule exactly there; None: nothing."""
    row = await connection.fetchrow(NOW, rule, *where)
    return None if row is None else row["body"]


async def change_rule(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    rule: str,
    where: Where,
    body: Mapping[str, Any] | None,
    *,
    by: str,
    version: int | None = None,
    apply: bool = True,
    classes: Collection[str] | None = None,
) -> tuple[AlarmRule | None, int]:
    """Lay a change over a rule, or end one (`body` None); give the rule as it will be there, and how many devices.

    Nothing is written unless `apply`. `classes`: all that there are.

    Raises ConfigError naming the key; ConflictError when `version` is not that now.
    """
    old = await connection.fetchrow(f"{NOW} FOR UPDATE" if apply else NOW, rule, *where)
    if version is not None and version != (old["version"] if old is not None else 0):
        raise ConflictError("rule.changed", rule=rule, version=old["version"] if old is not None else 0)
    if body is None and old is None:
        raise NotFoundError("rule.nothing_there", rule=rule)
    known = await rows(connection)
    others = [row for row in known if old is None or row.id != old["id"]]
    new = _row(rule, device_class.key, where, body or {}, by, (old["version"] if old else 0) + 1)
    name = rule.partition(".")[2]
    below = [row for row in others if row.everywhere and row.rule == rule]
    base = dict(device_class.rule_bodies.get(name, {}))
    laid = [*below, new] if body is not None else below
    found = None
    if base or laid:
        merged = base
        for row in laid:
            if row is new and (row.label or row.device_id) and (_over_devices(merged) or _over_devices(row.body)):
                raise RequestError("rule.over_devices", rule=rule)
            merged = laid_over(merged, row.body)
        names = frozenset((*(each.key.partition(".")[2] for each in device_class.rules), name))
        found = read_body(device_class, rule, merged, names, classes)
    devices = await connection.fetchval(
        "SELECT count(*) FROM iot.device WHERE class_key = $1 AND retired_at IS NULL", device_class.key
    )
    only = await reach_of(connection, rule, where)
    if only is not None:
        devices = len(only)
    if apply:
        if old is not None:
            await connection.execute(ENDED, old["id"])
        if body is not None:
            await connection.execute(ADD, rule, device_class.key, *where, dict(body), new.version, by)
    return found, devices


async def book_with(
    connection: asyncpg.Connection, profiles: Knowledge, rule: str, where: Where, body: Mapping[str, Any] | None
) -> RuleBook:
    """Give the rules as they would be with one more change; `body` None: as they are. Nothing is written."""
    book = RuleBook(profiles)
    await book.load(connection)
    if body is not None:
        class_key = rule.partition(".")[0]
        others = [
            row for row in book.rows if (row.rule, row.area_id, row.label, row.device_id) != (rule, *where)
        ]  # fmt: skip
        changed = [*others, _row(rule, class_key, where, body, "", 0)]
        book.lay(changed, await reached(connection, changed))
    return book


async def reach_of(connection: asyncpg.Connection, rule: str, where: Where) -> list[int] | None:
    """Give the devices that a change there reaches, None: all of the rule's class."""
    row = _row(rule, rule.partition(".")[0], where, {}, "", 0)
    if row.everywhere:
        return None
    return [one.id for one in await reached(connection, [row]) if rows_of([row], one)]


async def rules_at(
    connection: asyncpg.Connection, classes: Mapping[str, DeviceClass], device: str
) -> list[tuple[AlarmRule, list[RuleRow], bool]]:
    """Give a device's rules as they hold, each with the changes that made it so and whether it holds at all.

    A rule of the class that is switched off there comes last, as the class has it. Raises NotFoundError.
    """
    row = await connection.fetchrow(DEVICE, device)
    if row is None or row["class_key"] not in classes:
        raise NotFoundError("registry.no_device", key=device)
    stands = Scoped(row["id"], row["class_key"], row["labels"] or (), row["areas"])
    laid = rows_of(await rows(connection), stands)
    rules = effective(classes[row["class_key"]], laid)
    holding = {rule.key for rule in rules}
    off = [rule for rule in classes[row["class_key"]].rules if rule.key not in holding]
    return [(rule, [each for each in laid if each.rule == rule.key], rule.key in holding) for rule in (*rules, *off)]


def _over_devices(body: Mapping[str, Any]) -> bool:
    """Say whether a rule counts several devices: then it is no single one's."""
    return isinstance(body.get("when"), dict) and "devices" in body["when"]


def _row(  # noqa: PLR0917 - the columns of a change
    rule: str, class_key: str, where: Where, body: Mapping[str, Any], by: str, version: int
) -> RuleRow:
    area_id, label, device_id = where
    return RuleRow(
        id=0, rule=rule, class_key=class_key, body=body, version=version, by=by, created_at=datetime.now(UTC),
        area_id=area_id, label=label, device_id=device_id,
    )  # fmt: skip
