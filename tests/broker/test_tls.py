"""TLS at our own Mosquitto: passwords over it, client certificates of our own authority and of another one."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from click.testing import CliRunner

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.broker import mosquitto
from iot_core.cli.root import iot
from iot_core.client import Client
from iot_core.errors import NotFoundError, RequestError
from iot_core.registry import authority as ca
from tests.conftest import missing
from tests.core import command, core_running, last_week, stopwatch, until

Free = Callable[[int], int]
BODY = json.dumps({"time": f"{last_week()}T08:00:00+07:00", "pm25": 35})

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def tls_core(dsn: str, state: Path, free_ports: Free, **mqtt: Any) -> AsyncIterator[tuple[Core, Client, int]]:
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    first = free_ports(4)
    settings = {"broker": "mosquitto", "tls_port": first + 3, **mqtt}
    async with core_running(dsn, state, lambda _: first, mqtt=settings) as (core, client):
        yield core, client, first + 3


async def pub(port: int, *words: str | Path, key: str = "aq-1") -> int:
    where = ("mosquitto_pub", "-h", "localhost", "-p", str(port), "-q", "1")
    code, _, _ = await command(*where, *words, "-t", f"iot/v1/{key}/telemetry", "-m", BODY)
    return code


async def test_a_password_goes_over_tls_to_a_broker_that_our_authority_vouches_for(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    async with tls_core(dsn, state_path, free_ports) as (core, client, port):
        added = await client.add_device(shapes.DeviceNew(key="aq-1", profile="native-air-quality"))
        assert added.secret
        assert (await client.endpoints()).mqtts == f"127.0.0.1:{port}"
        authority = tmp_path / "ca.pem"
        authority.write_text((await client.init_ca()).certificate)
        login = ("-u", "aq-1", "-P", added.secret)
        assert await pub(port, "--cafile", authority, *login) == 0
        await until(lambda: core.counters.total("ingest_stored") == 1)
        assert await pub(port, *login) != 0, "in clear"
        assert await pub(port, "--cafile", "/etc/ssl/certs/ca-certificates.crt", *login) != 0
        assert await pub(port, "--cafile", authority, "-u", "aq-1", "-P", "wrong") != 0
        key = state_path / "authority" / "ca.key"
        assert key.stat().st_mode & 0o077 == 0
        assert "PRIVATE" not in str(await core.pool.fetch("SELECT * FROM iot.authority"))


async def test_a_certificate_is_renewed_while_the_broker_runs_and_no_connection_notices(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "_RENEW_LOOK_S", 0.1)
    async with tls_core(dsn, state_path, free_ports) as (core, client, port):
        added = await client.add_device(shapes.DeviceNew(key="aq-1", profile="native-air-quality"))
        authority = tmp_path / "ca.pem"
        authority.write_text((await client.init_ca()).certificate)

        async def shown() -> str:
            return await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port), ssl.PROTOCOL_TLS_CLIENT)

        first = await shown()
        async with aiomqtt.Client(
            "localhost", port, tls_context=ssl.create_default_context(cafile=str(authority)),
            username="aq-1", password=added.secret,
        ) as device:  # fmt: skip
            with monkeypatch.context() as grown_old:
                grown_old.setattr(ca, "_RENEW_BEFORE", timedelta(days=1_000))
                await until(lambda: _is_new(shown, first))
            await device.publish("iot/v1/aq-1/telemetry", BODY, qos=1)
            await until(lambda: core.counters.total("ingest_stored") == 1)
        assert await pub(port, "--cafile", authority, "-u", "aq-1", "-P", added.secret or "") == 0


async def _is_new(shown: Callable[[], Awaitable[str]], first: str) -> bool:
    return await shown() != first


async def test_a_client_certificate_opens_its_own_device_until_it_is_revoked(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    async with tls_core(dsn, state_path, free_ports, client_certificates=True) as (core, client, port):
        for key in ("aq-1", "aq-2"):
            await client.add_device(shapes.DeviceNew(key=key, profile="native-air-quality"))

        def issue(*words: str) -> int:
            server = ("--url", core.url, "--token", core.token)
            return CliRunner().invoke(iot, ["ca", "issue", *words, "--out", str(tmp_path), *server]).exit_code

        assert await asyncio.to_thread(issue, "aq-1") == 0
        assert await asyncio.to_thread(issue, "aq-1") != 0, "files are not overwritten"
        assert (tmp_path / "aq-1.key").stat().st_mode & 0o077 == 0
        own = ("--cafile", tmp_path / "ca.pem", "--cert", tmp_path / "aq-1.pem", "--key", tmp_path / "aq-1.key")
        assert await pub(port, *own) == 0
        await until(lambda: core.counters.total("ingest_stored") == 1)
        await pub(port, *own, key="aq-2")
        assert await pub(port, "--cafile", tmp_path / "ca.pem") != 0, "without a certificate"
        assert not await core.pool.fetchval("SELECT count(*) FROM iot.device_status s JOIN iot.device d"
                                            " ON d.id = s.device_id WHERE d.key = 'aq-2'")  # fmt: skip

        request = await command("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", tmp_path / "own.key", "-subj", "/CN=somebody-else")  # fmt: skip
        issued = await client.issue_certificate("aq-2", csr=request[1])
        assert issued.key is None
        (tmp_path / "own.pem").write_text(issued.certificate)
        its = ("--cafile", tmp_path / "ca.pem", "--cert", tmp_path / "own.pem", "--key", tmp_path / "own.key")
        assert await pub(port, *its, key="aq-2") == 0
        await until(lambda: core.counters.total("ingest_stored") == 2)
        with pytest.raises(RequestError):
            await client.issue_certificate("aq-2", csr="no request")
        with pytest.raises(NotFoundError):
            await client.issue_certificate("nobody")

        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / "aq-1.pem", tmp_path / "aq-1.key")
        async with aiomqtt.Client("localhost", port, tls_context=context) as device:
            await device.subscribe("iot/v1/aq-1/commands", qos=1)
            (serial,) = [each.serial for each in (await client.certificates()).items if each.device == "aq-1"]
            async with stopwatch() as watch:
                await client.revoke_certificate(serial)
                async with asyncio.timeout(60):
                    with suppress(aiomqtt.MqttError):
                        async for _ in device.messages:
                            pass
        assert watch.seconds < 2.0
        assert await pub(port, *own) != 0
        assert await pub(port, *its, key="aq-2") == 0
        await client.remove_device("aq-2")
        async with asyncio.timeout(60):  # a retired device's certificate counts as revoked
            while await pub(port, *its, key="aq-2") == 0:
                await asyncio.sleep(0.1)
        with pytest.raises(NotFoundError):
            await client.revoke_certificate(serial)


async def test_another_authoritys_certificates_serve_as_well(
    dsn: str, state_path: Path, free_ports: Free, tmp_path: Path
) -> None:
    files = {name: str(tmp_path / name) for name in ("server.pem", "server.key", "ca.pem")}
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority = ("-CA", files["ca.pem"], "-CAkey", tmp_path / "ca.key")
    for name, common, more in (
        ("ca", "another authority", ()),
        ("server", "localhost", ("-addext", "subjectAltName=DNS:localhost", *authority)),
        ("aq-1", "aq-1", authority),
    ):
        out = ("-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem", "-subj", f"/CN={common}")
        code, _, err = await command("openssl", "req", "-x509", *new_key, "-days", "2", *out, *more)
        assert code == 0, err
    mqtt = {"tls_cert": files["server.pem"], "tls_key": files["server.key"], "client_ca": files["ca.pem"]}
    async with tls_core(dsn, state_path, free_ports, client_certificates=True, **mqtt) as (core, client, port):
        await client.add_device(shapes.DeviceNew(key="aq-1", profile="native-air-quality"))
        own = ("--cafile", files["ca.pem"], "--cert", tmp_path / "aq-1.pem", "--key", tmp_path / "aq-1.key")
        assert await pub(port, *own) == 0
        await until(lambda: core.counters.total("ingest_stored") == 1)
        assert not await core.pool.fetchval("SELECT count(*) FROM iot.authority")
