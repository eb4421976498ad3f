"""What arrives is stored once, in its right place and quality; what cannot be used is held with its reason."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from iot_core.ingest.replay import replay_address
from iot_core.model import Reason, Uplink
from iot_core.registry import maintenance
from iot_core.store.status import forget_presence
from tests.ingest.harness import running

AT = "2026-11-20T08:00:00+07:00"
AT_UTC = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 1, 0, 5, tzinfo=UTC)


def said(**values: Any) -> str:
    return json.dumps({"time": AT, **values})


async def test_a_reading_is_stored_with_its_own_time_on_every_tier(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        device = await path.add("aq-1")
        outcome = await path.say("aq-1", said(pm25=37.4, humidity=71), received_at=NOW)
        (row,) = await path.rows()
        assert outcome.stored == 1
        assert (row["device_id"], row["time"], row["received_at"]) == (device, AT_UTC, NOW)
        assert (row["pm25"], row["humidity"], row["quality"]) == (pytest.approx(37.4), 71.0, 0)


async def test_a_fire_waits_for_nothing_that_others_said(dsn: str) -> None:
    async with running(dsn) as path:
        station = await path.add("aq-1")
        await path.add("smoke-1", "fire_detector")
        assert (await path.say("aq-1", said(pm25=1))).stored == 1
        other = await asyncpg.connect(dsn)
        holding = other.transaction()
        await holding.start()
        await other.execute("SELECT FROM iot.device_status WHERE device_id = $1 FOR UPDATE", station)
        waits = asyncio.create_task(path.say("aq-1", '{"pm25": 2}'))
        fire = await path.say("smoke-1", '{"smoke": true}')
        assert (fire.stored, waits.done(), path.ingest.idle) == (1, False, False)
        assert await path.pool.fetchval("SELECT count(*) FROM iot.alarm WHERE rule = 'fire_detector.smoke'") == 1
        await holding.rollback()
        await other.close()
        assert (await waits).stored == 1
        await path.ingest.drain()


async def test_what_is_acknowledged_is_committed(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        seen: list[int] = []
        other = await asyncpg.connect(dsn)

        async def done(_: object) -> None:
            seen.append(await other.fetchval("SELECT count(*) FROM telemetry.air_quality"))

        uplink = Uplink(driver="mqtt", address="iot:aq-1", payload=said(pm25=1).encode(), done=done)
        await path.ingest.emit(uplink)
        async with asyncio.timeout(60):
            await path.ingest.drain()
        await other.close()
        assert seen == [1]


async def test_a_redelivered_message_makes_no_second_row(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        for _ in range(3):
            outcome = await path.say("aq-1", said(pm25=37.4, seq=7))
            assert (outcome.stored, list(outcome.problems)) == (1, [])
        assert len(await path.rows()) == 1


async def test_without_time_the_number_tells_a_redelivery(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        for run, seq in (("a", 1), ("a", 2), ("a", 1), ("b", 1)):
            await path.say("aq-1", json.dumps({"pm25": seq, "seq": seq, "run": run}))
        rows = await path.rows()
        assert [row["pm25"] for row in rows] == [1.0, 2.0, 1.0]
        assert {row["quality"] for row in rows} == {1}
        ranges = await path.pool.fetch("SELECT run, seqs::text AS seqs FROM iot.seq_range ORDER BY run")
        assert [tuple(row) for row in ranges] == [("a", "{[1,3)}"), ("b", "{[1,2)}")]


async def test_the_number_of_what_is_held_is_on_record_too(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", json.dumps({"pm25": None, "seq": 4}))
        await path.say("aq-1", json.dumps({"time": "2024-01-01T00:00:00Z", "pm25": 1, "seq": 5}), received_at=NOW)
        assert await path.pool.fetchval("SELECT seqs::text FROM iot.seq_range") == "{[4,6)}"


async def test_each_element_of_an_array_needs_its_own_time(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        later = "2026-11-20T08:01:00+07:00"
        outcome = await path.say("aq-1", json.dumps([{"time": AT, "pm25": 1}, {"pm25": 2}, {"time": later, "pm25": 3}]))
        assert outcome.stored == 2
        assert [reason for reason, _ in await path.held()] == ["no_time"]
        assert [row["pm25"] for row in await path.rows()] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("time", "why"),
    [
        (None, "none said"),
        ("1999-01-01T00:00:00Z", "clock not set"),
        ("2031-01-01T00:00:00Z", "future"),
        ("soon", "no time"),
    ],
)
async def test_a_time_that_cannot_be_believed_becomes_arrival_and_uncertain(
    dsn: str, time: str | None, why: str
) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", json.dumps({"time": time, "pm25": 5}), received_at=NOW)
        (row,) = await path.rows()
        assert (row["time"], row["quality"]) == (NOW, 1), why


async def test_a_reading_older_than_the_window_is_held_not_moved(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        outcome = await path.say("aq-1", json.dumps({"time": "2024-01-01T00:00:00Z", "pm25": 5}), received_at=NOW)
        assert outcome.stored == 0
        assert await path.held() == [("too_old", {"pm25": 5})]
        assert await path.rows() == []


BAD: list[tuple[str, bytes, list[str], int]] = [
    ("unknown metric", said(pm25=1, pm99=2).encode(), ["unknown_metric"], 1),
    ("wrong type", said(pm25="high", pm10=2).encode(), ["wrong_type"], 1),
    ("a bool is no number", said(pm25=True).encode(), ["wrong_type"], 0),
    ("NaN", f'{{"time":"{AT}","pm25":NaN,"pm10":4}}'.encode(), ["not_finite"], 1),
    ("infinity", f'{{"time":"{AT}","pm25":1e999,"pm10":4}}'.encode(), ["not_finite"], 1),
    ("beyond any column", said(pm25=1e300, pm10=4).encode(), ["wrong_type"], 1),
    ("not JSON", b"PM2.5 is high", ["not_json"], 0),
    ("empty", b"", ["empty"], 0),
    ("null", b"null", ["not_an_object"], 0),
    ("a number", b"42", ["not_an_object"], 0),
    ("invalid UTF-8", b'{"pm25": 1, "x": "\xff\xfe"}', ["not_text"], 0),
    ("300 kB", said(pm25=1, note="x" * 300_000).encode(), ["too_large"], 0),
    ("deep nesting", b'{"pm25":' + b"[" * 5000 + b"]" * 5000 + b"}", ["too_deep"], 0),
    ("a NUL in text", said(pm25="a\0b", pm10=4).encode(), ["wrong_type"], 1),
    ("nothing but time", said().encode(), ["no_values"], 0),
    ("all unknown", said(pm25=None).encode(), ["no_values"], 0),
]


@pytest.mark.parametrize(("what", "payload", "reasons", "stored"), BAD, ids=[each[0] for each in BAD])
async def test_bad_input_is_held_with_its_reason_and_the_good_is_stored(
    dsn: str, what: str, payload: bytes, reasons: list[str], stored: int
) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        outcome = await path.say("aq-1", payload, received_at=NOW)
        assert outcome.stored == stored, what
        assert [reason for reason, _ in await path.held()] == reasons
        assert len(await path.rows()) == stored
        kept = await path.pool.fetchval("SELECT payload FROM iot.held_uplink LIMIT 1")
        assert kept == payload


async def test_an_implausible_value_is_stored_and_marked(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", said(humidity=140, pm25=3))
        (row,) = await path.rows()
        bit = await path.pool.fetchval(
            "SELECT bit FROM iot.metric WHERE class_key = 'air_quality' AND key = 'humidity'"
        )
        assert (row["humidity"], row["bad"]) == (140.0, 1 << bit)


async def test_a_conflict_keeps_the_first_and_holds_the_second(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.say("aq-1", said(pm25=1))
        outcome = await path.say("aq-1", said(pm25=2, pm10=9))
        assert [problem.reason.value for problem in outcome.problems] == ["conflict"]
        (row,) = await path.rows()
        assert (row["pm25"], row["pm10"]) == (1.0, 9.0)
        assert await path.held() == [("conflict", {"pm25": 2.0})]
        await path.say("aq-1", said(pm25=2, correction=True))
        assert (await path.rows())[0]["pm25"] == 2.0


async def test_a_fire_that_contradicts_another_reading_of_its_second_still_raises(dsn: str) -> None:
    """Both orders, in one batch and in two: the second value is held, but a fire is never lost with it."""
    async with running(dsn) as path:
        for number, values in enumerate([(True, False), (False, True)]):
            for together in (True, False):
                key = f"fire-{number}-{together}".lower()
                device = await path.add(key, "fire_detector")
                if together:
                    async with asyncio.TaskGroup() as group:
                        for smoke in values:
                            group.create_task(path.say(key, said(smoke=smoke), received_at=NOW))
                else:
                    for smoke in values:
                        await path.say(key, said(smoke=smoke), received_at=NOW)
                raised = await path.pool.fetchval("SELECT count(*) FROM iot.alarm WHERE device_id = $1", device)
                assert raised == 1, key


async def test_a_retained_message_restores_presence_only(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("fire-1", "fire_detector")
        await path.say("fire-1", said(smoke=True), retained=True)
        await path.say("fire-1", b"offline", kind="status", retained=True)
        assert await path.rows("fire_detector") == []
        assert await path.pool.fetchval("SELECT count(*) FROM iot.alarm") == 0
        assert await path.pool.fetchval("SELECT online FROM iot.device_status WHERE device_id = $1", device) is False


async def test_presence_that_was_forgotten_comes_back_by_the_device_s_own_word_only(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("fire-1", "fire_detector")

        async def online() -> bool | None:
            query = "SELECT online FROM iot.device_status WHERE device_id = $1"
            found: bool | None = await path.pool.fetchval(query, device)
            return found

        await path.say("fire-1", b"online", kind="status")
        await forget_presence(path.pool, stale=True)
        assert await online() is None
        await path.say("fire-1", b"online", kind="status", retained=True)
        assert await online() is None, "said before the broker ended"
        await path.say("fire-1", b"online", kind="status")
        assert await online() is True
        await path.say("fire-1", b"offline", kind="status")
        await forget_presence(path.pool, stale=True)
        assert await online() is False, "nobody has to come back for that to be true"
        await path.say("fire-1", b"online", kind="status")
        await forget_presence(path.pool, stale=False)
        await path.say("fire-1", b"online", kind="status", retained=True)
        assert await online() is True, "this broker keeps nothing: it was said since"


async def test_a_poison_row_is_held_alone_and_its_neighbours_are_stored(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.pool.execute("ALTER TABLE telemetry.air_quality ADD CONSTRAINT poison CHECK (pm25 <> 13)")
        minutes = range(40)
        async with asyncio.TaskGroup() as group:
            for minute in minutes:
                body = {"time": (AT_UTC + timedelta(minutes=minute)).isoformat(), "pm25": minute}
                group.create_task(path.say("aq-1", json.dumps(body)))
        assert [row["pm25"] for row in await path.rows()] == [float(minute) for minute in minutes if minute != 13]
        assert [reason for reason, _ in await path.held()] == ["refused"]


async def test_an_unknown_sender_waits_in_the_inbox_and_is_stored_when_registered(dsn: str) -> None:
    async with running(dsn) as path:
        outcome = await path.say("stranger", said(pm25=8), received_at=NOW)
        assert (outcome.stored, outcome.recognised) == (0, False)
        inbox = await path.pool.fetchrow("SELECT * FROM iot.inbox")
        assert (inbox["address"], inbox["messages"]) == ("iot:stranger", 1)
        await path.add("stranger")
        assert await replay_address(path.pool, path.prepare, path.flush, "iot:stranger") == 1
        (row,) = await path.rows()
        assert (row["pm25"], row["time"], row["received_at"]) == (8.0, AT_UTC, NOW)
        assert await path.pool.fetchval("SELECT count(*) FROM iot.inbox") == 0


async def test_an_unknown_sender_cannot_fill_the_store(dsn: str) -> None:
    async with running(dsn) as path:
        async with asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(path.say("stranger", said(pm25=8)))
        assert await path.pool.fetchval("SELECT count(*) FROM iot.held_uplink") == 200
        assert path.counters.total("ingest_unknown_dropped") == 100


async def test_what_an_exchanged_unit_still_had_queued_is_stored_as_its_own(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("aq-1")
        exchanged = datetime(2026, 11, 20, 0, 30, tzinfo=UTC)
        old = await path.pool.fetchval("UPDATE iot.unit SET mounted_to = $1 RETURNING id", exchanged)
        new = await path.pool.fetchval(
            "INSERT INTO iot.unit (device_id, profile, address, mounted_from)"
            " VALUES ($1, 'native-air-quality', 'iot:aq-1', $2) RETURNING id",
            device,
            exchanged,
        )
        await path.reload()
        await path.say("aq-1", json.dumps({"time": "2026-11-20T00:10:00Z", "pm25": 1, "seq": 9}), received_at=NOW)
        await path.say("aq-1", json.dumps({"time": "2026-11-20T00:50:00Z", "pm25": 2, "seq": 1}), received_at=NOW)
        ranges = await path.pool.fetch("SELECT unit_id, seqs::text AS seqs FROM iot.seq_range ORDER BY unit_id")
        assert [tuple(row) for row in ranges] == [(old, "{[9,10)}"), (new, "{[1,2)}")]
        assert [row["device_id"] for row in await path.rows()] == [device, device]


async def test_what_a_unit_still_had_queued_is_its_own_though_its_follower_speaks_elsewhere(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("aq-1")
        exchanged = datetime(2026, 11, 20, 0, 30, tzinfo=UTC)
        old = await path.pool.fetchval("UPDATE iot.unit SET mounted_to = $1 RETURNING id", exchanged)
        await path.pool.execute(
            "INSERT INTO iot.unit (device_id, profile, address, mounted_from)"
            " VALUES ($1, 'native-air-quality', 'lorawan:01', $2)",
            device,
            exchanged,
        )
        await path.reload()
        queued = [{"time": f"2026-11-20T00:{minute}:00Z", "pm25": minute, "seq": minute} for minute in (10, 50)]
        outcome = await path.say("aq-1", json.dumps(queued), received_at=NOW)
        assert (outcome.stored, [each.reason for each in outcome.problems]) == (1, [Reason.UNKNOWN_ADDRESS])
        assert [(row["device_id"], row["pm25"]) for row in await path.rows()] == [(device, 10.0)]
        assert await path.pool.fetchval("SELECT unit_id FROM iot.seq_range") == old
        for stranger in ({"pm25": 3}, queued[1], "online"):  # no time of its own, or one at which it hung there no more
            await path.say("aq-1", json.dumps(stranger), received_at=NOW)
        await path.pool.execute("UPDATE iot.device SET retired_at = now(), lifecycle = 'retired'")
        await path.reload()
        await path.say("aq-1", json.dumps({"time": "2026-11-20T00:12:00Z", "pm25": 4}), received_at=NOW)
        assert len(await path.rows()) == 1
        assert await path.pool.fetchval("SELECT count(*) FROM iot.inbox") == 1


async def test_latest_looks_only_for_what_a_device_ever_said(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        device = await path.add("aq-1")
        await path.say("aq-1", json.dumps({"time": "2026-11-20T01:00:00Z", "pm25": 1, "co2": 400}), received_at=NOW)
        await path.say("aq-1", json.dumps({"time": "2026-11-20T01:00:02Z", "pm25": 2}), received_at=NOW)
        await path.say("aq-1", json.dumps({"time": "2026-11-20T01:00:01Z", "pm25": 3, "humidity": 5}), received_at=NOW)
        found = await path.pool.fetch("SELECT metric, value FROM telemetry.latest ORDER BY metric")
        assert [tuple(row) for row in found] == [("co2", 400.0), ("humidity", 5.0), ("pm25", 2.0)]
        said = await path.pool.fetchval("SELECT said FROM iot.device_status WHERE device_id = $1", device)
        assert said.bit_count() == 3


async def test_garbage_from_a_device_shows_that_it_lives(dsn: str) -> None:
    async with running(dsn) as path:
        device = await path.add("aq-1")
        await path.say("aq-1", b"???", received_at=NOW)
        heard = await path.pool.fetchval("SELECT last_received_at FROM iot.device_status WHERE device_id = $1", device)
        assert heard == NOW


async def test_a_fire_commits_with_its_alarm_and_redelivery_adds_nothing(any_shipped_dsn: str) -> None:
    async with running(any_shipped_dsn) as path:
        await path.add("fire-1", "fire_detector")
        for _ in range(3):
            await path.say("fire-1", said(smoke=True, seq=1), received_at=NOW)
        alarms = await path.pool.fetch("SELECT rule, severity, raised_at FROM iot.alarm")
        assert [tuple(row) for row in alarms] == [("fire_detector.smoke", "critical", AT_UTC)]


async def test_what_is_measured_while_somebody_works_at_its_device_is_kept_and_marked(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        now = datetime.now(UTC)
        async with path.pool.acquire() as connection:
            await maintenance.begin(connection, devices=["aq-1"], starts=now, ends=now + timedelta(hours=1), by="an")
        await path.reload()
        inside = now + timedelta(seconds=1)
        await path.say("aq-1", json.dumps({"time": inside.isoformat(), "pm25": 5}))
        payload = json.dumps([{"time": (now - timedelta(minutes=1)).isoformat(), "pm25": 4}])
        await path.say("aq-1", payload)
        rows = await path.rows()
    assert [(row["pm25"], row["quality"], row["extra"]) for row in rows] == [
        (4.0, 0, None), (5.0, 0, {"window": "maintenance:1"})
    ]  # fmt: skip
