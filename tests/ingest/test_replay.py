"""Held once, found again, replayed: what was mended is stored, what is still wrong is held once more, never doubled."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from iot_core.ingest.replay import Replayed, preview, replay_step, select
from iot_core.model import Problem, Reason, Uplink
from iot_core.store import held
from tests.ingest.harness import Path, running

AT = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
NOW = AT + timedelta(seconds=5)


def said(minute: int = 0, **values: Any) -> str:
    return json.dumps({"time": (AT + timedelta(minutes=minute)).isoformat(), **values})


async def replayed(path: Path, **wanted: Any) -> Replayed:
    """Replay to the end, in steps."""
    selection = await select(path.pool, **wanted)
    total = Replayed(0, 0, 0, 0)
    while total.last is not None:
        step = await replay_step(path.pool, path.prepare, path.flush, selection, total.last)
        total = Replayed(total.uplinks + step.uplinks, total.stored + step.stored, total.held + step.held, step.last)
    return total


async def test_a_redelivered_message_is_held_once_too(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        await path.add("aq-1")
        for _ in range(3):
            await path.say("aq-1", said(pm25=1, pm99=2, pm10="high"))
            await path.say("aq-1", json.dumps({"pm25": "x", "seq": 4}), received_at=NOW)
            await path.say("aq-1", json.dumps([{"seq": 5, "pm25": 1}, {"seq": 6, "pm25": 2}]), received_at=NOW)
        reasons = [reason for reason, _ in await path.held()]
        assert reasons == ["unknown_metric", "wrong_type", "wrong_type", "no_time", "no_time"]


async def test_what_is_said_with_a_revoked_secret_is_held_until_somebody_asks_for_it(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        await path.add("aq-1")

        async def take_back(at: datetime | None) -> None:
            await path.pool.execute("UPDATE iot.unit SET revoked_at = $1", at)
            await path.reload()

        await path.say("aq-1", said(pm25=0))
        await path.say("aq-1", b"online", kind="status")
        before = await path.pool.fetch("SELECT online, last_received_at, last_time FROM iot.device_status")
        await take_back(NOW)
        for payload in (said(1, pm25=1), b"garbage"):
            outcome = await path.say("aq-1", payload)
            assert [problem.reason for problem in outcome.problems] == [Reason.REVOKED]
        await path.say("aq-1", b"online", kind="status")
        await path.say("aq-1", b'{"id": 1, "state": "succeeded"}', kind="commands/result")
        assert len(await path.rows()) == 1
        assert before == await path.pool.fetch("SELECT online, last_received_at, last_time FROM iot.device_status")
        await path.say("aq-1", b"offline", kind="status")  # its will, when a broker ends the connection
        assert before[0]["online"]
        assert not await path.pool.fetchval("SELECT online FROM iot.device_status")
        await path.say("aq-1", said(2, pm25=2), driver="coap")  # which lets nobody in without a key
        assert await replayed(path, reason=Reason.REVOKED) == Replayed(4, 0, 4, None)

        await take_back(None)
        await path.say("aq-1", said(3, pm25=3))
        assert await replayed(path) == Replayed(0, 0, 0, None)
        assert (await replayed(path, reason=Reason.REVOKED)).stored == 1
        assert [row["pm25"] for row in await path.rows()] == [0, 1, 2, 3]


async def test_two_messages_that_say_the_same_without_time_or_number_are_two(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        for second in range(2):
            await path.say("aq-1", b"garbage", received_at=NOW + timedelta(seconds=second))
        assert [reason for reason, _ in await path.held()] == ["not_json", "not_json"]


async def test_a_message_of_many_wrong_parts_is_bounded_and_says_how_many(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", json.dumps([{"pm25": n} for n in range(200)]))
        rows = await path.pool.fetch("SELECT detail FROM iot.held_uplink ORDER BY id")
        assert len(rows) == held.MOST_PARTS
        assert rows[-1]["detail"].endswith("and 150 parts more")


async def test_a_mended_profile_stores_what_was_held_and_holds_once_what_is_still_wrong(
    any_shipped_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(any_shipped_dsn) as path:
        await path.add("aq-1")
        await path.add("aq-2")
        for minute in range(3):
            await path.say("aq-1", said(minute, pm99=minute, pm10="high", pm25=7, seq=minute))
        await path.say("aq-2", said(pm99=1))
        mend(path, monkeypatch)
        device = await path.pool.fetchval("SELECT id FROM iot.device WHERE key = 'aq-1'")
        assert await replayed(path, device_id=device, reason=Reason.UNKNOWN_METRIC) == Replayed(3, 3, 3, None)
        assert [(row["pm25"], row["no2"]) for row in await path.rows()] == [(7.0, float(n)) for n in range(3)]
        assert [reason for reason, _ in await path.held()] == ["unknown_metric", *["wrong_type"] * 3]
        assert await replayed(path, device_id=device) == Replayed(3, 3, 3, None)
        assert len(await path.held()) == 4


def mend(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the device's profile reads its pm99 as no2."""
    profile = path.prepare._profiles.get("native-air-quality")
    before = profile.decode

    def decode(uplink: Any) -> Any:
        found = before(uplink)
        samples = [
            replace(each, values={"no2" if key == "pm99" else key: value for key, value in each.values.items()})
            for each in found.samples
        ]
        return replace(found, samples=samples)

    monkeypatch.setattr(type(profile), "decode", lambda _, uplink: decode(uplink))


