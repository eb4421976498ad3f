"""Kinds of targets as they stand on a wire: a whole core, and receivers that are other people's programs or plain."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from tests.core import command, core_running, mosquitto_pub, until
from tests.push.certificates import authority, issued
from tests.push.test_kinds import valid_cap

Free = Callable[[int], int]


@asynccontextmanager
async def syslog_over_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[list[str]]:
    """Listen as a syslog server does (RFC 5425): each message with its length before it."""
    lines: list[str] = []
    open_ones: set[asyncio.StreamWriter] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        while length := (await reader.readuntil(b" ")).strip():
            lines.append((await reader.readexactly(int(length))).decode())

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await take(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", port, ssl=context)
    try:
        yield lines
    finally:
        server.close()
        for writer in open_ones:
            writer.transport.abort()
        await server.wait_closed()


async def burning(core: Core, client: Client, key: str) -> None:
    new = shapes.DeviceNew(key=key, profile="native-fire-detector", latitude=20.95, longitude=107.07)
    secret = (await client.add_device(new)).secret
    assert secret
    code, _, err = await command(*mosquitto_pub(core, key, secret, f"iot/v1/{key}/telemetry", '{"smoke": true}'))
    assert code == 0, err


async def test_audit_and_alarms_arrive_by_syslog_over_tls(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ca = authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued(ca, "localhost").files(tmp_path))
    port = free_port()
    url = f"syslog+tls://localhost:{port}"
    async with (
        core_running(dsn, state_path, free_ports, push={"allow_private": True}) as (core, client),
        syslog_over_tls(port, context) as lines,
    ):
        await client.add_push("siem", url, kind="syslog", options={"ca": ca.certificate, "audit": "true"})
        await client.add_push("wary", url, kind="syslog")  # it does not know who signed the server's certificate
        await burning(core, client, "smoke-1")
        await until(lambda: any("|alarm.raised|" in line for line in lines), what="the alarm")
        await until(lambda: any("act=device.add" in line for line in lines), what="the audit")
        alarm = await core.pool.fetchval("SELECT body #> '{data,alarm}' FROM iot.outbox WHERE alarm_id IS NOT NULL")
        assert (alarm["metric"], alarm["value"], alarm["threshold"]) == ("smoke", True, True)
        assert alarm["value"] is True  # 1.0 is no answer to whether there is smoke
        await until(lambda: core.pool.fetchval("SELECT bool_or(last_error = 'tls') FROM iot.outbox"), what="wary")
    audit = next(line for line in lines if "act=device.add" in line)
    assert audit.startswith("<109>1 2")  # log audit, notice
    assert "|audit.recorded|device.add|3|" in audit
    assert "suser=local command line" in audit
    assert "cs1=device/smoke-1" in audit
    assert not any("whsec_" in line or "BEGIN" in line for line in lines)


async def test_citizens_read_the_feed_without_signing_in_and_its_messages_are_valid(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with (
        core_running(dsn, state_path, free_ports) as (core, client),
        aiohttp.ClientSession() as citizen,
    ):
        await client.add_push("citizens", "", kind="feed", options={"sender": "ioc@example.vn"})
        await burning(core, client, "smoke-1")
        url = f"{core.url}/feeds/citizens"

        async def read() -> str:
            async with citizen.get(url) as answer:
                assert answer.status == 200
                return await answer.text()

        await until(lambda: core.pool.fetchval("SELECT count(*) FROM iot.outbox WHERE delivered_at IS NOT NULL"))
        atom = await read()
        assert atom.count("<entry>") == 1
        message = atom.partition('type="application/cap+xml" href="')[2].partition('"')[0]
        async with citizen.get(message or f"{url}/none.xml") as answer:
            assert (answer.status, answer.content_type) == (200, "application/cap+xml"), atom
            assert "<msgType>Alert</msgType>" in valid_cap(await answer.read())
            tag = answer.headers["ETag"]
        async with citizen.get(message, headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
        async with citizen.get(f"{core.url}/feeds/nobody") as answer:
            assert answer.status == 404


async def test_alarms_are_told_on_the_own_broker_to_who_may_listen(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        screen = shapes.DeviceNew(key="wall-screen", profile="native-camera-health")
        secret = (await client.add_device(screen)).secret
        assert secret
        await client.set_bridge("wall-screen", ["iot/alarms"])
        await client.add_push("wall", "mqtt:/iot/alarms/{severity}", kind="mqtt")
        where = ("-h", core.broker.host, "-p", str(core.broker.port), "-u", "wall-screen", "-P", secret)
        heard = asyncio.create_task(
            command(
                "mosquitto_sub",
                *where,
                "-t",
                "iot/alarms/#",
                "-q",
                "1",
                "-C",
                "3",
                "-F",
                "%t %p",
                "-W",
                "50",
                within_s=60,
            )
        )
        while not heard.done():  # until it has subscribed and heard three
            await client.test_push("wall")
            await command("mosquitto_pub", *where, "-q", "1", "-t", "iot/alarms/critical", "-m", "{}")
            await asyncio.wait([heard], timeout=0.3)
        code, out, err = await heard
        assert code == 0, err
        for line in out.splitlines():
            topic, _, body = line.partition(" ")
            assert (topic, json.loads(body)["type"]) == ("iot/alarms/none", "push.test"), "nobody else writes there"
