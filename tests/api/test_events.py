"""The stream of what happens: live, without gaps across reconnections, never held up by a slow client."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from iot_core.api import hub
from iot_core.api.hub import HUB
from iot_core.api.shapes import AlarmHappened, AlarmState, DeviceState, MapDevice, Role
from iot_core.api.sse import Message, Parser
from iot_core.client import Client
from iot_core.errors import ConflictError, ForbiddenError, NotFoundError, RequestError
from iot_core.registry import commands
from tests.api.city import City, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRE = '{"smoke": true}'
CALM = '{"smoke": false}'
T = TypeVar("T")


async def test_a_fire_and_the_new_state_of_its_detector_arrive_live_and_it_can_be_acknowledged(city: City) -> None:
    await city.add("smoke-1", name="Chợ Hạ Long", latitude=20.95, longitude=107.07, simulated=True)
    async with city.client("operator") as client, aclosing(client.events()) as events:
        seen = asyncio.create_task(_both(events))
        await _connected(city)
        await city.path.say("smoke-1", FIRE)
        happened, device = await asyncio.wait_for(seen, 20)
        assert (happened.event.kind, happened.alarm.device, happened.alarm.state) == (
            "raised", "smoke-1", AlarmState.UNACKNOWLEDGED
        )  # fmt: skip
        assert (device.key, device.state, device.severity) == ("smoke-1", DeviceState.ALARM, happened.alarm.severity)
        assert (await client.map()).items == (device,)
        assert [each.id for each in (await client.alarms()).items] == [happened.alarm.id]

        taken = await client.acknowledge(happened.alarm.id, version=happened.alarm.version)
        assert (taken.acknowledged_by, taken.state) == ("the operator", AlarmState.ACKNOWLEDGED)
        detail = await client.alarm(happened.alarm.id)
        assert [each.kind for each in detail.events] == ["raised", "acknowledged"]
        with pytest.raises(NotFoundError, match=r"alarm\.not_found"):
            await client.acknowledge(999)
    by = await city.path.pool.fetch("SELECT by FROM iot.audit WHERE action = 'alarm.acknowledge'")
    assert [row["by"] for row in by] == ["the operator"]


async def test_each_step_of_a_command_is_told_with_its_device(city: City) -> None:
    await city.add("smoke-1")
    async with city.client("operator") as client, aclosing(client._stream("/events", after="")) as events:
        first = asyncio.create_task(_step(events))
        await _connected(city)
        async with city.path.pool.acquire() as connection:
            device = await connection.fetchval("SELECT id FROM iot.device")
            later = datetime.now(UTC) + timedelta(hours=1)
            number, _ = await commands.create(
                connection, "silence", {}, [commands.New(device_id=device)], by="an", expires_at=later
            )
            queued = await asyncio.wait_for(first, 20)
            (row,) = await commands.list_commands(connection, order_id=number)
            assert queued == {
                "id": row.id, "device": "smoke-1", "name": "silence", "params": {}, "state": "queued", "detail": "",
            }  # fmt: skip
            await commands.note(connection, [commands.Step(id=row.id, state="sent", at=datetime.now(UTC))])
            assert (await asyncio.wait_for(_step(events), 20))["state"] == "sent"


async def _step(events: AsyncIterator[Message]) -> dict[str, Any]:
    async for message in events:
        if message.event == "command":
            found: dict[str, Any] = json.loads(message.data)
            return found
    raise AssertionError("the stream ended")


async def test_an_alarm_that_changed_since_the_person_looked_is_not_acknowledged(city: City) -> None:
    await city.add("smoke-1")
    await city.path.say("smoke-1", FIRE)
    async with city.client() as client:
        alarm = (await client.alarms(device="smoke-1")).items[0]
        with pytest.raises(ConflictError, match=r"alarm\.changed"):
            await client.acknowledge(alarm.id, version=alarm.version + 1)


async def test_a_client_that_comes_back_gets_what_it_missed_once_and_in_order(city: City) -> None:
    for n in range(4):
        await city.add(f"smoke-{n}")
    async with city.client() as client:
        async with aclosing(client.events()) as events:
            first = asyncio.ensure_future(anext(_alarms(events)))
            await _connected(city)
            await city.path.say("smoke-0", FIRE)
            seen = await asyncio.wait_for(first, 20)
        await _disconnected(city)
        for n in (1, 2):
            await city.path.say(f"smoke-{n}", FIRE)
        async with aclosing(client.events(after=str(seen.event.id))) as events:
            alarms = _alarms(events)
            missed = [await asyncio.wait_for(anext(alarms), 20) for _ in range(2)]
            await city.path.say("smoke-3", FIRE)
            live = await asyncio.wait_for(anext(alarms), 20)
    assert [each.alarm.device for each in (*missed, live)] == ["smoke-1", "smoke-2", "smoke-3"]


async def test_the_log_in_memory_replays_while_others_stay_connected(city: City) -> None:
    for n in range(3):
        await city.add(f"smoke-{n}")
    async with city.client() as client, aclosing(client.events()) as stays:
        staying = _alarms(stays)
        first = asyncio.ensure_future(anext(staying))
        await _connected(city)
        await city.path.say("smoke-0", FIRE)
        seen = await asyncio.wait_for(first, 20)
        await city.path.say("smoke-1", FIRE)
        assert (await asyncio.wait_for(anext(staying), 20)).alarm.device == "smoke-1"
        async with aclosing(client.events(after=str(seen.event.id))) as events:
            alarms = _alarms(events)
            assert (await asyncio.wait_for(anext(alarms), 20)).alarm.device == "smoke-1"
            await city.path.say("smoke-2", FIRE)
            assert (await asyncio.wait_for(anext(alarms), 20)).alarm.device == "smoke-2"


async def test_events_that_happen_while_the_listening_connection_is_lost_are_told_after_it(city: City) -> None:
    for n in range(2):
        await city.add(f"smoke-{n}")
    async with city.client() as client, aclosing(client.events()) as events:
        alarms = _alarms(events)
        first = asyncio.ensure_future(anext(alarms))
        await _connected(city)
        await city.path.say("smoke-0", FIRE)
        assert (await asyncio.wait_for(first, 20)).alarm.device == "smoke-0"
        await city.path.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        await city.path.say("smoke-1", FIRE)
        assert (await asyncio.wait_for(anext(alarms), 20)).alarm.device == "smoke-1"


async def test_a_thousand_events_of_one_statement_are_all_told(city: City) -> None:
    await city.add("smoke-1")
    heard: list[str] = []
    pool = city.path.pool

    def hear(*said: Any) -> None:
        heard.append(said[-1])

    async with pool.acquire() as connection:
        await connection.add_listener("iot_alarm", hear)
        await city.path.say("smoke-1", FIRE)
        await pool.execute(
            "INSERT INTO iot.alarm_event (alarm_id, kind, at)"
            " SELECT 1, 'commented', now() FROM generate_series(1, 1000)"
        )
        async with asyncio.timeout(20):
            while len(ids := [int(each) for payload in heard for each in payload.split(",")]) < 1001:
                await connection.execute("SELECT")
        await connection.remove_listener("iot_alarm", hear)
    assert ids == sorted(set(ids))
    assert len(heard) < 10, "not one notice for each"


async def test_a_retired_device_leaves_the_map(city: City) -> None:
    await city.add("smoke-1")
    async with city.client() as client, aclosing(client.events()) as events:
        first = asyncio.ensure_future(anext(events))
        await _connected(city)
        await client.remove_device("smoke-1")
        device = await asyncio.wait_for(first, 20)
    assert isinstance(device, MapDevice)
    assert (device.key, device.state) == ("smoke-1", DeviceState.RETIRED)


async def test_a_client_with_a_full_queue_is_dropped_and_counted_and_nobody_waits_for_it(city: City) -> None:
    told = city.app[HUB]
    async with told.subscribe("") as (slow, missed):
        assert missed == ()
        for n in range(hub._QUEUE + 5):
            told._tell(Message("alarm", str(n), str(n)))
        assert slow.dropped.is_set()
        assert await slow.next(1) == Message("alarm", "0", "0")
    assert city.path.counters.total("sse_dropped") == 1


async def test_nobody_is_listened_for_when_nobody_listens(city: City) -> None:
    async with city.app[HUB].subscribe(""):
        assert city.app[HUB]._listening.is_set()
    await until(lambda: _quiet(city))


async def test_a_nonsensical_last_id_is_as_none(city: City) -> None:
    for last_id in ("x", "-1", "9" * 30, "１"):
        async with city.app[HUB].subscribe(last_id) as (_, missed):
            assert missed == ()


async def test_a_watched_device_shows_its_newest_reading_then_each_new_or_changed_one(city: City) -> None:
    await city.add("air-1", "air_quality")
    first, second = ((datetime.now(UTC) - timedelta(minutes=ago)).isoformat() for ago in (2, 1))
    await city.path.say("air-1", json.dumps({"pm25": 10.5, "time": first}))
    async with city.client("viewer") as client, aclosing(client.watch("air-1")) as readings:
        newest = await asyncio.wait_for(anext(readings), 20)
        assert (newest.device, newest.values) == ("air-1", {"pm25": 10.5})
        await city.path.say("air-1", json.dumps({"pm25": 11.5, "time": second}))
        assert (await asyncio.wait_for(anext(readings), 20)).values == {"pm25": 11.5}
        await city.path.say("air-1", json.dumps({"temperature": 21.5, "time": second}))
        assert (await asyncio.wait_for(anext(readings), 20)).values == {"pm25": 11.5, "temperature": 21.5}
        with pytest.raises(NotFoundError):
            await anext(client.watch("nobody"))


async def test_streams_end_when_the_core_stops(city: City) -> None:
    async with city.client() as client:
        ended = asyncio.create_task(_drain(client.events(reconnect=False)))
        await _connected(city)
        city.app[HUB].close()
        await asyncio.wait_for(ended, 30)


async def test_a_stream_ends_with_the_token_that_opened_it(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_core.api.stream._CHECK_S", 0.0)
    async with city.client() as client:
        made = await client.add_token("wall", Role.VIEWER)
        async with Client(city.url, made.secret, lang="en") as wall:
            ended = asyncio.create_task(_drain(wall.events()))
            await _connected(city)
            await client.revoke_token(made.token.id)
            with pytest.raises(ForbiddenError, match=r"api\.unauthorized"):
                await asyncio.wait_for(ended, 20)


async def test_a_client_without_a_core_says_what_to_do() -> None:
    async with Client("http://127.0.0.1:9", "x", lang="en") as client:
        with pytest.raises(RequestError, match=r"api\.unreachable") as caught:
            await client.me()
        with pytest.raises(RequestError, match=r"api\.unreachable"):
            await anext(client.events())
    assert caught.value.facts["url"] == "http://127.0.0.1:9"


def test_messages_survive_any_cut_of_the_stream() -> None:
    said = [Message("alarm", '{"a": "ố"}', "7"), Message("device", "{}")]
    wire = b": alive\n\n" + b"".join(each.encode() for each in said) + b"id: 9\nevent: x\ndata: cut"
    for cut in range(len(wire)):
        parser = Parser()
        assert [*parser.feed(wire[:cut]), *parser.feed(wire[cut:])] == said


def test_a_message_takes_other_line_ends_and_more_lines() -> None:
    parser = Parser()
    assert list(parser.feed(b"data: a\r\ndata:b\r\nretry: 5\r\n\r\n")) == [Message("message", "a\nb")]


# ---------------------------------------------------------------- ways to wait
async def _both(events: AsyncIterator[AlarmHappened | MapDevice]) -> tuple[AlarmHappened, MapDevice]:
    """Read until there was an alarm event and a device in alarm."""
    happened: AlarmHappened | None = None
    device: MapDevice | None = None
    async for each in events:
        if isinstance(each, AlarmHappened):
            happened = each
        elif each.state is DeviceState.ALARM:
            device = each
        if happened is not None and device is not None:
            return happened, device
    raise AssertionError("the stream ended")


async def _alarms(events: AsyncIterator[AlarmHappened | MapDevice]) -> AsyncIterator[AlarmHappened]:
    async for each in events:
        if isinstance(each, AlarmHappened):
            yield each


async def _drain(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


async def _connected(city: City) -> None:
    async def listening() -> bool:
        return bool(city.app[HUB]._subscribers) and city.app[HUB]._listening.is_set()

    await until(listening)


async def _disconnected(city: City) -> None:
    async def nobody() -> bool:
        return not city.app[HUB]._subscribers

    await until(nobody)


async def _quiet(city: City) -> bool:
    return not city.app[HUB]._listening.is_set()
