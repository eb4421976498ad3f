"""Mosquitto as our child, with accounts from the registry, seen by clients that are not ours."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
from collections import Counter
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import aiomqtt
import pytest

from drivers.mqtt.link import connected
from iot_core.broker import Mosquitto
from iot_core.broker.mosquitto import SAVE_AFTER
from iot_core.errors import StartError
from iot_core.settings import Mqtt
from iot_core.state import locked
from tests.broker.bench import (
    PROFILES,
    REFUSED,
    add_device,
    killed_core,
    mqtt,
    pool_of,
    publish,
    publish_lines,
    publish_to,
    started,
    state_dir,
)
from tests.conftest import missing
from tests.drivers.test_mqtt.bench import Ingest, StubProfile, context, until
from tests.drivers.test_mqtt.bench import running as driving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

    from iot_core.broker import Broker
    from iot_core.children import Child
    from iot_core.driver import DriverContext
    from iot_core.state import StateDir

PLUG = StubProfile("acme-plug", "mqtt:tele/{address}", ("tele/{address}/SENSOR",))


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")


@pytest.fixture
def state() -> Iterator[StateDir]:
    with state_dir() as made:
        yield made


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool_of(migrated_dsn) as opened:
        yield opened


@pytest.fixture
async def broker(state: StateDir, pool: asyncpg.Pool) -> AsyncIterator[Broker]:
    async with started(state, pool, mqtt()) as one:
        yield one


def of_core(broker: Broker, *profiles: StubProfile, counted: Counter[str] | None = None) -> DriverContext:
    """Give the driver what the core gives it."""
    return context(broker.endpoint.port, *profiles, counted=counted, endpoint=broker.endpoint)


async def telemetry(broker: Broker, key: str, secret: str, message: str) -> int:
    return await publish(broker, key, secret, f"iot/v1/{key}/telemetry", message)


def child(broker: Broker) -> int:
    assert isinstance(broker, Mosquitto)
    assert broker.child is not None
    return broker.child.pid


@asynccontextmanager
async def listening_device(broker: Broker, key: str, secret: str, topic: str) -> AsyncIterator[aiomqtt.Client]:
    where = broker.endpoint
    async with aiomqtt.Client(where.host, where.port, username=key, password=secret) as device:
        await device.subscribe(topic, qos=1)
        yield device


async def test_a_device_with_its_secret_is_heard(pool: asyncpg.Pool, broker: Broker) -> None:
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    ingest = Ingest()
    async with driving(of_core(broker), ingest.emit):
        assert await telemetry(broker, "aq-1", secret, "{}") == 0
        await until(lambda: ingest.taken)
    assert ingest.taken[0].address == "iot:aq-1"


async def test_a_wrong_password_or_none_is_refused(pool: asyncpg.Pool, broker: Broker) -> None:
    await add_device(pool, "aq-1")
    await broker.refresh()
    assert await telemetry(broker, "aq-1", "wrong", "{}") == REFUSED
    assert await telemetry(broker, "nobody", "wrong", "{}") == REFUSED
    assert await telemetry(broker, "_core", "", "{}") == REFUSED
    anonymous = aiomqtt.Client(broker.endpoint.host, broker.endpoint.port)
    with pytest.raises(aiomqtt.MqttError):
        async with anonymous:
            pass


async def test_nothing_arrives_that_a_device_says_on_a_neighbours_topic(pool: asyncpg.Pool, broker: Broker) -> None:
    secret = await add_device(pool, "aq-1")
    await add_device(pool, "aq-2")
    await broker.refresh()
    ingest = Ingest()
    async with driving(of_core(broker, PLUG), ingest.emit):
        # Mosquitto answers a forbidden QoS 1 publish of MQTT 3.1.1 as if it had taken it.
        for topic in ("iot/v1/aq-2/telemetry", "iot/v1/aq-2/status", "iot/v1/aq-1/commands", "tele/x/SENSOR"):
            assert await publish(broker, "aq-1", secret, topic, "stolen") == 0
        assert await telemetry(broker, "aq-1", secret, "own") == 0
        await until(lambda: ingest.taken)
    assert ingest.payloads() == ["own"]


async def test_a_device_hears_its_own_commands_and_not_its_neighbours(pool: asyncpg.Pool, broker: Broker) -> None:
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    async with (
        listening_device(broker, "aq-1", secret, "#") as device,
        connected(broker.endpoint, "test", Mqtt()) as core,
    ):
        await core.publish("iot/v1/aq-2/commands", b"neighbour's")
        await core.publish("iot/v1/aq-1/commands", b"own")
        async with asyncio.timeout(60):
            first = await anext(aiter(device.messages))
    assert first.payload == b"own"


async def test_a_new_device_is_let_in_without_a_restart_and_without_being_asked_for(
    pool: asyncpg.Pool, broker: Broker
) -> None:
    before = child(broker)
    secret = await add_device(pool, "aq-1")
    async with asyncio.timeout(60):
        while await telemetry(broker, "aq-1", secret, "{}") == REFUSED:
            await asyncio.sleep(0.05)
    assert child(broker) == before


async def retire_while_listening(pool: asyncpg.Pool, broker: Broker, secret: str) -> None:
    async with listening_device(broker, "aq-1", secret, "iot/v1/aq-1/commands") as device, asyncio.timeout(60):
        await pool.execute("UPDATE iot.unit SET mounted_to = now()")
        async for _ in device.messages:
            pass


async def test_a_device_that_is_retired_is_thrown_out(pool: asyncpg.Pool, broker: Broker) -> None:
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    with pytest.raises(aiomqtt.MqttError):
        await retire_while_listening(pool, broker, secret)
    assert await telemetry(broker, "aq-1", secret, "{}") == REFUSED


async def test_nobody_takes_over_a_session_by_its_client_id(pool: asyncpg.Pool, broker: Broker) -> None:
    ingest = Ingest()
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    counted = Counter[str]()
    async with driving(of_core(broker, counted=counted), ingest.emit):
        await publish(broker, "aq-1", secret, "iot/v1/aq-1/telemetry", "{}", "-i", "iot-core-ingest")
        await until(lambda: ingest.taken)
    assert not counted["mqtt_disconnected"]


async def test_vendor_topics_are_granted_to_the_unit_and_to_its_gateway(pool: asyncpg.Pool, broker: Broker) -> None:
    profile = next(one for one in PROFILES.all() if one.topics and one.address.startswith("mqtt:"))
    topic = next(one for one in profile.topics if "+" not in one)
    address = profile.address.replace("{address}", "dev01")
    gateway = await add_device(pool, "gw-1")
    stranger = await add_device(pool, "aq-1")
    await add_device(pool, "vendor-1", profile=profile.model, address=address, gateway="gw-1")
    own = await add_device(pool, "vendor-2", profile=profile.model, address=address.replace("dev01", "dev02"))
    await broker.refresh()
    ingest = Ingest()
    known = StubProfile(profile.model, profile.address, profile.topics)
    async with driving(of_core(broker, known), ingest.emit):
        await publish(broker, "aq-1", stranger, topic.replace("{address}", "dev01"), "stolen")
        await publish(broker, "vendor-2", own, topic.replace("{address}", "dev01"), "stolen")
        await publish(broker, "gw-1", gateway, topic.replace("{address}", "dev01"), "by gateway")
        await publish(broker, "vendor-2", own, topic.replace("{address}", "dev02"), "own")
        await until(lambda: len(ingest.taken) == 2)
    assert ingest.payloads() == ["by gateway", "own"]


class Noting:
    """A child that notes when it is told to read its files again."""

    def __init__(self, real: Child, told: list[float]) -> None:
        self._real = real
        self._told = told

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def send(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._told.append(asyncio.get_running_loop().time())
        self._real.send(number)


async def test_reloads_are_few_however_many_devices_are_added(pool: asyncpg.Pool, broker: Broker) -> None:
    assert isinstance(broker, Mosquitto)
    assert broker.child is not None
    told: list[float] = []
    broker.child = cast("Child", Noting(broker.child, told))
    secrets = {f"aq-{number}": await add_device(pool, f"aq-{number}") for number in range(40)}
    await broker.refresh()
    assert await telemetry(broker, "aq-39", secrets["aq-39"], "{}") == 0
    assert all(later - earlier >= 0.49 for earlier, later in pairwise(told))


async def test_an_update_under_way_ends_with_the_core(state: StateDir, pool: asyncpg.Pool) -> None:
    async with started(state, pool, mqtt()) as broker:
        asking = [asyncio.create_task(broker.refresh()) for _ in range(3)]
        await asyncio.sleep(0)
    assert isinstance(broker, Mosquitto)
    assert not broker._updates
    await asyncio.gather(*asking, return_exceptions=True)


async def test_what_waits_for_the_core_survives_new_accounts_and_a_restart_of_the_broker(
    pool: asyncpg.Pool, state: StateDir
) -> None:
    settings = mqtt()
    secret = await add_device(pool, "aq-1")
    async with started(state, pool, settings) as broker:
        async with driving(of_core(broker), Ingest().emit):
            pass
        await telemetry(broker, "aq-1", secret, "1")
        await add_device(pool, "aq-2")
        await broker.refresh()  # SIGHUP while the core's session is away
        await publish(broker, "aq-1", secret, "iot/v1/aq-1/telemetry", "2", "-q", "0")
        await telemetry(broker, "aq-1", secret, "3")  # acknowledged: the broker has read what came before it, too
    async with started(state, pool, settings) as broker:
        await telemetry(broker, "aq-1", secret, "4")  # before the core is back
        await add_device(pool, "aq-3")
        await broker.refresh()
        await telemetry(broker, "aq-1", secret, "5")
        ingest = Ingest()
        async with driving(of_core(broker), ingest.emit):
            await until(lambda: len(ingest.taken) == 5, what=ingest)
    assert ingest.payloads() == ["1", "2", "3", "4", "5"]


async def test_a_broker_that_a_killed_core_left_is_adopted_with_what_it_holds(
    migrated_dsn: str, pool: asyncpg.Pool, state: StateDir
) -> None:
    settings = mqtt()
    secret = await add_device(pool, "aq-1")
    left = await killed_core(state, migrated_dsn, settings)
    assert await publish_to(settings, "aq-1", secret, "held") == 0
    late = await add_device(pool, "aq-2")  # nobody tells the broker
    async with started(state, pool, settings) as broker:
        assert child(broker) == left
        ingest = Ingest()
        async with driving(of_core(broker), ingest.emit):
            assert await telemetry(broker, "aq-2", late, "new") == 0
            await until(lambda: len(ingest.taken) == 2)
    assert ingest.payloads() == ["held", "new"]


async def test_presence_is_kept_with_connections_and_unknown_without(
    migrated_dsn: str, pool: asyncpg.Pool, state: StateDir
) -> None:
    await add_device(pool, "aq-1")
    settings = mqtt()
    await killed_core(state, migrated_dsn, settings)
    await pool.execute("INSERT INTO iot.device_status (device_id, online) SELECT id, true FROM iot.device")
    online = "SELECT online FROM iot.device_status"
    async with started(state, pool, settings) as broker:
        assert await pool.fetchval(online) is True, "adopted: whoever is connected still is"
        os.kill(child(broker), signal.SIGKILL)
        async with asyncio.timeout(60):
            while await pool.fetchval(online) is not None:
                await asyncio.sleep(0.05)


async def test_other_settings_start_it_anew_and_keep_what_it_holds(
    migrated_dsn: str, pool: asyncpg.Pool, state: StateDir
) -> None:
    secret = await add_device(pool, "aq-1")
    settings = mqtt()
    left = await killed_core(state, migrated_dsn, settings)
    assert await publish_to(settings, "aq-1", secret, "held") == 0
    async with started(state, pool, mqtt(window=77)) as broker:
        assert child(broker) != left
        ingest = Ingest()
        async with driving(of_core(broker), ingest.emit):
            await until(lambda: ingest.taken)
    assert ingest.payloads() == ["held"]


async def test_a_broker_that_dies_is_started_again_and_soon_writes_down_who_subscribed(
    pool: asyncpg.Pool, state: StateDir, broker: Broker
) -> None:
    secret = await add_device(pool, "aq-1")
    kept = state.broker / "data" / "mosquitto.db"
    ingest, counted = Ingest(), Counter[str]()
    before = child(broker)
    async with driving(of_core(broker, counted=counted), ingest.emit) as driver:
        os.kill(before, signal.SIGKILL)
        await until(lambda: counted["mqtt_disconnected"])
        driver._intake.subscribed.clear()
        async with asyncio.timeout(60):
            await driver.listening()
        assert child(broker) != before
        kept.unlink(missing_ok=True)
        await telemetry(broker, "aq-1", secret, "again")
        await until(lambda: ingest.taken)
        await until(lambda: kept.exists() and b"iot/v1/+/telemetry" in kept.read_bytes())


async def test_a_broker_killed_with_a_long_queue_loses_no_more_than_one_save(
    pool: asyncpg.Pool, broker: Broker
) -> None:
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    async with driving(of_core(broker), Ingest().emit):
        pass
    lines = b"".join(b"%d\n" % number for number in range(3 * SAVE_AFTER))
    await publish_lines(broker, "aq-1", secret, lines)
    killed = child(broker)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: broker.child and broker.child.alive() and broker.child.pid != killed)  # type: ignore[attr-defined]
    ingest = Ingest()
    async with driving(of_core(broker), ingest.emit):
        # Sets, because what was in flight when a connection ended comes again.
        await until(lambda: len(set(ingest.payloads())) >= 2 * SAVE_AFTER)
    kept = {int(payload) for payload in ingest.payloads()}
    assert kept >= set(range(2 * SAVE_AFTER))


async def test_its_files_are_its_users_alone_and_no_secret_is_on_a_command_line(
    broker: Broker, state: StateDir
) -> None:
    user = "mosquitto" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    for name in ("accounts", "acl", "mosquitto.conf", "data"):
        found = (state.broker / name).stat()
        assert pwd.getpwuid(found.st_uid).pw_name == user
        assert not found.st_mode & 0o077
    secret = (state.broker / "secret").stat()
    assert secret.st_uid == os.geteuid()
    assert not secret.st_mode & 0o077
    with open(f"/proc/{child(broker)}/cmdline", "rb") as file:  # noqa: PTH123
        assert (broker.endpoint.password or "?").encode() not in file.read()
    with open(f"/proc/{child(broker)}/status") as file:  # noqa: PTH123
        assert f"\nUid:\t{pwd.getpwnam(user).pw_uid}\t" in file.read()
    assert (broker.endpoint.password or "?") not in (state.broker / "accounts").read_text()


async def test_it_listens_on_loopback_only(broker: Broker) -> None:
    with socket.socket() as probe, pytest.raises(OSError, match="refused"):
        probe.connect(("127.0.0.2", broker.endpoint.port))


async def test_a_port_in_use_is_said_with_its_number(pool: asyncpg.Pool, state: StateDir) -> None:
    settings = mqtt()
    with socket.create_server((settings.host, settings.port)), pytest.raises(StartError) as caught:
        async with started(state, pool, settings):
            pass
    assert caught.value.code == "broker.port"
    assert caught.value.facts["port"] == settings.port


@pytest.mark.root
async def test_a_state_directory_out_of_its_users_reach_is_said_with_the_folder(
    pool: asyncpg.Pool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    with locked(closed / "state") as state, pytest.raises(StartError) as caught:
        async with started(state, pool, mqtt()):
            pass
    assert caught.value.code == "broker.unreachable"


async def test_a_message_as_large_as_300_kb_comes_through(pool: asyncpg.Pool, broker: Broker) -> None:
    secret = await add_device(pool, "aq-1")
    await broker.refresh()
    ingest = Ingest()
    where = broker.endpoint
    device = aiomqtt.Client(where.host, where.port, username="aq-1", password=secret)
    async with driving(of_core(broker), ingest.emit), device:
        await device.publish("iot/v1/aq-1/telemetry", b"x" * 300_000, qos=1)
        await until(lambda: ingest.taken)
    assert len(ingest.taken[0].payload) == 300_000
