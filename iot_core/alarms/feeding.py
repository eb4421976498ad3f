"""Cores that feed us: what stands still there, and that one is not heard any more, as alarms of this center.

    core.stalled --> one alarm a part, critical --> core.recovered, or the alarm that the core writes of it, ends it
    iot.heartbeat --> next_within_s is kept --> none for twice as long --> alarm --> the next heartbeat ends it

The core tells of a part twice: straight by its watch, and by its outbox once its database answers. Both are one alarm
here, whichever is first; of two messages the older changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from iot_core.alarms.outside import Kind, Outside, Taken, take
from iot_core.messages import text
from iot_core.model import Severity, Title
from iot_core.push.watchdog import Part
from iot_core.registry.centers import Center, find

__all__ = ["as_vital_sign", "beat", "leave", "told", "watch_centers"]

_SILENT: Final = "core.silent"
_PARTS: Final = frozenset(f"core.{part}" for part in Part)
_SLACK: Final = timedelta(seconds=5)  # the way, and the sender's look once a second
BEAT: Final = "UPDATE iot.center SET beat_at = clock_timestamp(), beat_within_s = $2 WHERE id = $1 RETURNING beat_at"
_ACTIVE: Final = """
FROM iot.outside_source s JOIN iot.rule_state r ON r.source_kind = 'outside' AND r.source_id = s.id
WHERE r.state = 'active'"""
STANDING: Final = f"""
SELECT s.ref, greatest(r.last_time, clock_timestamp()) AS at {_ACTIVE}
    AND s.center_id = $1 AND starts_with(s.ref, 'core.') ORDER BY s.id
"""
SILENT: Final = f"SELECT EXISTS (SELECT {_ACTIVE} AND s.center_id = $1 AND s.ref = '{_SILENT}')"
# Locked: a heartbeat that comes meanwhile waits, and then finds the alarm that it ends.
OVERDUE: Final = f"""
SELECT c.key, greatest(c.beat_at, $2) + make_interval(secs => 2 * c.beat_within_s) + $3 AS due, c.beat_at
FROM iot.center c
WHERE c.removed_at IS NULL AND greatest(c.beat_at, $2) + make_interval(secs => 2 * c.beat_within_s) + $3 <= $1
    AND NOT EXISTS (SELECT {_ACTIVE} AND s.center_id = c.id AND s.ref = '{_SILENT}')
FOR UPDATE OF c SKIP LOCKED
"""


def as_vital_sign(center: Center, rule: str | None, said: Outside) -> Outside:
    """Give the alarm that a feeding core writes of its own part as that of the part; any other as it is."""
    if rule not in _PARTS or said.name is not None:
        return said
    # Its version counts another alarm's changes the next time.
    return replace(said, ref=rule, version=None, title=_title(center, rule.removeprefix("core.")), runbook=_runbook())


async def told(connection: asyncpg.Connection, center: Center, parts: Iterable[str], said: Outside) -> Taken:
    """Take what a core's watch says: of each part one alarm begins or ends. Gives the last one."""
    taken = Taken(None)
    async with connection.transaction():
        for part in sorted(set(parts)):
            of_part = replace(
                said, message_id=f"{said.message_id}/{part}", ref=f"core.{part}", title=_title(center, part),
                runbook=_runbook(),
            )  # fmt: skip
            taken = await take(connection, center, of_part)
    return taken


async def beat(connection: asyncpg.Connection, center: Center, within_s: float) -> None:
    """Note a heartbeat, after which the next comes within so many seconds; it ends the center's silence."""
    async with connection.transaction():
        at = await connection.fetchval(BEAT, center.id, within_s)
        if await connection.fetchval(SILENT, center.id):
            await take(connection, center, _silence(center, Kind.CLEARED, at, at))


async def leave(connection: asyncpg.Connection, center: Center) -> None:
    """End the vital signs of a center that is removed: nothing is expected of it any more."""
    for row in await connection.fetch(STANDING, center.id):
        ended = _silence(center, Kind.CLEARED, row["at"], row["at"])
        ended = replace(ended, ref=row["ref"], message_id=f"left/{row['ref']}/{row['at']}")
        await take(connection, center, ended)


async def watch_centers(pool: asyncpg.Pool, now: datetime, watching_since: datetime) -> None:
    """Raise the silence of centers whose heartbeat is overdue. `watching_since`: our own absence is not theirs."""
    async with pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch(OVERDUE, now, watching_since, _SLACK):
            center = await find(connection, row["key"])
            await take(connection, center, _silence(center, Kind.RAISED, row["due"], row["beat_at"]))


def _silence(center: Center, kind: Kind, at: datetime, heard: datetime) -> Outside:
    return Outside(
        message_id=f"{_SILENT}/{kind}/{heard.astimezone(UTC).isoformat()}", kind=kind, at=at, ref=_SILENT,
        severity=Severity.CRITICAL, title=_both("center.silent", name=center.name),
        runbook=_both("center.runbook_silent"),
    )  # fmt: skip


def _title(center: Center, part: str) -> Title:
    known = part if f"core.{part}" in _PARTS else "other"
    return _both(f"center.stalled_{known}", name=center.name, part=part)


def _runbook() -> Title:
    return _both("center.runbook_stalled")


def _both(code: str, **values: str) -> Title:
    return Title(text(code, "vi", **values), text(code, "en", **values))
