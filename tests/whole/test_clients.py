"""A whole core seen from outside, by clients and servers that are not ours."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
from aiohttp import web
from standardwebhooks import Webhook

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from tests.core import command, core_running, mosquitto_pub, until
from tests.drivers.modbus_peer import Asked, peer

Free = Callable[[int], int]
AT = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


async def add(client: Client, key: str, profile: str = "native-air-quality", **more: Any) -> str:
    return (await client.add_device(shapes.DeviceNew(key=key, profile=profile, **more))).secret or ""


async def rows(client: Client, key: str) -> list[tuple[datetime, dict[str, object]]]:
    found = await client.telemetry(key, start=AT - timedelta(days=1), end=datetime.now(UTC) + timedelta(days=1))
    return [(row.time, dict(row.values)) for row in found.items]


async def post(core: Core, key: str, token: str, number: int, body: Path) -> str:
    """Post a file with libcoap's client and give what it said."""
    url = f"coap://{core.coap[0]}:{core.coap[1]}/v1/{key}/telemetry?token={token}"
    words = ("-v", "6", "-B", "10", "-m", "post", "-t", str(number), "-f", body, url)
    _, out, err = await command("coap-client-notls", *words)
    return out + err


async def test_mosquitto_pub_sends_one_and_many_and_is_refused_what_is_not_its_own(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        secret, other = await add(client, "aq-1"), await add(client, "aq-2")
        topic = "iot/v1/aq-1/telemetry"
        single = json.dumps({"time": AT.isoformat(), "seq": 1, "pm25": 37.4})
        many = json.dumps([{"time": (AT + timedelta(minutes=n)).isoformat(), "pm25": n} for n in (1, 2, 3)])
        for body in (single, many, single):
            code, _, err = await command(*mosquitto_pub(core, "aq-1", secret, topic, body))
            assert code == 0, err
        code, _, err = await command(*mosquitto_pub(core, "aq-1", "wrong", topic, single))
        assert code != 0
        assert "not authorised" in err
        await command(*mosquitto_pub(core, "aq-2", other, topic, json.dumps({"time": AT.isoformat(), "pm25": 99})))
        await command(*mosquitto_pub(core, "aq-2", other, "iot/v1/aq-2/telemetry", '{"pm25": 5}'))
        await until(lambda: _count(client, "aq-2", 1))
        found = await rows(client, "aq-1")
        assert [values["pm25"] for _, values in found] == [37.4, 1.0, 2.0, 3.0]
        assert (await client.inbox()).items == ()


async def _count(client: Client, key: str, number: int) -> bool:
    return len(await rows(client, key)) >= number


async def test_libcoaps_client_is_answered_after_the_commit(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        secret = await add(client, "aq-1")
        body = tmp_path / "body"
        body.write_text(json.dumps({"time": AT.isoformat(), "pm25": 12.5, "bogus": 1}))
        said = await post(core, "aq-1", secret, 50, body)
        assert "2.04" in said
        assert "unknown_metric" in said
        assert await rows(client, "aq-1") == [(AT, {"pm25": 12.5})]
        senml = [
            {-2: "urn:dev:mac:0024befffe804ff1:", -3: AT.timestamp(), 0: "pm10", 1: "ug/m3", 2: 21},
            {0: "co2", 2: 480},
        ]
        body.write_bytes(cbor2.dumps(senml))
        assert "2.04" in await post(core, "aq-1", secret, 112, body)
        assert await rows(client, "aq-1") == [(AT, {"pm25": 12.5, "pm10": 21.0, "co2": 480.0})]
        body.write_text('{"pm25": 1}')
        assert "4.01" in await post(core, "aq-1", "wrong", 50, body)
        assert "4.01" in await post(core, "nobody", secret, 50, body)
        assert "4.15" in await post(core, "aq-1", secret, 41, body)
        assert core.counters.total("coap_unauthorized") == 2


METER = """\
model: acme-raw
vendor: Acme
title: {vi: Đồng hồ Acme, en: Acme meter}
source: "this test"
interval: 60s
bytes:
  frames:
    - length: 9
      require: {kind: {at: 0, equals: 31}}
      time: {at: 1, type: uint32}
      values: {volume: {at: 5, type: uint32, unit: L}}
examples:
  - {hex: "1F69674F200000229A", samples: [{time: "2026-01-14T08:09:04Z", values: {volume: 8.858}}]}
  - {hex: "1F69", held: truncated}
"""
LINE = """\
model: acme-line
vendor: Acme
title: {vi: Đồng hồ dòng chữ, en: Acme text meter}
source: "this test"
interval: 60s
text: {split: ";", values: {volume: 0, battery: 1}}
examples:
  - {payload: 8.858;97, values: {volume: 8.858, battery: 97}}
  - {payload: "", held: empty}
"""


async def test_raw_bytes_and_text_over_coap_are_read_by_the_devices_own_profile(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "water_meter"
    own.mkdir(parents=True)
    for name, profile in (("raw", METER), ("line", LINE)):
        (own / f"{name}.yaml").write_text(profile, encoding="utf-8")
    body = tmp_path / "body"
    async with core_running(dsn, state_path, free_ports, profiles=str(own.parent)) as (core, client):
        raw, line = await add(client, "raw-1", "acme-raw"), await add(client, "line-1", "acme-line")
        native = await add(client, "wm-1", "native-water-meter")
        body.write_bytes(struct.pack(">BII", 31, int(AT.timestamp()), 8858))
        for _ in range(2):
            assert "2.04" in await post(core, "raw-1", raw, 42, body)
        assert await rows(client, "raw-1") == [(AT, {"volume": 8.858})]
        refused = await post(core, "wm-1", native, 42, body)
        assert "4.15" in refused
        assert "Content-Format 42" in refused
        assert "4.01" in await post(core, "raw-1", native, 42, body)
        body.write_bytes(b"\x1f\x8b\x08")  # begins like gzip, and is half a frame
        assert "truncated" in await post(core, "raw-1", raw, 42, body)
        body.write_text("8.858;97")
        assert "2.04" in await post(core, "line-1", line, 0, body)
        assert [values for _, values in await rows(client, "line-1")] == [{"volume": 8.858, "battery": 97.0}]
        assert core.counters.total("coap_wrong_format") == 1


async def test_an_independent_modbus_server_is_polled_in_few_requests(
    dsn: str, state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    """Two flow meters behind one gateway; REAL4 low word first, as the TUF-2000M manual says (40.5 m3/h)."""
    port = free_port()
    high, low = struct.unpack(">HH", struct.pack(">f", 40.5))

    async def meter(asked: Asked, writer: Any) -> None:
        registers = {0: low, 1: high}
        words = [registers.get(asked.address + n, 0) for n in range(asked.count)]
        writer.write(asked.words(words))

    async with peer(port, {1: meter, 2: meter}) as gateway:
        async with core_running(dsn, state_path, free_ports) as (_, client):
            for unit_id in (1, 2):
                await add(client, f"meter-{unit_id}", "tuf-2000m", address=f"modbus://127.0.0.1:{port}/{unit_id}")
            for key in ("meter-1", "meter-2"):
                await until(partial(_count, client, key, 1), within_s=30)
                assert (await rows(client, key))[0][1]["flow"] == 40.5
        assert gateway.most_open == 1, "one connection a gateway"


async def test_a_fire_reaches_a_receiver_that_checks_the_signature_itself(
    dsn: str, state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    received: list[dict[str, Any]] = []
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()

    async def receive(request: web.Request) -> web.Response:
        received.append(Webhook(secret).verify(await request.text(), dict(request.headers)))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/alarms", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with core_running(dsn, state_path, free_ports, push={"allow_private": True}) as (core, client):
            await client.add_push("ioc", f"http://127.0.0.1:{port}/alarms", secret=secret)
            device = await add(client, "fire-1", "native-fire-detector")
            body = json.dumps({"time": datetime.now(UTC).isoformat(), "smoke": True})
            await command(*mosquitto_pub(core, "fire-1", device, "iot/v1/fire-1/telemetry", body))
            await until(lambda: received, what="the webhook")
            (alarm,) = (await client.alarms()).items
            await client.acknowledge(alarm.id, version=alarm.version)
            await until(lambda: len(received) == 2, what="the acknowledgement")
    finally:
        await runner.cleanup()
    assert [each["type"] for each in received] == ["alarm.raised", "alarm.acknowledged"]
    assert received[0]["data"]["device"]["key"] == "fire-1"
    assert received[0]["data"]["alarm"]["severity"] == "critical"


async def test_a_device_may_not_speak_on_a_vendors_topic(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        gateway = await add(client, "gw-1")
        topic = "zigbee2mqtt/0x00158d0001d64498"
        body = json.dumps({"smoke": False, "battery": 100, "linkquality": 81})
        await command(*mosquitto_pub(core, "gw-1", gateway, topic, body))
        await command(*mosquitto_pub(core, "gw-1", gateway, "iot/v1/gw-1/telemetry", '{"pm25": 5}'))
        await until(lambda: _count(client, "gw-1", 1))
        assert (await client.inbox()).items == ()
