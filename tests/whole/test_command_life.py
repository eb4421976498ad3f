"""A command lives in its table: queued until its device is there, sent, delivered, done, and true at every step."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiocoap
import aiomqtt
import pytest

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from iot_core.commanding import sender
from iot_core.errors import ConflictError, RequestError
from iot_core.model import CommandState
from iot_core.registry import commands, users
from iot_core.registry.tokens import create
from tests.core import core_running, forked, until
from tests.drivers.modbus_peer import Memory, peer

pytestmark = pytest.mark.timeout(120)
Free = Callable[[int], int]
IOT = (sys.executable, "-m", "iot_core.cli")


class Lamp:
    """A native lamp: notes what it hears, answers what the test wants."""

    def __init__(self, core: Core, key: str, secret: str) -> None:
        self.key = key
        self.heard: list[dict[str, Any]] = []
        self._core = core
        self._secret = secret
        self._client: aiomqtt.Client | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        broker = self._core.broker
        self._client = await self._stack.enter_async_context(
            aiomqtt.Client(broker.host, broker.port, username=self.key, password=self._secret, identifier=self.key)
        )
        await self._client.subscribe(f"iot/v1/{self.key}/commands", qos=1)
        listening = asyncio.create_task(self._listen())
        self._stack.push_async_callback(_ended, listening)
        await self.publish("status", "online", retain=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.publish("status", "offline", retain=True)
        await self._stack.aclose()

    async def publish(self, tail: str, body: Any, *, retain: bool = False) -> None:
        assert self._client is not None
        payload = body if isinstance(body, str) else json.dumps(body)
        await self._client.publish(f"iot/v1/{self.key}/{tail}", payload, qos=1, retain=retain)

    async def answers(self, state: str, detail: str = "") -> None:
        await self.publish("commands/result", {"id": self.heard[-1]["id"], "state": state, "detail": detail})

    async def _listen(self) -> None:
        assert self._client is not None
        async for message in self._client.messages:
            self.heard.append(json.loads(bytes(message.payload)))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def lamps(core: Core, client: Client, *keys: str) -> list[Lamp]:
    made = [await client.add_device(shapes.DeviceNew(key=key, profile="native-streetlight")) for key in keys]
    return [Lamp(core, key, each.secret or "") for key, each in zip(keys, made, strict=True)]


async def token_of(core: Core, name: str) -> str:
    """Give a token of an operator's account."""
    async with core.pool.acquire() as connection:
        found = await connection.fetchval("SELECT id FROM iot.user_account WHERE name = $1", name)
        if found is None:
            right = [users.UserRight("operator", None)]
            found = (await users.add(connection, name, "", "a word nobody guesses", right, by="test")).id
        return (await create(connection, name, "operator", by="test", user_id=found))[1]


async def ordered(client: Client, name: str, params: dict[str, Any], **more: Any) -> shapes.CommandOrder:
    return await client.order_command(shapes.OrderNew(name=name, params=params, **more))


async def one(client: Client, order: shapes.CommandOrder) -> shapes.Command:
    return (await client.commands(shapes.CommandsQuery(order=order.number))).items[0]


async def in_state(client: Client, order: shapes.CommandOrder, state: str) -> shapes.Command:
    async def reached() -> shapes.Command | None:
        found = await one(client, order)
        return found if found.state == state else None

    found: shapes.Command = await until(reached, what=f"it is {state}")
    return found


