"""Brokers under test: a state directory they can reach, a registry with devices, and clients that are not ours."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from iot_core.broker import Broker, running
from iot_core.profiles import load
from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import hash_secret
from iot_core.settings import Mqtt, Settings, Store
from iot_core.state import StateDir, locked
from iot_core.store.connection import open_pool
from tests import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

PROFILES = load()
REFUSED = 5  # mosquitto_pub's exit code for "not authorised"


@contextmanager
def state_dir() -> Iterator[StateDir]:
    """Give a state directory that a service user can reach (pytest's own folders are closed)."""
    folder = Path(tempfile.mkdtemp(prefix="iot-", dir=servers.in_memory()))
    folder.chmod(0o711)
    try:
        with locked(folder / "state") as state:
            yield state
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def pool_of(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(dsn, Store()) as pool:
        yield pool


@asynccontextmanager
async def started(state: StateDir, pool: asyncpg.Pool, mqtt: Mqtt) -> AsyncIterator[Broker]:
    """Run a broker and its watch, as the core does."""
    async with running(Settings(mqtt=mqtt), state, pool, PROFILES) as broker:
        watch = asyncio.create_task(broker.watch())
        try:
            yield broker
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


async def add_device(
    pool: asyncpg.Pool, key: str, *, profile: str = "native-air-quality", address: str = "", gateway: str | None = None
) -> str:
    """Register a device with a mounted unit, and give its secret."""
    secret = new_secret()
    device = await pool.fetchval(
        "INSERT INTO iot.device (key, name, class_key, gateway_id)"
        " VALUES ($1, $1, 'air_quality', (SELECT id FROM iot.device WHERE key = $2)) RETURNING id",
        key,
        gateway,
    )
    await pool.execute(
        "INSERT INTO iot.unit (device_id, profile, address, secret_hash) VALUES ($1, $2, $3, $4)",
        device,
        profile,
        address or f"iot:{key}",
        hash_secret(secret),
    )
    return secret


def mqtt(**settings: object) -> Mqtt:
    return Mqtt(port=servers.free_ports(1), **settings)  # type: ignore[arg-type]


async def publish(broker: Broker, key: str, secret: str, topic: str, message: str, *more: str) -> int:
    """Run mosquitto_pub as a device and give its exit code."""
    where = (broker.endpoint.host, broker.endpoint.port)
    return await _mosquitto_pub(where, "-u", key, "-P", secret, "-t", topic, "-m", message, *more)


async def publish_to(settings: Mqtt, key: str, secret: str, message: str) -> int:
    """Send telemetry to a broker that no core of ours watches."""
    where = (settings.host, settings.port)
    return await _mosquitto_pub(where, "-u", key, "-P", secret, "-t", f"iot/v1/{key}/telemetry", "-m", message)


async def publish_lines(broker: Broker, key: str, secret: str, lines: bytes) -> None:
    """Send each line as telemetry."""
    where = ["-h", broker.endpoint.host, "-p", str(broker.endpoint.port), "-u", key, "-P", secret]
    words = ["mosquitto_pub", *where, "-q", "1", "-l", "-t", f"iot/v1/{key}/telemetry"]
    child = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        await child.communicate(lines)
    assert child.returncode == 0


async def _mosquitto_pub(where: tuple[str, int], *words: str) -> int:
    command = ["mosquitto_pub", "-h", where[0], "-p", str(where[1]), "-q", "1", *words]
    child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(60):
        return await child.wait()


_VICTIM = """
import asyncio, sys
from pathlib import Path
import msgspec
from iot_core.settings import Mqtt
from iot_core.state import StateDir
from tests.broker.bench import pool_of, started
from tests.drivers.test_mqtt.bench import Ingest, context, running

async def main(state, dsn, mqtt):
    async with pool_of(dsn) as pool, started(StateDir(Path(state)), pool, mqtt) as broker:
        bench = context(broker.endpoint.port, endpoint=broker.endpoint)
        async with running(bench, Ingest().emit):
            print(broker.child.pid, flush=True)
            await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], msgspec.json.decode(sys.argv[3], type=Mqtt)))
"""


async def killed_core(state: StateDir, dsn: str, settings: Mqtt) -> int:
    """Run a core's broker and driver in a process of their own, kill that, and give the broker's pid."""
    words = [sys.executable, "-c", _VICTIM, str(state.path), dsn, msgspec.json.encode(settings).decode()]
    core = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=servers.ROOT)
    assert core.stdout is not None
    async with asyncio.timeout(60):
        while not (said := await core.stdout.readline()).strip().isdigit():
            assert said, "the core ended"
    core.kill()
    await core.communicate()
    return int(said)
