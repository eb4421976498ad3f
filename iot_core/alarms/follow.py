"""Takes over rules that people change, in every worker, without a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from iot_core.store.connection import listening, outlasting

if TYPE_CHECKING:
    import asyncpg

    from iot_core.alarms.evaluate import Evaluator

__all__ = ["follow_rules"]

log = structlog.get_logger()

CHANNEL: Final = "iot_rule"
_RETRY_S: Final = 1.0


async def follow_rules(pool: asyncpg.Pool, evaluator: Evaluator) -> None:
    """Read the rules anew whenever one changes, or a device moves; until cancelled."""
    while True:
        with outlasting():
            async with listening(pool, CHANNEL) as notices:
                while True:
                    await evaluator.load(notices.connection)
                    await notices.next()
        log.warning("rules.store_away")
        await asyncio.sleep(_RETRY_S)