async def test_every_step_is_said_when_it_is_true_and_not_before(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        order = await ordered(client, "dim", {"level": 40}, devices=("lamp-1",), ttl_s=600)
        waiting = await one(client, order)
        assert (waiting.state, waiting.sent_at) == ("queued", None)
        async with lamp:
            sent = await in_state(client, order, "sent")
            assert (sent.delivered_at, sent.ended_at, lamp.heard[0]["id"]) == (None, None, sent.id)
            await lamp.answers("delivered")
            delivered = await in_state(client, order, "delivered")
            assert (delivered.delivered_at is not None, delivered.ended_at) == (True, None)
            await lamp.publish("telemetry", {"time": datetime.now(UTC).isoformat(), "dim": 100})
            await until(lambda: core.counters.total("ingest_stored") >= 1)
            assert (await one(client, order)).state == "delivered", "another level shows nothing done"
            await lamp.publish("telemetry", {"time": datetime.now(UTC).isoformat(), "dim": 40.5})
            done = await in_state(client, order, "succeeded")
            assert "reading" in (done.said or "")
            await lamp.answers("failed", "too late to say so")
            await asyncio.sleep(0.2)
            assert (await one(client, order)).state == "succeeded", "what is over stays over"
            assert len(lamp.heard) == 1


async def _power(client: Client) -> bool:
    return any(each.metric == "power" for each in (await client.latest("lamp-1")).items)


async def test_a_device_that_says_no_has_the_last_word_and_nobody_else(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        first, second = await lamps(core, client, "lamp-1", "lamp-2")
        async with first, second:
            order = await ordered(client, "switch", {"on": True}, devices=("lamp-1",))
            sent = await in_state(client, order, "sent")
            await second.publish("commands/result", {"id": sent.id, "state": "succeeded"})
            deep = f'{{"id": 1, "state": "failed", "more": {"[" * 1_000}{"]" * 1_000}}}'
            for nonsense in ("{", '{"id": 1e99, "state": "succeeded"}', '{"id": -1, "state": "failed"}', "[]", deep):
                await first.publish("commands/result", nonsense)
            await first.publish("telemetry", {"power": 40})
            await until(lambda: _power(client), what="what comes after nonsense is stored")
            await first.answers("failed", "relay stuck\u0000")
            failed = await in_state(client, order, "failed")
            assert failed.detail == "relay stuck"
            assert not await core.pool.fetchval("SELECT count(*) FROM iot.held_uplink")


async def test_what_is_not_sent_in_its_time_expires_and_can_be_cancelled_before(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        short = await ordered(client, "dim", {"level": 1}, devices=("lamp-1",), ttl_s=1)
        long = await ordered(client, "dim", {"level": 2}, devices=("lamp-1",), ttl_s=600)
        expired = await in_state(client, short, "expired")
        assert (expired.sent_at, "never left" in (expired.said or "")) == (None, True)
        assert (await client.cancel_order(long.number or 0)).ids == ((await one(client, long)).id,)
        again = await client.cancel_command((await one(client, long)).id)
        assert (again.ids, again.left) == ((), 0), "it is over, and does not go on"
        async with lamp:
            await asyncio.sleep(1.2)
            assert lamp.heard == []
        assert "Cancelled by" in ((await one(client, long)).said or "")


async def test_a_selector_at_a_rate_stops_after_failures(dsn: str, state_path: Path, free_ports: Free) -> None:
    keys = [f"lamp-{number:02}" for number in range(12)]
    async with core_running(dsn, state_path, free_ports) as (core, client), AsyncExitStack() as stack:
        mounted = [await stack.enter_async_context(lamp) for lamp in await lamps(core, client, *keys)]
        online = "SELECT count(*) = 12 FROM iot.device_status WHERE online"
        await until(lambda: core.pool.fetchval(online))
        where = "class=streetlight"
        assert (await ordered(client, "switch", {"on": True}, where=where, dry=True)).total == 12
        order = await ordered(client, "switch", {"on": True}, where=where, rate=4, stop_after=2)
        answered: set[str] = set()
        while not (found := await client.command_order(order.number or 0)).stopped_at:
            for lamp in mounted:
                if lamp.heard and lamp.key not in answered:
                    answered.add(lamp.key)
                    await lamp.answers("failed", "no")
            await asyncio.sleep(0.05)
        assert found.stop_after == 2
        rest = await client.commands(shapes.CommandsQuery(order=order.number, state=CommandState.FAILED))
        assert sum("stopped" in (each.said or "") for each in rest.items) >= 12 - len(answered) - 4
        assert sum(bool(lamp.heard) for lamp in mounted) < 12


async def test_a_valve_waits_for_a_second_person(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await client.add_device(shapes.DeviceNew(key="wm-1", profile="native-water-meter"))
        tokens = [await token_of(core, name) for name in ("first", "second")]
        async with (
            Lamp(core, "wm-1", made.secret or "") as meter,
            Client(core.url, tokens[0]) as first,
            Client(core.url, tokens[1]) as second,
        ):
            order = await ordered(first, "valve", {"open": False}, devices=("wm-1",))
            assert (await one(client, order)).waits_for_second
            with pytest.raises(ConflictError, match="own"):
                await first.confirm_order(order.number or 0)
            looks = 0

            async def counted(connection: Any) -> Any:
                nonlocal looks
                looks += 1
                return await until_next(connection)

            until_next = commands.until_next
            monkeypatch.setattr(commands, "until_next", counted)
            await asyncio.sleep(1.2)
            assert meter.heard == []
            assert looks < 6, "what waits for a person is looked at now and then"
            assert (await second.confirm_order(order.number or 0)).confirmed_by == "second"
            await in_state(client, order, "sent")
            assert meter.heard[0]["params"] == {"open": False}
            with pytest.raises(ConflictError):
                await second.confirm_order(order.number or 0)


async def test_two_persons_are_two_accounts_whatever_they_are_called(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        await client.add_device(
            shapes.DeviceNew(key="wm-1", profile="native-water-meter", latitude=20.9, longitude=107.1)
        )
        tokens = [await token_of(core, "first"), await token_of(core, "first"), await token_of(core, "second")]
        async with core.pool.acquire() as connection:
            _, program = await create(connection, "scada", "admin", by="test")
        async with AsyncExitStack() as stack:
            first, again, second, scada = [
                await stack.enter_async_context(Client(core.url, token)) for token in (*tokens, program)
            ]
            for nobody in (client, scada):
                with pytest.raises(ConflictError, match="no_person"):
                    await ordered(nobody, "valve", {"open": False}, devices=("wm-1",))
            order = await ordered(first, "valve", {"open": False}, devices=("wm-1",))
            for nobody in (client, scada):
                with pytest.raises(ConflictError, match="no_person"):
                    await nobody.confirm_order(order.number or 0)
            await core.pool.execute("UPDATE iot.user_account SET name = 'renamed' WHERE name = 'first'")
            for same in (first, again):
                with pytest.raises(ConflictError, match="own"):
                    await same.confirm_order(order.number or 0)
            await core.pool.execute("UPDATE iot.user_account SET name = 'first' WHERE name = 'second'")
            assert (await second.confirm_order(order.number or 0)).confirmed_by == "first", "who was called second"
        with pytest.raises(RequestError, match="two_persons"):
            await client.add_schedule("water", "class=water_meter", ["22:00 valve open=false"])


async def test_the_same_key_is_the_same_order(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        async with lamp:
            first = await ordered(client, "dim", {"level": 5}, devices=("lamp-1",), idempotency_key="t-1")
            again = await ordered(client, "dim", {"level": 5}, devices=("lamp-1",), idempotency_key="t-1")
            assert (first.number, again.repeated) == (again.number, True)
            with pytest.raises(ConflictError, match="t-1"):
                await ordered(client, "dim", {"level": 6}, devices=("lamp-1",), idempotency_key="t-1")
            await in_state(client, first, "sent")
            with pytest.raises(RequestError, match="level"):
                await ordered(client, "dim", {"level": 600}, devices=("lamp-1",))
            with pytest.raises(RequestError, match="whom"):
                await ordered(client, "dim", {"level": 6})
            assert len(lamp.heard) == 1


async def test_a_core_that_died_sends_again_with_the_same_id_but_never_what_must_not_happen_twice(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    """What a SIGKILL between claim and note leaves in the table is made by hand: the claim of a core that is gone."""
    died = "UPDATE iot.command SET tries = 1, trying_until = now() - interval '1 s' WHERE order_id = ANY($1)"
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        await client.add_device(shapes.DeviceNew(key="lamp-2", profile="tasmota-energy", address="mqtt:tele/kerb_7"))
        native = await ordered(client, "restart", {}, devices=("lamp-1",), ttl_s=600)
        vendor = "INSERT INTO iot.command_order (name, params, by) VALUES ('restart', '{}', 'x') RETURNING id"
        kept = await core.pool.fetchval(vendor)
        row = """INSERT INTO iot.command (order_id, device_id, expires_at, settle_at, again, trying_until)
            SELECT $1, id, now() + interval '1 h', now() + interval '1 h', false, now() + interval '1 h'
            FROM iot.device WHERE key = 'lamp-2'"""
        await core.pool.execute(row, kept)
        await core.pool.execute(died, [native.number, kept])
    async with core_running(dsn, state_path, free_ports) as (core, client):
        lamp = Lamp(core, "lamp-1", lamp._secret)
        async with lamp:
            sent = await in_state(client, native, "sent")
            assert (sent.tries, lamp.heard[0]["id"]) == (2, sent.id)
        lost = await in_state(client, await client.command_order(kept), "failed")
        assert "twice" in (lost.said or "")


async def test_a_write_that_reads_back_is_done_and_a_silent_meter_is_tried_until_it_answers(
    dsn: str, state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    panel = Memory(words=dict.fromkeys([*range(2000, 2006), *range(4000, 4012)], 0))
    port = free_port()
    async with core_running(dsn, state_path, free_ports) as (_, client):
        address = f"127.0.0.1:{port}/9"
        await client.add_device(shapes.DeviceNew(key="lc-1", profile="ge-a-series", address=address))
        order = await ordered(client, "switch", {"on": True}, devices=("lc-1",), ttl_s=600)

        async def tried() -> bool:
            return (await one(client, order)).tries >= 1

        await until(tried)
        assert (await one(client, order)).state == "queued"
        async with peer(port, {9: panel}):
            done = await in_state(client, order, "succeeded")
            assert (panel.words[2001], done.delivered_at is not None) == (1, True)


async def test_the_command_line_orders_lists_shows_confirms_and_cancels(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        where = ("--url", core.url, "--token", core.token, "--lang", "vi")
        async with lamp:
            code, out, err = await forked("command", "send", "lamp-1", "dim", "level=40", "--wait", "0", *where)
            assert (code, err.count("Traceback")) == (0, 0), err
            assert "dim level=40" in out
            code, out, _ = await forked("command", "list", "--output", "json", *where)
            number = json.loads(out)[0]["id"]
            await until(lambda: lamp.heard)
            await lamp.answers("succeeded", "xong")

            async def over() -> bool:
                return (await client.show_command(number)).state == "succeeded"

            await until(over)
            code, out, _ = await forked("command", "show", str(number), *where)
            assert (code, "đã xong" in out, "xong" in out) == (0, True, True)
        code, out, _ = await forked("command", "send", "lamp-1", "dim", "level=1", "--ttl", "1h", "--wait", "0", *where)
        assert code == 0
        code, out, _ = await forked("command", "cancel", "--order", "2", "--output", "json", *where)
        assert (code, json.loads(out)["left"]) == (0, 0)
        code, out, _ = await forked("command", "cancel", "--order", "2", *where)
        assert (code, "đã kết thúc" in out) == (1, True), out
        for wrong in (
            ("cancel",),
            ("confirm", "1"),
            ("show", "99"),
            ("send", "dim"),
            ("send", "lamp-1", "dim", "level=999"),
        ):
            code, _, err = await forked("command", *wrong, *where)
            assert (code != 0, bool(err.strip()), "Traceback" in err) == (True, True, False), wrong


async def test_a_coap_device_fetches_what_it_is_asked_and_says_what_became_of_it(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    until_next = commands.until_next

    async def counted(connection: Any) -> Any:
        nonlocal looks
        looks += 1
        return await until_next(connection)

    monkeypatch.setattr(commands, "until_next", counted)
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await client.add_device(shapes.DeviceNew(key="lamp-1", profile="native-streetlight"))
        await client.add_device(shapes.DeviceNew(key="wm-1", profile="native-water-meter"))
        order = await ordered(client, "dim", {"level": 40}, devices=("lamp-1",), ttl_s=600)
        async with Client(core.url, await token_of(core, "first")) as first:
            await ordered(first, "valve", {"open": False}, devices=("wm-1",), ttl_s=600)
        context = await aiocoap.Context.create_client_context()
        host, port = core.coap

        async def ask(code: Any, tail: str, body: Any = None, secret: str = made.secret or "") -> tuple[Any, Any]:
            uri = f"coap://{host}:{port}/v1/lamp-1/{tail}?token={secret}"
            payload = b"" if body is None else json.dumps(body).encode()
            answer = await context.request(aiocoap.Message(code=code, uri=uri, payload=payload)).response
            return answer.code, json.loads(answer.payload) if answer.code == aiocoap.CONTENT else None

        try:
            assert (await ask(aiocoap.GET, "commands", secret="wrong"))[0] == aiocoap.UNAUTHORIZED
            assert (await ask(aiocoap.POST, "commands"))[0] == aiocoap.METHOD_NOT_ALLOWED
            assert (await one(client, order)).state == "queued", "nobody was told anything yet"
            _, (told,) = await ask(aiocoap.GET, "commands")
            assert (told["name"], told["params"]) == ("dim", {"level": 40})
            sent = await one(client, order)
            assert (sent.state, sent.id, sent.tries) == ("sent", told["id"], 1)
            assert (await ask(aiocoap.GET, "commands"))[1] == [told], "the answer may have been lost"
            result = {"id": told["id"], "state": "succeeded", "detail": "40 %"}
            assert (await ask(aiocoap.POST, "commands/result", result))[0] == aiocoap.CHANGED
            done = await one(client, order)
            assert (done.state, done.detail) == ("succeeded", "40 %"), "2.04 is after COMMIT"
            assert (await ask(aiocoap.GET, "commands"))[1] == []
            before = looks
            await asyncio.sleep(1.5)
            assert looks - before < 6, "what waits for a device that is away is looked at now and then"
        finally:
            await context.shutdown()


async def test_a_silent_device_is_told_again_with_the_same_id_as_often_as_was_said(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_AGAIN_S", 0.2)
    async with core_running(dsn, state_path, free_ports) as (core, client):
        (lamp,) = await lamps(core, client, "lamp-1")
        async with lamp:
            once = await ordered(client, "dim", {"level": 1}, devices=("lamp-1",), ttl_s=600, tries=1)
            thrice = await ordered(client, "dim", {"level": 2}, devices=("lamp-1",), ttl_s=600, tries=3)
            await until(lambda: len(lamp.heard) >= 4)
            await asyncio.sleep(1.5)
            levels = [each["params"]["level"] for each in lamp.heard]
            assert sorted(levels) == [1, 2, 2, 2]
            assert len({each["id"] for each in lamp.heard}) == 2
            assert {(await one(client, once)).tries, (await one(client, thrice)).tries} == {1, 3}
            await lamp.answers("succeeded")
            assert (await in_state(client, thrice, "succeeded")).tries == 3
