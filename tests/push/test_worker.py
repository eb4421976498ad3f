from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp import web

from iot_core.model import Severity
from iot_core.push import outbox
from iot_core.push.receipts import failed_tries
from iot_core.push.senders.base import PLACES
from iot_core.push.senders.webhook import WebhookSender
from iot_core.push.targets import delivery, enqueue_test, get_target
from iot_core.push.worker import pause
from iot_core.store.vault import Vault
from tests.push.alarms import alarm, pushing, settled, target, tell, tried
from tests.push.receiver import receiving, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_alarm_arrives_signed_and_whole(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await receiver.arrived(1)
        await settled(pool, 1)
    assert receiver.refused == []
    core = await pool.fetchval("SELECT value FROM iot.fixed_setting WHERE key = 'core_id'")
    assert receiver.bodies == [
        {
            "type": "alarm.raised",
            "timestamp": "2026-09-01T03:00:00+00:00",
            "data": {"alarm": {"id": 1}, "device": None, "origin": {"via": [core]}},
        }
    ]
    row = await pool.fetchrow("SELECT message_id, attempts, last_status, last_error FROM iot.outbox")
    assert tuple(row) == (receiver.ids[0], 1, 204, None)


async def test_wrong_secret_is_refused_and_tried_again(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port(), secret="whsec_" + "A" * 43 + "=") as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await tried(pool, 1)
    assert receiver.refused
    async with pool.acquire() as connection:
        listed = await get_target(connection, "ioc")
    assert (listed.backlog, listed.last_status, listed.last_error) == (1, 401, "http_401")


async def test_of_a_message_that_fails_for_long_the_newest_tries_are_kept(pool: asyncpg.Pool) -> None:
    await target(pool, "ioc", "http://127.0.0.1:9/")
    number = await alarm(pool)
    await tell(pool, number)
    async with pool.acquire() as connection:
        target_id = await connection.fetchval("SELECT id FROM iot.push_target")
        (message,) = await outbox.claim(connection, target_id, 1, timedelta(seconds=5))
        for status in range(500, 545):
            await outbox.mark_failed(
                connection, message, status=status, error="x", again_in=timedelta(), dead=False, digest=None
            )
        tries = (await failed_tries(connection, number))[message.message_id]
    assert [each.status for each in tries] == list(range(505, 545))
    assert sorted(tries, key=lambda each: each.at) == tries


async def test_a_secret_that_cannot_be_opened_holds_up_its_own_target_only(
    pool: asyncpg.Pool, free_port: Callable[[], int], tmp_path: Path
) -> None:
    vault = Vault(tmp_path / "master.keys")
    vault.make()
    async with receiving(free_port()) as receiver:
        await target(pool, "broken", receiver.url)
        await target(pool, "ioc", receiver.url)
        sealed = vault.seal_text("whsec_", "push_target/another")
        await pool.execute("UPDATE iot.push_target SET secret = $1 WHERE key = 'broken'", sealed)
        async with pushing(pool, vault):
            await tell(pool, await alarm(pool))
            await receiver.arrived(1)
            await settled(pool, 1)
    waiting = await pool.fetchval("SELECT count(*) FROM iot.outbox WHERE delivered_at IS NULL AND dead_at IS NULL")
    assert (receiver.refused, waiting) == ([], 1)


async def test_wakes_at_once_by_notice(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await settled(pool, 1)
        started = time.monotonic()
        await tell(pool, await alarm(pool))
        await receiver.arrived(2)
        assert time.monotonic() - started < 25, "the timer looks every 30 s only"


async def test_events_of_an_alarm_keep_their_order_through_failures(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    tries: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> int:
        key = f"{body['data']['alarm']['id']} {body['type']}"
        tries[key] += 1
        return 204 if tries[key] > 1 else 503

    async with receiving(free_port(), answer=answer) as receiver:
        await target(pool, "ioc", receiver.url)
        ids = [await alarm(pool) for _ in range(6)]
        steps = ("alarm.raised", "alarm.acknowledged", "alarm.cleared")
        for each in ids:
            await tell(pool, each, *steps)
        async with pushing(pool):
            await settled(pool, 18)
    for each in ids:
        mine = [body["type"] for body in receiver.bodies if body["data"]["alarm"]["id"] == each]
        assert mine == [step for step in steps for _ in range(2)], "n+1 only after n was delivered"


async def test_receiver_that_was_down_gets_everything_when_it_is_back(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    port = free_port()
    await target(pool, "ioc", f"http://127.0.0.1:{port}/alarms")
    ids = [await alarm(pool) for _ in range(5)]
    async with pushing(pool):
        for each in ids:
            await tell(pool, each, "alarm.raised", "alarm.cleared")
        await tried(pool, 5)
        assert await pool.fetchval("SELECT DISTINCT last_error FROM iot.outbox WHERE attempts > 0") == "unreachable"
        # As after an hour's outage: the next try of each is far away.
        await pool.execute("UPDATE iot.outbox SET next_at = now() + interval '5 min' WHERE attempts > 0")
        async with receiving(port) as receiver:
            await tell(pool, await alarm(pool))
            await settled(pool, 11)
    assert len(set(receiver.ids)) == 11
    assert receiver.refused == []


async def test_hanging_receiver_delays_nobody_else(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    never = asyncio.Event()
    async with (
        receiving(free_port(), hold=never) as hanging,
        receiving(free_port()) as receiver,
        pushing(pool, timeout_s=60.0),
    ):
        await target(pool, "hanging", hanging.url)
        await target(pool, "dead", f"http://127.0.0.1:{free_port()}/")
        await target(pool, "ioc", receiver.url)
        for _ in range(20):
            await tell(pool, await alarm(pool))
        await receiver.arrived(20)
        await hanging.arrived(PLACES)
        assert len(hanging.ids) == PLACES, "its own places, and no more"
        never.set()
        await hanging.arrived(20)


async def test_place_of_a_receiver_that_does_not_answer_in_time_is_free_again(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    never = asyncio.Event()
    async with receiving(free_port(), hold=never) as hanging, pushing(pool, timeout_s=0.2):
        await target(pool, "ioc", hanging.url)
        for _ in range(PLACES + 1):
            await tell(pool, await alarm(pool))
        await hanging.arrived(PLACES + 1)
        await tried(pool, 1)
        assert await pool.fetchval("SELECT DISTINCT last_error FROM iot.outbox WHERE last_error <> ''") == "timeout"
        never.set()


async def test_new_alarm_does_not_queue_behind_failures(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    def answer(body: dict[str, Any]) -> int:
        return 500 if body["type"] == "alarm.severity" else 204

    async with receiving(free_port(), answer=answer) as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        for _ in range(3 * PLACES):
            await tell(pool, await alarm(pool), "alarm.severity")
        await tried(pool, 3 * PLACES)
        await tell(pool, await alarm(pool), "alarm.raised")
        await settled(pool, 1)
    assert "alarm.raised" in {body["type"] for body in receiver.bodies}


async def test_a_fire_is_sent_before_what_is_claimed_already(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    go = asyncio.Event()
    async with receiving(free_port()) as receiver, pushing(pool, timeout_s=60.0):
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await settled(pool, 1)  # it answers, so that many are claimed ahead
        receiver.hold = go
        for _ in range(3 * WebhookSender.places):
            await tell(pool, await alarm(pool), severity=Severity.LOW)
        await receiver.arrived(1 + WebhookSender.places)
        fire = await alarm(pool)
        await tell(pool, fire, severity=Severity.CRITICAL)
        async with asyncio.timeout(60):
            while not await pool.fetchval("SELECT claimed_until FROM iot.outbox WHERE alarm_id = $1", fire):
                await asyncio.sleep(0.01)
        go.set()
        await settled(pool, 3 * WebhookSender.places + 2)
    place = [body["data"]["alarm"]["id"] for body in receiver.bodies].index(fire)
    assert place <= 1 + 2 * WebhookSender.places, "one of the first places that were free"
    assert len(set(receiver.ids)) == len(receiver.ids) == 3 * WebhookSender.places + 2


async def test_message_is_given_up_after_its_time_and_lets_the_next_pass(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    def answer(body: dict[str, Any]) -> int:
        return 500 if body["type"] == "alarm.raised" else 204

    async with receiving(free_port(), answer=answer) as receiver:
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool), "alarm.raised", "alarm.cleared")
        await pool.execute("UPDATE iot.outbox SET created_at = now() - interval '25 h'")
        async with pushing(pool):
            await settled(pool, 2)
    rows = await pool.fetch("SELECT dead_at IS NOT NULL AS dead, last_error FROM iot.outbox ORDER BY id")
    assert [tuple(row) for row in rows] == [(True, "http_500"), (False, None)]
    assert [body["type"] for body in receiver.bodies] == ["alarm.raised", "alarm.cleared"]


async def test_redirect_is_not_followed(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as elsewhere:

        async def redirect(_: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"location": elsewhere.url})

        port = free_port()
        async with serving(port, redirect), pushing(pool):
            await target(pool, "ioc", f"http://127.0.0.1:{port}/")
            await tell(pool, await alarm(pool))
            await tried(pool, 1)
    assert elsewhere.ids == []
    assert await pool.fetchval("SELECT last_error FROM iot.outbox") == "redirect"


async def test_endless_answer_is_not_read_to_its_end(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 1_000_000_000:
                await response.write(b"x" * 65536)
                sent += 65536
        return response

    port = free_port()
    async with serving(port, endless), pushing(pool, timeout_s=60.0):
        await target(pool, "ioc", f"http://127.0.0.1:{port}/")
        await tell(pool, await alarm(pool))
        await settled(pool, 1)
    assert sent < 100_000_000


async def test_target_gets_what_is_urgent_enough_and_simulated_only_if_it_wants(pool: asyncpg.Pool) -> None:
    await target(pool, "all", "http://127.0.0.1:9/", accepts_simulated=True)
    await target(pool, "high", "http://127.0.0.1:9/", min_severity=Severity.HIGH)
    number = await alarm(pool)
    assert await tell(pool, number, severity=Severity.CRITICAL) == 2
    assert await tell(pool, number, severity=Severity.HIGH) == 2
    assert await tell(pool, number, severity=Severity.MEDIUM) == 1
    assert await tell(pool, number, severity=Severity.CRITICAL, simulated=True) == 1


async def test_test_message_arrives(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        async with pool.acquire() as connection:
            message_id = await enqueue_test(connection, "ioc")
        await settled(pool, 1)
        async with pool.acquire() as connection:
            found = await delivery(connection, message_id)
    assert (receiver.ids, receiver.bodies[0]["type"], found.last_status) == ([message_id], "push.test", 204)


async def test_lost_connections_stop_nothing(
    pool: asyncpg.Pool, free_port: Callable[[], int], migrated_dsn: str
) -> None:
    outside = await asyncpg.connect(migrated_dsn)
    async with receiving(free_port()) as receiver, pushing(pool):
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool))
        await settled(pool, 1)
        for _ in range(10):
            await outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.02)
        await outside.execute(
            "INSERT INTO iot.outbox (target_id, message_id, body) SELECT id, 'msg_x', '{}' FROM iot.push_target"
        )
        await receiver.arrived(2)
    await outside.close()


WORKER = """
import asyncio, sys
from iot_core.push import run_push
from iot_core.settings import Push, Settings, Store
from iot_core.store.connection import open_pool

async def main():
    async with open_pool(sys.argv[1], Store()) as pool:
        await run_push(pool, Settings(push=Push(allow_private=True, timeout_s=3.0)))

asyncio.run(main())
"""


async def test_kill_between_sending_and_noting_repeats_the_same_message(
    pool: asyncpg.Pool, migrated_dsn: str, free_port: Callable[[], int]
) -> None:
    hold = asyncio.Event()
    async with receiving(free_port(), hold=hold) as receiver:
        await target(pool, "ioc", receiver.url)
        await tell(pool, await alarm(pool), "alarm.raised", "alarm.cleared")
        worker = subprocess.Popen([sys.executable, "-c", WORKER, migrated_dsn])
        try:
            await receiver.arrived(1)
        finally:
            os.kill(worker.pid, signal.SIGKILL)
            await asyncio.to_thread(worker.wait)
        hold.set()
        assert await pool.fetchval("SELECT count(*) FROM iot.outbox WHERE delivered_at IS NULL") == 2
        async with pushing(pool):
            await settled(pool, 2)
    first, again, second = receiver.ids
    assert first == again != second
    assert [body["type"] for body in receiver.bodies] == ["alarm.raised", "alarm.raised", "alarm.cleared"]


async def test_two_workers_send_each_message_once(pool: asyncpg.Pool, free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver:
        await target(pool, "ioc", receiver.url)
        for _ in range(15):
            await tell(pool, await alarm(pool), "alarm.raised", "alarm.cleared")
        async with pushing(pool), pushing(pool):
            await settled(pool, 30)
    assert len(receiver.ids) == len(set(receiver.ids)) == 30


def test_pause_grows_with_full_jitter_up_to_its_limit() -> None:
    pauses = {attempts: [pause(attempts).total_seconds() for _ in range(300)] for attempts in (1, 5, 9, 1000)}
    for attempts, ceiling in ((1, 2), (5, 32), (9, 300), (1000, 300)):
        assert 0 <= min(pauses[attempts]) < ceiling * 0.2 < ceiling * 0.8 < max(pauses[attempts]) <= ceiling


async def test_old_messages_are_forgotten(pool: asyncpg.Pool) -> None:
    await target(pool, "ioc", "http://127.0.0.1:9/")
    await tell(pool, await alarm(pool), "alarm.raised", "alarm.cleared", "alarm.raised")
    await pool.execute("UPDATE iot.alarm SET closed_at = now()")
    await tell(pool, await alarm(pool))
    await pool.execute("UPDATE iot.outbox SET delivered_at = now() - interval '40 d' WHERE id IN (1, 4)")
    await pool.execute("UPDATE iot.outbox SET dead_at = now() - interval '20 d' WHERE id = 2")
    await pool.execute("INSERT INTO iot.center (key, name, secret) VALUES ('fire-dept', 'x', 'x')")
    await pool.execute("INSERT INTO iot.center_message VALUES (1, 'old', now() - interval '31 d'), (1, 'new', now())")
    async with pool.acquire() as connection:
        await outbox.forget(connection, timedelta(days=30))
    assert await pool.fetchval("SELECT string_agg(message_id, ' ') FROM iot.center_message") == "new"
    assert [row["id"] for row in await pool.fetch("SELECT id FROM iot.outbox ORDER BY id")] == [
        2, 3, 4  # the last one's alarm is open
    ]  # fmt: skip


async def test_message_that_cannot_be_written_stops_nobody_else(
    pool: asyncpg.Pool, free_port: Callable[[], int]
) -> None:
    async with receiving(free_port()) as receiver, pushing(pool):
        await target(pool, "cap", receiver.url, format="cap")
        await target(pool, "ioc", receiver.url)
        await pool.execute(
            "INSERT INTO iot.outbox (target_id, message_id, body) SELECT id, 'msg_x', $1 FROM iot.push_target"
            " WHERE key = 'cap'",
            {"type": "alarm.raised", "data": {"alarm": "nonsense"}},
        )
        await tried(pool, 1)
        await tell(pool, await alarm(pool), only="ioc")
        await settled(pool, 1)
    assert await pool.fetchval("SELECT last_error FROM iot.outbox WHERE message_id = 'msg_x'") == "unwritable"
