"""No message may end the worker: it would come again after each start, and the rest of its batch with it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import cbor2
import pytest

from iot_core.model import Decoded, Reason
from iot_core.profiles import Profile
from tests.core import until
from tests.ingest.harness import Path, running

AT = "2026-11-20T08:00:00+07:00"
FRAME_COUNT = {"deviceInfo": {"devEui": "a1"}, "fPort": 85, "data": "AXVk", "time": AT}

NATIVE: dict[str, tuple[bytes, int | None, int, list[str]]] = {
    "400 digits": (f'{{"time":"{AT}","pm25":{"1" * 400},"pm10":5}}'.encode(), None, 1, ["not_finite"]),
    "20 digits": (f'{{"time":"{AT}","pm25":5,"x":{"1" * 20}}}'.encode(), None, 1, ["unknown_metric"]),
    "a SenML value of 400 digits": (
        f'[{{"n":"co","u":"ppm","v":{"1" * 400}}},{{"n":"pm10","v":5}}]'.encode(), 110, 1, ["not_finite"],
    ),
    "a SenML time of 400 digits": (
        f'[{{"n":"co","v":4,"t":{"1" * 400}}},{{"n":"pm10","v":5}}]'.encode(), 110, 1, ["bad_time"],
    ),
    "a CBOR key that is a number": (cbor2.dumps({"pm10": 5, 7: 1}), 60, 1, ["unknown_metric"]),
    "the largest number": (f'{{"time":"{AT}","pm25":5,"seq":{2**63 - 1}}}'.encode(), None, 1, ["bad_field"]),
    "the largest number kept": (f'{{"time":"{AT}","pm25":5,"seq":{2**63 - 2}}}'.encode(), None, 1, []),
}  # fmt: skip


async def the_next_is_stored(path: Path, key: str) -> None:
    outcome = await path.say(key, json.dumps({"time": "2026-11-20T09:00:00+07:00", "pm25": 1}))
    assert outcome.stored == 1


@pytest.mark.parametrize("what", NATIVE)
async def test_what_is_good_in_a_hostile_message_is_stored(dsn: str, what: str) -> None:
    payload, content_format, stored, reasons = NATIVE[what]
    async with running(dsn) as path:
        await path.add("aq-1")
        outcome = await path.say("aq-1", payload, content_format=content_format)
        assert outcome.stored == stored
        assert [reason for reason, _ in await path.held()] == reasons
        await the_next_is_stored(path, "aq-1")


@pytest.mark.parametrize(
    "more", [{"fCnt": 2**63 - 1}, {"fCnt": 2**70}, {"fCnt": 1, "devAddr": "a\0b"}], ids=["too large", "huge", "NUL"]
)
async def test_a_frame_counter_that_no_range_can_keep_costs_nothing_but_the_counter(
    dsn: str, more: dict[str, Any]
) -> None:
    async with running(dsn) as path:
        await path.add("wm-1", "water_meter", "milesight-em300-di", "lorawan:a1")
        outcome = await path.say("", json.dumps({**FRAME_COUNT, **more}), address="lorawan:a1")
        assert (outcome.stored, await path.held()) == (1, [])


async def test_what_a_device_says_that_was_just_taken_out_of_the_registry_is_held(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        gone = await path.add("aq-2")
        await path.pool.execute("DELETE FROM iot.unit WHERE device_id = $1", gone)
        await path.pool.execute("DELETE FROM iot.device WHERE id = $1", gone)
        async with asyncio.TaskGroup() as group:
            told = group.create_task(path.say("aq-2", json.dumps({"time": AT, "pm25": 5, "seq": 7})))
            group.create_task(the_next_is_stored(path, "aq-1"))
        assert [problem.reason for problem in told.result().problems] == [Reason.REFUSED]
        assert await path.pool.fetchval("SELECT count(*) FROM iot.held_uplink WHERE address = 'iot:aq-2'") == 1


async def test_what_can_be_neither_stored_nor_held_is_kept_as_bytes_and_acknowledged(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.pool.execute("ALTER TABLE telemetry.air_quality ADD CHECK (pm25 <> 666)")
        await path.pool.execute("ALTER TABLE iot.held_uplink ADD CHECK (unit_id IS NULL) NOT VALID")
        poison = json.dumps({"time": AT, "pm25": 666, "seq": 1})
        async with asyncio.TaskGroup() as group:
            told = group.create_task(path.say("aq-1", poison))
            group.create_task(the_next_is_stored(path, "aq-1"))
        assert [problem.reason for problem in told.result().problems] == [Reason.REFUSED]
        row = await path.pool.fetchrow("SELECT address, reason, payload, unit_id FROM iot.held_uplink")
        assert tuple(row) == ("iot:aq-1", "refused", poison.encode(), None)
        assert await path.pool.fetchval("SELECT count(*) FROM iot.seq_range") == 0
        assert path.counters.total("ingest_held_as_bytes") == 1


async def test_a_store_that_keeps_nothing_at_all_is_away_until_it_does(dsn: str) -> None:
    async with running(dsn) as path:
        await path.add("aq-1")
        await path.pool.execute("ALTER TABLE telemetry.air_quality ADD CHECK (pm25 <> 666)")
        await path.pool.execute("ALTER TABLE iot.held_uplink ADD CONSTRAINT nothing CHECK (false)")
        async with asyncio.TaskGroup() as group:
            told = group.create_task(path.say("aq-1", json.dumps({"time": AT, "pm25": 666})))
            await until(lambda: path.ingest.away_since)
            assert not told.done()
            await path.pool.execute("ALTER TABLE iot.held_uplink DROP CONSTRAINT nothing")
        assert [problem.reason for problem in told.result().problems] == [Reason.REFUSED]
        assert path.ingest.away_since is None


async def test_a_decoder_that_fails_costs_its_own_message_only(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Profile.decode

    def faulty(self: Profile, uplink: Any, trace: Any = None) -> Decoded:
        if uplink.payload == b"poison":
            raise ZeroDivisionError
        return sound(self, uplink, trace)

    monkeypatch.setattr(Profile, "decode", faulty)
    async with running(dsn) as path:
        await path.add("aq-1")
        async with asyncio.TaskGroup() as group:
            group.create_task(path.say("aq-1", b"poison"))
            group.create_task(the_next_is_stored(path, "aq-1"))
        assert [reason for reason, _ in await path.held()] == ["wrong_format"]
        assert len(await path.rows()) == 1
