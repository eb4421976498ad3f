"""Claims over MQTT with TLS: the same claim, unreadable on its way, where the city's authority vouches for us."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from iot_core import app
from iot_core.api import certificate, shapes
from iot_core.app import Core
from iot_core.client import Client
from iot_core.registry import authority as ca
from tests.core import command, core_running, until
from tests.provisioning.reference_claim import claim

Free = Callable[[int], int]
MODEL = "native-water-meter"


@asynccontextmanager
async def tls_core(dsn: str, state: Path, free_ports: Free, **mqtt: Any) -> AsyncIterator[tuple[Core, Client, int]]:
    first = free_ports(4)
    sections = {"mqtt": {"broker": "embedded", **mqtt}, "claims": {"tls_port": first + 3}}
    async with core_running(dsn, state, lambda _: first, **sections) as (core, client):
        yield core, client, first + 3


async def batch(client: Client) -> shapes.BatchCreated:
    until = datetime.now(UTC) + timedelta(days=1)
    return await client.new_batch(shapes.BatchNew(count=5, until=until, profile=MODEL))


async def planned(client: Client, key: str, serial: str) -> None:
    await client.add_device(shapes.DeviceNew(key=key, profile=MODEL, serial=serial, planned=True))


async def test_a_device_claims_itself_over_tls_and_nobody_is_served_in_clear(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    async with tls_core(dsn, state_path, free_ports) as (core, client, port):
        authority = tmp_path / "ca.pem"
        authority.write_text((await client.init_ca()).certificate)
        made = await batch(client)
        assert (made.mqtt, made.mqtts) == (None, f"127.0.0.1:{port}")
        await planned(client, "wm-1", "S-1")
        got = await claim(
            ("localhost", port), made.batch.key, made.secret, "S-1", tmp_path / "reply", authority=authority
        )
        assert got["device"] == "wm-1"

        # An independent client: it hears that a second device with that serial number gets nothing.
        reply = secrets.token_hex(16)
        code, out, err = await command(
            "mosquitto_rr", "-h", "localhost", "-p", str(port), "--cafile", authority, "-i", reply, "-u",
            made.batch.key, "-P", made.secret, "-q", "1", "-t", "iot/v1/claim", "-e", f"iot/v1/claim/{reply}",
            "-m", json.dumps({"serial": "S-1", "reply": reply}), "-W", "60",
        )  # fmt: skip
        assert (code, json.loads(out)) == (0, {"state": "refused"}), err

        login = ("-i", reply, "-u", made.batch.key, "-P", made.secret)
        for how in ((), ("--cafile", "/etc/ssl/certs/ca-certificates.crt")):  # in clear; another authority's word
            code, _, _ = await command(
                "mosquitto_pub", "-h", "localhost", "-p", str(port), *login, *how, "-t", "iot/v1/claim", "-m", "{}"
            )
            assert code != 0, how
        assert (state_path / "authority" / "claims.pem").stat().st_mode & 0o077 == 0
        assert not await core.pool.fetchval(
            "SELECT count(*) FROM iot.audit WHERE after::text LIKE '%' || $1 || '%'", got["secret"]
        )


async def test_the_claims_certificate_is_renewed_while_the_core_runs(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((app, "_RENEW_LOOK_S"), (certificate, "_LOOK_S")):
        monkeypatch.setattr(module, name, 0.1)
    async with tls_core(dsn, state_path, free_ports) as (_, _client, port):

        async def shown() -> str:
            return await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port), ssl.PROTOCOL_TLS_CLIENT)

        first = await shown()

        async def is_new() -> bool:
            return await shown() != first

        monkeypatch.setattr(ca, "_RENEW_BEFORE", timedelta(days=1_000))
        await until(is_new)


async def test_the_claims_listener_shows_the_certificate_given_for_the_broker_and_refuses_old_tls(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    files = {"tls_cert": str(tmp_path / "server.pem"), "tls_key": str(tmp_path / "server.key")}
    code, _, err = await command(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", files["tls_key"], "-out", files["tls_cert"], "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost",
    )  # fmt: skip
    assert code == 0, err
    async with tls_core(dsn, state_path, free_ports, **files) as (core, client, port):
        made = await batch(client)
        await planned(client, "wm-1", "S-1")
        got = await claim(
            ("localhost", port), made.batch.key, made.secret, "S-1", tmp_path / "reply",
            authority=Path(files["tls_cert"]),
        )  # fmt: skip
        assert got["device"] == "wm-1"
        assert not await core.pool.fetchval("SELECT count(*) FROM iot.authority")
        code, out, err = await command("openssl", "s_client", "-connect", f"localhost:{port}", "-tls1_1")
        assert code != 0, out + err


async def test_a_connection_that_never_greets_is_closed(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.mqtt.claims._FIRST_WORD_S", 0.3)
    async with tls_core(dsn, state_path, free_ports) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
