"""Dead man's watch and heartbeat: silence is noticed, told straight, and written down when the store answers."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from iot_core.alarms.own import run_own, write_spell
from iot_core.push import run_push
from iot_core.push.heartbeat import run_heartbeat
from iot_core.push.senders import Access
from iot_core.push.watchdog import RECOVERED, STALLED, Part, Vitals, Watch, watching
from iot_core.settings import Push, Settings, Store
from iot_core.store.connection import open_pool
from iot_core.store.vault import Vault
from tests.conftest import migrate
from tests.push.alarms import T0, target
from tests.push.receiver import Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    import asyncpg

    from tests import servers

LOCAL = Access(allow_private=True, timeout_s=2.0)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_each_change_is_told_once_and_its_spell_kept() -> None:
    clock = 0.0
    vitals = Vitals(lambda: clock)
    watch = Watch(vitals, LOCAL, "UTC", 60.0, core="ours")
    for part in (Part.STORE, Part.PUSH):
        vitals.beat(part)
    clock = 60.0
    assert watch.look(T0) == {}
    clock = 61.0
    vitals.beat(Part.PUSH)
    assert watch.look(T0) == {STALLED: [Part.STORE]}
    assert watch.look(T0 + timedelta(seconds=1)) == {}
    vitals.beat(Part.STORE)
    later = T0 + timedelta(seconds=9)
    assert watch.look(later) == {RECOVERED: [Part.STORE]}
    assert watch.spells == [(Part.STORE, T0, None), (Part.STORE, T0, later)]
    assert Part.INGEST not in vitals.still(0.0), "what never moved is not watched yet"


def test_a_machine_that_was_paused_blames_neither_database_nor_push() -> None:
    clock = 0.0
    vitals = Vitals(lambda: clock)
    watch = Watch(vitals, LOCAL, "UTC", 60.0, core="ours")
    for part in (Part.CORE, Part.STORE, Part.PUSH):
        vitals.beat(part)
    assert watch.look(T0) == {}
    clock = 3600.0
    assert watch.look(T0) == {STALLED: [Part.CORE]}
    clock = 3601.0
    assert watch.look(T0) == {RECOVERED: [Part.CORE]}
    clock = 3630.0
    watch.look(T0)
    clock = 3661.5
    assert watch.look(T0) == {STALLED: [Part.CORE, Part.PUSH, Part.STORE]}, "from then on they are watched again"


def test_what_stood_when_the_core_was_killed_recovers_with_the_next_one(tmp_path: Path) -> None:
    clock = 0.0
    first = Watch(Vitals(lambda: clock), LOCAL, "UTC", 60.0, file=tmp_path / "watch.json", core="ours")
    first.vitals.beat(Part.STORE)
    clock = 61.0
    assert first.look(T0) == {STALLED: [Part.STORE]}
    clock = 0.0
    then = Watch(Vitals(lambda: clock), LOCAL, "UTC", 60.0, file=tmp_path / "watch.json")
    assert then.spells == [(Part.STORE, T0, None)]
    then.vitals.beat(Part.CORE)
    then.vitals.beat(Part.STORE)
    assert then.look(T0 + timedelta(seconds=8)) == {}, "there is nobody to tell yet"
    then.core = "ours"
    assert then.look(T0 + timedelta(seconds=9)) == {RECOVERED: [Part.STORE]}
    assert then.spells == [(Part.STORE, T0, None), (Part.STORE, T0, T0 + timedelta(seconds=9))]
    del then.spells[:]
    then.keep()
    third = Watch(Vitals(lambda: clock), LOCAL, "UTC", 60.0, file=tmp_path / "watch.json", core="ours")
    assert (third.spells, third.look(T0 + timedelta(seconds=10))) == ([], {})
    (tmp_path / "watch.json").write_bytes(b"{torn")
    assert Watch(Vitals(), LOCAL, "UTC", 60.0, file=tmp_path / "watch.json").spells == []


async def test_database_that_is_gone_is_told_straight_and_written_down_when_it_is_back(
    postgres_server: servers.Postgres, free_port: Callable[[], int]
) -> None:
    with postgres_server.database(await asyncio.to_thread(postgres_server.template, migrate)) as dsn:
        name = dsn.partition("?")[0].rpartition("/")[2]
        async with open_pool(dsn, Store()) as pool, receiving(free_port()) as receiver:
            await target(pool, "ioc", receiver.url, watchdog=True)
            await target(pool, "other", receiver.url)
            watch = Watch(Vitals(), LOCAL, "UTC", 3.0)
            with watching(watch):
                async with running(run_own(pool, watch, lambda: True, 0.05)):
                    async with asyncio.timeout(60):
                        while len(watch.targets) != 1:
                            await asyncio.sleep(0.01)
                    await asyncio.to_thread(_close, postgres_server, name)
                    await _told(receiver, STALLED, Part.STORE)
                    await asyncio.to_thread(postgres_server.run, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
                    await _told(receiver, RECOVERED, Part.STORE)
                    async with asyncio.timeout(60):
                        while not await _cleared(pool):
                            await asyncio.sleep(0.05)
            row = await pool.fetchrow(
                "SELECT rule, severity, title_en, cleared_at - raised_at AS lasted FROM iot.alarm"
            )
            kinds = [row["type"] for row in await pool.fetch("SELECT body->>'type' AS type FROM iot.outbox")]
    assert receiver.refused == []
    assert (row["rule"], row["severity"]) == ("core.store", "critical")
    assert row["lasted"] > timedelta(0)
    assert sorted(kinds) == ["alarm.cleared", "alarm.cleared", "alarm.raised", "alarm.raised"]


def _close(server: servers.Postgres, name: str) -> None:
    server.run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


WRITTEN = """
SELECT count(*) FROM iot.alarm WHERE cleared_at IS NOT NULL AND rule IN ('core.push', 'core.ingest')
"""


async def _knocking(pool: asyncpg.Pool) -> None:
    """Wake the dispatcher often, as a busy city does."""
    while True:
        await pool.execute("SELECT pg_notify('iot_outbox', '')")
        await asyncio.sleep(0.1)


async def _told(receiver: Receiver, kind: str, part: Part) -> None:
    async with asyncio.timeout(60):
        while not any(body["type"] == kind and part in body["data"]["parts"] for body in receiver.bodies):
            await asyncio.sleep(0.02)


async def test_push_and_ingest_that_stand_still_are_told_straight_and_written_down(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    ingesting = True
    async with receiving(free_port()) as receiver:
        await target(pool, "ioc", receiver.url, watchdog=True)
        watch = Watch(Vitals(), LOCAL, "UTC", 1.0)
        settings = Settings(push=Push(allow_private=True))
        pushing = run_push(pool, settings, None, lambda: watch.vitals.beat(Part.PUSH))
        async with running(_knocking(pool)), running(pushing), running(run_own(pool, watch, lambda: ingesting, 0.05)):
            async with asyncio.timeout(60):
                while not watch.targets or watch.vitals.still(-1.0) < {Part.PUSH, Part.INGEST}:
                    await asyncio.sleep(0.01)
            with watching(watch):
                ingesting = False
                await _told(receiver, STALLED, Part.INGEST)
                ingesting = True
                await _told(receiver, RECOVERED, Part.INGEST)
                async with pool.acquire() as other, other.transaction():
                    await other.execute("LOCK TABLE iot.outbox IN ACCESS EXCLUSIVE MODE")  # nobody gets at a message
                    await _told(receiver, STALLED, Part.PUSH)
                await _told(receiver, RECOVERED, Part.PUSH)
                async with asyncio.timeout(60):
                    while await pool.fetchval(WRITTEN) < 2:
                        await asyncio.sleep(0.05)
    assert receiver.refused == []


async def test_push_with_nothing_to_send_does_not_stand_still(pool: asyncpg.Pool) -> None:
    vitals, beats = Vitals(), 0
    settings = Settings(push=Push(watchdog_s=5.0))

    def beat() -> None:
        nonlocal beats
        beats += 1
        vitals.beat(Part.PUSH)

    async with running(run_push(pool, settings, None, beat)), asyncio.timeout(60):
        while beats < 2:  # the second only because the watch expects it; nobody wakes it
            await asyncio.sleep(0.05)
    assert not vitals.still(settings.push.watchdog_s)


async def _cleared(pool: asyncpg.Pool) -> bool:
    with contextlib.suppress(OSError):
        return bool(await pool.fetchval("SELECT count(*) FROM iot.alarm WHERE cleared_at IS NOT NULL"))
    return False


async def test_spell_written_twice_is_one_alarm(pool: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        await write_spell(connection, Part.PUSH, now - timedelta(minutes=2), None)
        await write_spell(connection, Part.PUSH, now - timedelta(minutes=2), now)
        await write_spell(connection, Part.PUSH, now, None)
        await write_spell(connection, Part.PUSH, now - timedelta(minutes=2), now)
    assert await pool.fetchval("SELECT count(*) FROM iot.alarm") == 1
    kinds = await pool.fetch("SELECT kind FROM iot.alarm_event ORDER BY id")
    assert [row["kind"] for row in kinds] == ["raised", "cleared"]


async def test_heartbeat_is_signed_says_how_we_are_and_comes_from_one_worker_only(
    pool: asyncpg.Pool, free_port: Callable[[], int], tmp_path: Path
) -> None:
    vault = Vault(tmp_path / "master.keys")
    vault.make()
    settings = Settings(push=Push(allow_private=True))
    async with receiving(free_port()) as receiver:
        await target(pool, "ioc", receiver.url, heartbeat_s=3, vault=vault)
        async with (
            running(run_heartbeat(pool, settings, lambda: True, vault=vault)),
            running(run_heartbeat(pool, settings, lambda: True, vault=vault)),
        ):
            await receiver.arrived(2)
    assert receiver.refused == []
    times = [datetime.fromisoformat(body["timestamp"]) for body in receiver.bodies]
    assert times[1] - times[0] > timedelta(seconds=1.5), "the second look's, not the second worker's"
    data = receiver.bodies[0]["data"]
    assert (receiver.bodies[0]["type"], data["healthy"], data["next_within_s"], data["backlog"]) == (
        "iot.heartbeat", True, 3, 0
    )  # fmt: skip
