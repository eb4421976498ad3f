"""SIGKILL between every two steps of escalation, own alarms and reports: nothing is lost, nothing is half done."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.alarms.escalation import walk
from iot_core.alarms.own import write_spell
from iot_core.model import Severity
from iot_core.push import chains
from iot_core.push.chain import Chain, Step
from iot_core.push.reporting import _hand_over_waiting
from iot_core.push.watchdog import Part
from iot_core.settings import Reports
from tests.push.alarms import alarm, target, tell

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

AT = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
# A process of its own does one round, and is killed just before or just after a function of it.
CHILD = """
import asyncio, os, signal, sys
from datetime import datetime, timedelta
from functools import partial
from iot_core.alarms import escalation, own
from iot_core.push import reporting
from iot_core.push.watchdog import Part
from iot_core.settings import Reports, Store
from iot_core.store.connection import open_pool

what, dsn, at, folder, module, name, when = sys.argv[1:]
home = {"escalation": escalation, "own": own, "reporting": reporting, "os": os}[module]
real = getattr(home, name)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def dying(*args, **named):
    when == "before" and die()
    await real(*args, **named)
    die()

def dying_plainly(*args, **named):
    when == "before" and die()
    real(*args, **named)
    die()

setattr(home, name, dying if asyncio.iscoroutinefunction(real) else dying_plainly)

async def main():
    moment = datetime.fromisoformat(at)
    async with open_pool(dsn, Store()) as pool, pool.acquire() as connection:
        if what == "escalation":
            await escalation.walk(connection, moment)
        elif what == "own":
            await own.write_spell(connection, Part.PUSH, moment, None)
        else:
            await reporting._hand_over_waiting(pool, Reports(folder=folder, stations={"x": "X"}))
        die()

asyncio.run(main())
"""


async def killed(what: str, dsn: str, point: tuple[str, str, str], folder: Any = "") -> None:
    """Run a round in a process of its own, killed at that point."""
    words = (what, dsn, (AT + timedelta(minutes=2)).isoformat(), str(folder), *point)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *words)
    async with asyncio.timeout(60):
        assert await child.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        (("escalation", "_step", "after"), False), (("escalation", "enqueue", "before"), False),
        (("escalation", "enqueue", "after"), False), (("escalation", "walk", "after"), True),
    ],
    ids=["moved", "before-message", "after-message", "committed"],
)  # fmt: skip
async def test_a_step_of_a_chain_is_told_once_wherever_we_die(
    pool: asyncpg.Pool, migrated_dsn: str, point: tuple[str, str, str], *, kept: bool
) -> None:
    await target(pool, "duty", "http://127.0.0.1:9/", min_severity=Severity.CRITICAL)
    async with pool.acquire() as connection:
        await chains.add(
            connection, "all", Chain(steps=(Step(after_s=60, target="duty"),), repeat_s=600), min_severity=Severity.LOW
        )
    await tell(pool, await alarm(pool))
    await pool.execute("UPDATE iot.escalation SET due_at = $1", AT + timedelta(minutes=1))
    told = "SELECT count(*) FROM iot.outbox WHERE body->>'type' = 'alarm.escalated'"
    await killed("escalation", migrated_dsn, point)
    assert await pool.fetchval(told) == kept
    async with pool.acquire() as connection:
        await walk(connection, AT + timedelta(minutes=2))
    assert await pool.fetchval(told) == 1


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        (("own", "lock", "after"), 0), (("own", "save", "before"), 0), (("own", "save", "after"), 0),
        (("own", "write_spell", "after"), 1),
    ],
    ids=["locked", "before-writing", "written", "committed"],
)  # fmt: skip
async def test_own_alarm_is_whole_or_not_there_wherever_we_die(
    pool: asyncpg.Pool, migrated_dsn: str, point: tuple[str, str, str], kept: int
) -> None:
    await target(pool, "ioc", "http://127.0.0.1:9/")
    tables = ("alarm", "alarm_event", "outbox")
    whole = f"SELECT {', '.join(f'(SELECT count(*) FROM iot.{table})' for table in tables)}"
    await killed("own", migrated_dsn, point)
    assert set(await pool.fetchrow(whole)) == {kept}
    async with pool.acquire() as connection:
        await write_spell(connection, Part.PUSH, AT, None)  # the watch of the next start tells it again
    assert await pool.fetchval("SELECT count(*) FROM iot.alarm") == 1


@pytest.mark.parametrize(
    "point",
    [
        ("reporting", "hand_over", "before"), ("os", "replace", "before"), ("os", "replace", "after"),
        ("reporting", "hand_over", "after"), ("reporting", "_hand_over_waiting", "after"),
    ],
    ids=["before", "half-written", "first-there", "all-there", "noted"],
)  # fmt: skip
async def test_files_arrive_whole_and_all_wherever_we_die(
    pool: asyncpg.Pool, migrated_dsn: str, tmp_path: Path, point: tuple[str, str, str]
) -> None:
    await pool.execute("INSERT INTO iot.device (key, name, class_key) VALUES ('x', 'x', 'air_quality')")
    for minutes in (5, 10):
        await pool.execute(
            "INSERT INTO iot.report_file (device_id, period, name, lines, digest, body) VALUES (1, $1, $2, 1, '', $2)",
            AT + timedelta(minutes=minutes), f"day/X_{minutes}.txt",
        )  # fmt: skip
    await killed("report", migrated_dsn, point, tmp_path)
    for path in tmp_path.rglob("X_*.txt"):
        assert path.read_text() == f"day/{path.name}", "whoever fetches it never sees half of one"
    async with asyncio.timeout(60):  # the server lets go of a killed one's rows when it sees that it is gone
        while await pool.fetchval("SELECT count(*) FROM iot.report_file WHERE sent_at IS NULL"):
            await _hand_over_waiting(pool, Reports(folder=str(tmp_path), stations={"x": "X"}))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["X_10.txt", "X_5.txt"]
