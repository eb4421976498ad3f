"""A message is claimed by the index of what is open, however many lie delivered, and with figures of an empty table."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from iot_core.push.outbox import CLAIM
from iot_core.push.targets import add

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

ALARM = """
INSERT INTO iot.alarm (source_kind, source_id, rule, severity, title_vi, title_en, raised_at, received_at)
SELECT 'area', n, 'tank.high', 'high', 'a', 'a', now(), now() FROM generate_series(1, $1::integer) n
"""
FILL = """
INSERT INTO iot.outbox (target_id, alarm_id, message_id, body, delivered_at)
SELECT $1, a.id, 'm-' || n || '-' || a.id, '{}', CASE WHEN n <= $2 THEN now() END
FROM iot.alarm a, generate_series(1, $2 + $3::integer) n
"""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


async def test_claiming_reads_what_is_open_by_index(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        target, _ = await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
        await connection.execute("ANALYZE iot.outbox")  # as of a young database: the planner knows of no rows
        await connection.execute(ALARM, 200)
        await connection.execute(FILL, target.id, 20, 1)
        for _ in range(2):
            found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {CLAIM}", target.id, 64, timedelta(seconds=60), 9)
            every = list(nodes(json.loads(found)[0]["Plan"]))
            of_outbox = {each["Node Type"] for each in every if each.get("Relation Name") == "outbox"}
            assert "Seq Scan" not in of_outbox
            # The message that goes first of an alarm is looked for among the open ones, not in its whole history.
            assert {each.get("Index Name") for each in every} & {"outbox_heads"}
            await connection.execute("ANALYZE iot.outbox")