async def test_a_replay_replaces_what_is_stored_and_its_number_never_drops_it(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", said(pm25=1))
        await path.say("aq-1", said(pm25=2, seq=9))
        await path.say("aq-1", json.dumps({"pm25": 3, "pm99": 1, "seq": 10}), received_at=NOW)
        assert await replayed(path, reason=Reason.CONFLICT) == Replayed(1, 1, 0, None)
        assert [row["pm25"] for row in await path.rows()] == [2.0, 3.0]
        await path.pool.execute("DELETE FROM telemetry.air_quality")
        assert (await replayed(path, reason=Reason.UNKNOWN_METRIC)).stored == 1
        assert [(row["pm25"], row["time"]) for row in await path.rows()] == [(3.0, NOW)]


async def test_what_was_too_old_is_stored_when_a_person_asks(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        await path.add("aq-1")
        old = {"time": "2024-01-01T00:00:00Z", "pm25": 5}
        await path.say("aq-1", json.dumps(old), received_at=NOW)
        assert await replayed(path, reason=Reason.TOO_OLD) == Replayed(1, 1, 0, None)
        assert [row["time"] for row in await path.rows()] == [datetime(2024, 1, 1, tzinfo=UTC)]
        assert await path.held() == []


async def test_a_replay_makes_room_where_old_rows_were_dropped(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", said(pm25=1))
        await path.say("aq-1", said(1, pm25=2, pm99=1))
        parts = await path.pool.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
            " WHERE inhparent = 'telemetry.air_quality'::regclass AND inhrelid::regclass::text LIKE 'telemetry_part.%'"
        )
        for part in parts:
            await path.pool.execute(f"DROP TABLE {part['name']}")
        assert await replayed(path, reason=Reason.UNKNOWN_METRIC) == Replayed(1, 1, 1, None)
        assert [row["pm25"] for row in await path.rows()] == ([2.0] if parts else [1.0, 2.0])


async def test_a_retained_message_makes_no_reading_in_a_replay_either(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("fire-1", "fire_detector")
        await path.say("fire-1", said(smoke=True), retained=True)
        await path.say("stranger", said(smoke=True), retained=True)
        await replayed(path, reason=Reason.RETAINED)
        assert await path.rows("fire_detector") == []
        assert await path.pool.fetchval("SELECT count(*) FROM iot.alarm") == 0
        assert [reason for reason, _ in await path.held()] == ["unknown_address", "retained"]


async def test_a_replay_of_a_whole_day_makes_no_new_row_and_writes_none_again(any_shipped_dsn: str) -> None:
    """Every message of the day comes a second time, in another order and in other batches."""
    async with running(any_shipped_dsn) as path:
        await path.add("aq-1")
        await path.add("fire-1", "fire_detector")
        day = [
            (key, said(minute, **values, seq=minute))
            for minute in range(0, 1440, 10)
            for key, values in (("aq-1", {"pm25": minute % 50, "humidity": 400}), ("fire-1", {"smoke": minute == 700}))
        ]
        await say_all(path, day, AT + timedelta(days=1), together=1)
        before = await everything(path)
        disordered = sorted(day, key=lambda each: each[1][::-1])
        await say_all(path, disordered, AT + timedelta(days=1, hours=1), together=50)
        assert await everything(path) == before


async def say_all(path: Path, messages: list[tuple[str, str]], at: datetime, *, together: int) -> None:
    for first in range(0, len(messages), together):
        async with asyncio.TaskGroup() as group:
            for key, body in messages[first : first + together]:
                group.create_task(path.say(key, body, received_at=at))


async def everything(path: Path) -> list[Any]:
    """Rows with where they physically are: a row that is written again moves."""
    return [
        [tuple(row) for row in await path.pool.fetch(query)]
        for query in (
            "SELECT t.*, t.ctid, t.xmin::text FROM telemetry.air_quality t ORDER BY time",
            "SELECT t.*, t.ctid, t.xmin::text FROM telemetry.fire_detector t ORDER BY time",
            "SELECT run, seqs::text FROM iot.seq_range ORDER BY unit_id",
            "SELECT id, rule, version FROM iot.alarm ORDER BY id",
            "SELECT count(*) FROM iot.held_uplink",
        )
    ]


async def test_a_replay_goes_on_past_an_uplink_that_the_database_refuses(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        for minute in range(9):
            await path.say("aq-1", said(minute, pm25=minute, pm99=1))
        await path.pool.execute("DELETE FROM telemetry.air_quality")
        await path.pool.execute("ALTER TABLE telemetry.air_quality ADD CONSTRAINT poison CHECK (pm25 <> 4)")
        await replayed(path, reason=Reason.UNKNOWN_METRIC)
        assert [row["pm25"] for row in await path.rows()] == [0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0]
        reasons = sorted(reason for reason, _ in await path.held())
        assert reasons == ["refused", *["unknown_metric"] * 8]


async def test_a_preview_counts_and_changes_nothing(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", said(pm98=1, pm99=2, pm10="x"))
        await path.say("stranger", said(pm25=1))
        before = await path.held()
        async with path.pool.acquire() as connection:
            found = await preview(connection, await select(path.pool))
        assert found == {Reason.UNKNOWN_METRIC: (2, 1), Reason.WRONG_TYPE: (1, 1)}
        assert await path.held() == before


async def test_held_is_bounded_by_number_age_and_size(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        for _ in range(20):
            await path.say("aq-1", b"\xff" + os.urandom(100_000), received_at=datetime.now(UTC))
        async with path.pool.acquire() as connection:
            assert await trimmed(connection, rows=15) == 5
            assert await trimmed(connection, megabytes=1) == 5
            await connection.execute(
                "UPDATE iot.held_uplink SET received_at = now() - interval '31 days' WHERE id % 2 = 0"
            )
            assert await trimmed(connection) == 5
            newest = await connection.fetchval("SELECT max(id) FROM iot.held_uplink")
        assert newest == 19


async def test_parts_and_registers_count_for_the_size_of_what_is_held(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("aq-1")
        part = {"x": os.urandom(50_000).hex()}
        rows = [
            held.Held(
                Uplink(driver="mqtt", address="iot:aq-1", payload=f"{n}".encode()),
                Problem(Reason.NO_TIME, part=part),
                None,
                device,
            )
            for n in range(20)
        ]
        async with path.pool.acquire() as connection:
            await held.keep(connection, rows)
            assert 0 < await trimmed(connection, megabytes=1) < 20


async def trimmed(connection: asyncpg.Connection, **bounds: int) -> int:
    return await held.trim(connection, **{"rows": 1000, "days": 30, "megabytes": 1000, **bounds})
