"""Held over HTTP: searched, shown whole, replayed with a preview, by those who may."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.api.shapes import HeldReplay
from iot_core.errors import ForbiddenError, NotFoundError, RequestError
from iot_core.model import Reason
from tests.api.city import City

NOW = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


async def test_held_is_found_by_device_reason_and_time_and_page_after_page(city: City) -> None:
    for key in ("aq-1", "aq-2"):
        await city.add(key, "air_quality")
        for hour in range(3):
            await city.path.say(key, json.dumps({"pm25": "x", "smell": 1}), received_at=NOW + timedelta(hours=hour))
    async with city.client("viewer") as client:
        assert (await client.held()).total == 12
        found = await client.held(device="aq-1", reason=Reason.WRONG_TYPE, start=NOW, end=NOW + timedelta(hours=2))
        assert [(each.device, each.reason, each.received_at) for each in found.items] == [
            ("aq-1", "wrong_type", NOW + timedelta(hours=1)),
            ("aq-1", "wrong_type", NOW),
        ]
        seen: list[int] = []
        while page := (await client.held(limit=5, before=seen[-1] if seen else None)).items:
            seen += [each.id for each in page]
        assert seen == sorted(seen, reverse=True)
        assert len(set(seen)) == 12


async def test_one_is_shown_with_every_byte_and_its_other_parts(city: City) -> None:
    await city.add("aq-1", "air_quality")
    body = json.dumps({"pm25": "x", "smell": 1, "note": "ồn ào " * 1000}, ensure_ascii=False)
    await city.path.say("aq-1", body)
    async with city.client("viewer") as client:
        listed = (await client.held()).items
        found = await client.held_one(listed[0].id)
        with pytest.raises(NotFoundError, match=r"held\.no_such"):
            await client.held_one(999)
    assert found.payload == body
    assert bytes.fromhex(found.hex).decode() == body
    assert set(found.others) == {each.id for each in listed} - {found.id}
    assert len(listed[0].payload) < 2_001


async def test_a_replay_is_previewed_done_in_steps_recorded_and_not_for_viewers(city: City) -> None:
    await city.add("aq-1", "air_quality")
    await city.path.say("aq-1", json.dumps({"time": NOW.isoformat(), "pm25": 1}))
    await city.path.say("aq-1", json.dumps({"time": NOW.isoformat(), "pm25": 2}))
    chosen = HeldReplay(device="aq-1")
    async with city.client("viewer") as client:
        with pytest.raises(ForbiddenError):
            await client.preview_replay(chosen)
    async with city.client("technician") as client:
        with pytest.raises(RequestError, match=r"held\.choose"):
            await client.preview_replay(HeldReplay())
        (count,) = (await client.preview_replay(chosen)).reasons
        assert (count.reason, count.parts, count.uplinks) == ("conflict", 1, 1)
        steps = [step async for step in client.replay_held(chosen)]
        assert [(step.uplinks, step.stored, step.held, step.after) for step in steps] == [(1, 1, 0, None)]
        assert (await client.preview_replay(chosen)).reasons == ()
    assert [row["pm25"] for row in await city.path.rows()] == [2.0]
    assert await city.path.pool.fetchval("SELECT by FROM iot.audit WHERE action = 'held.replay'") == "the technician"
