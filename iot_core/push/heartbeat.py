"""A sign of life to those who asked for one, so that our silence is noticed there. It needs the store, like an alarm.

Not in the outbox: an old heartbeat says nothing. Of several workers the one that takes the row sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.push.outbox import ENDPOINT, Endpoint, new_message_id, opened
from iot_core.push.parcel import pack
from iot_core.push.senders import Access, make_sender
from iot_core.push.senders.base import Home
from iot_core.settings import Settings
from iot_core.store.connection import AWAY, RETRY
from iot_core.store.vault import Vault

log = structlog.get_logger()

HEARTBEAT: Final = "iot.heartbeat"
_LOOK_S: Final = 1.0
TAKE: Final = f"""
UPDATE iot.push_target t SET heartbeat_at = clock_timestamp()
WHERE t.removed_at IS NULL AND t.heartbeat_s IS NOT NULL
    AND (t.heartbeat_at IS NULL OR t.heartbeat_at <= clock_timestamp() - make_interval(secs => t.heartbeat_s))
RETURNING {ENDPOINT}, t.heartbeat_s
"""
STATE: Final = """
SELECT (SELECT value FROM iot.fixed_setting WHERE key = 'core_id') AS core,
    (SELECT count(*) FROM iot.alarm WHERE closed_at IS NULL AND NOT simulated AND NOT test) AS open_alarms,
    (SELECT count(*) FROM iot.alarm
        WHERE closed_at IS NULL AND NOT simulated AND NOT test AND acknowledged_at IS NULL) AS untaken,
    (SELECT count(*) FROM iot.outbox WHERE delivered_at IS NULL AND dead_at IS NULL) AS backlog
"""


async def run_heartbeat(
    pool: asyncpg.Pool,
    settings: Settings,
    healthy: Callable[[], bool],
    home: Home | None = None,
    *,
    vault: Vault | None = None,
) -> None:
    """Send heartbeats until cancelled. `home`: our own broker; `vault` opens the targets' secrets."""
    access = Access(allow_private=settings.push.allow_private, timeout_s=settings.push.timeout_s, home=home)
    shut: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async with pool.acquire() as connection:
                    due = await connection.fetch(TAKE)
                    state = dict(await connection.fetchrow(STATE)) if due else {}
            except (*AWAY, *RETRY):
                notice_cancellation()
                due, state = [], {}
            every = {row["key"]: row["heartbeat_s"] for row in due}
            found = (Endpoint(**{name: value for name, value in row.items() if name != "heartbeat_s"}) for row in due)
            for target in opened(found, vault, shut):
                facts = {**state, "healthy": healthy(), "next_within_s": every[target.key]}
                group.create_task(_send(target, access, facts, settings.timezone), name=f"heartbeat {target.key}")
            await asyncio.sleep(_LOOK_S)


async def _send(target: Endpoint, access: Access, facts: dict[str, Any], zone: str) -> None:
    now = datetime.now(UTC)
    body = {"type": HEARTBEAT, "timestamp": now.isoformat(), "data": facts}
    sender = make_sender(target, access)
    try:
        answer = await sender.send(
            pack(
                body, message_id=new_message_id(), at=now, format_="json" if target.format == "cap" else target.format,
                language=target.language, template_=None, options=target.options, zone=zone,
            )
        )  # fmt: skip
    finally:
        await sender.close()
    if answer.error is not None:
        log.warning("push.heartbeat_failed", target=target.key, error=answer.error)
