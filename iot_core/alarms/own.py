"""The core's own vital signs: measured in its loop for the watch's thread, and its spells written down as alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import asyncpg

from iot_core.alarms.case import Case, Occasion
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.outside import CORE
from iot_core.alarms.rules import Change, Phase, State, Transition
from iot_core.cancelled import notice_cancellation
from iot_core.messages import text
from iot_core.model import AlarmRule, Comparison, Severity, Title
from iot_core.push.outbox import ENDPOINT, Endpoint, opened
from iot_core.push.watchdog import Part, Watch
from iot_core.store.connection import AWAY, RETRY
from iot_core.store.vault import Vault

__all__ = ["run_own", "write_spell"]

_LOOK_S: Final = 1.0
_ANSWER_S: Final = 5.0
_OURSELVES: Final = 0
"""The id of the source: of kind `outside` no other one has it."""
TARGETS: Final = f"SELECT {ENDPOINT} FROM iot.push_target t WHERE t.removed_at IS NULL AND t.watchdog"


async def run_own(
    pool: asyncpg.Pool,
    watch: Watch,
    healthy: Callable[[], bool],
    look_s: float = _LOOK_S,
    vault: Vault | None = None,
) -> None:
    """Note that loop and store answer, keep the targets fresh, write spells down; until cancelled."""
    shut: set[str] = set()
    while True:
        watch.vitals.beat(Part.CORE)
        if healthy():
            watch.vitals.beat(Part.INGEST)
        try:
            async with asyncio.timeout(_ANSWER_S), pool.acquire() as connection:
                watch.targets = opened((Endpoint(**row) for row in await connection.fetch(TARGETS)), vault, shut)
                watch.core = watch.core or await connection.fetchval(CORE)
                watch.vitals.beat(Part.STORE)
                while watch.spells:
                    await write_spell(connection, *watch.spells[0])
                    del watch.spells[0]
                    watch.keep()
        except (*AWAY, *RETRY):
            notice_cancellation()
        await asyncio.sleep(look_s)


async def write_spell(connection: asyncpg.Connection, part: Part, since: datetime, until: datetime | None) -> None:
    """Raise the alarm that a part stands still, or (with `until`) return it to normal; twice changes nothing."""
    key = ("outside", _OURSELVES, f"core.{part}")
    now = datetime.now(UTC)
    occasion = Occasion(received_at=now, now=now)
    async with connection.transaction():
        case: Case = (await lock(connection, [key], [key]))[key]
        if until is None:
            if case.state.phase is Phase.ACTIVE or case.state.last_time >= since:
                return  # written by the last start, which did not live to note it
            state = State(phase=Phase.ACTIVE, since=since, last_time=since)
            case.move(_rule(part), state, (Transition(Change.RAISED, since, 1.0),), occasion)
        elif case.state.phase is Phase.ACTIVE:
            state = State(phase=Phase.NORMAL, since=until, last_time=until)
            case.move(_rule(part), state, (Transition(Change.RETURNED, until, 0.0),), occasion)
        await save(connection, [case])


def _rule(part: Part) -> AlarmRule:
    title = Title(text(f"watchdog.{part}", "vi"), text(f"watchdog.{part}", "en"))
    runbook = Title(text(f"watchdog.runbook_{part}", "vi"), text(f"watchdog.runbook_{part}", "en"))
    return AlarmRule(
        key=f"core.{part}", title=title, severity=Severity.CRITICAL, comparison=Comparison.EQUALS, runbook=runbook
    )
