"""The broker is killed: what its own PUBACK is worth, and how a device that keeps its buffer loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.core import until
from tests.faults.city import City, city, sending
from tests.faults.ledger import Ledger
from tests.faults.result import Recorder
from tests.faults.senders import Careful, Mqtt, publish_all
from tests.rabbitmq import rabbitmq
from tests.servers import Missing

KILLS = 2
WAITING = 12_000
IN_MEMORY = 5_000
"""What Mosquitto as we start it may hold in memory only (iot_core/broker/mosquitto.py, SAVE_AFTER)."""

pytestmark = pytest.mark.timeout(240)


@dataclass
class Stage:
    """A core behind some broker, and how that one is killed and comes back."""

    town: City
    port: int
    kill: Callable[[], Awaitable[None]]
    back: Callable[[], Awaitable[None]]
    account: tuple[str, str] | None = None
    """The one login of all devices, where the broker does not know the registry."""

    async def device(self, key: str) -> tuple[str, str]:
        """Register a device; give its login and secret."""
        secret = await self.town.add(key)
        return self.account or (key, secret)


@asynccontextmanager
async def started(kind: str, state: Path, port: int, dsn: str) -> AsyncIterator[Stage]:
    """A broker that the core starts, and starts anew when it dies."""
    async with city(state, port, STORE_DSN=dsn, MQTT_BROKER=kind) as town:

        async def kill() -> None:
            os.kill(json.loads((state / "broker" / "child.json").read_bytes())["pid"], signal.SIGKILL)

        async def back() -> None:
            await until(town.up.ready, within_s=60)

        yield Stage(town, port + 1, kill, back)


@asynccontextmanager
async def elsewhere(kind: str, state: Path, port: int, dsn: str) -> AsyncIterator[Stage]:
    """RabbitMQ with durable queues, which somebody else starts anew."""
    async with AsyncExitStack() as stack:
        try:
            broker = stack.enter_context(rabbitmq(state.parent / "rabbitmq", port=port + 1))
        except Missing as exc:
            missing(str(exc))
        core = city(state, port, STORE_DSN=dsn, MQTT_BROKER=kind, MQTT_USERNAME="guest", MQTT_PASSWORD="guest")
        town = await stack.enter_async_context(core)

        async def kill() -> None:
            broker.kill()

        async def back() -> None:
            await asyncio.to_thread(broker.start)

        yield Stage(town, port + 1, kill, back, ("guest", "guest"))


RECEIPTS = "every message had its receipt at the end"
KINDS = {
    "Mosquitto 2.0.11": (started, "mosquitto"),
    "embedded (iotcore)": (started, "embedded"),
    "RabbitMQ 3.10, durable queues": (elsewhere, "external"),
}


@pytest.mark.faults("SIGKILL of the broker", "see the second table")
@pytest.mark.parametrize("broker", KINDS)
async def test_a_killed_broker_costs_at_most_what_it_says_and_careful_devices_nothing(
    broker: str, state_path: Path, ports: int, database: str, record: Recorder
) -> None:
    begin, kind = KINDS[broker]
    async with begin(kind, state_path, ports, database) as stage:
        town = stage.town
        plain_user, plain_secret = await stage.device("plain")
        careful_user, careful_secret = await stage.device("careful")
        plain = Mqtt(stage.port, "plain", plain_secret, user=plain_user)
        careful = Careful(stage.port, "careful", careful_secret, user=careful_user)
        async with sending(plain, careful):
            for _ in range(KILLS):
                await plain.reaches(len(plain.said) + 200)
                await stage.kill()
                await stage.back()
                await plain.reaches(len(plain.said) + 20)
            await town.stored_again([plain])
            await careful.reaches(len(careful.said) + 20)
        forgetful = await town.verdict(Ledger({("plain", n) for n in plain.said}), within_s=5)
        record.puback(
            broker, f"killed {KILLS} times while the core reads; devices forget a message with its PUBACK", forgetful
        )
        kept = await town.verdict(Ledger({("careful", n) for n in careful.said}))
        record.puback(broker, "the same, devices keep a message until its receipt and send it again", kept, RECEIPTS)
        assert kept.sound, kept
        assert careful.receipts
        assert not careful.kept, "every message has its receipt"
        assert not forgetful.doubled

        user, secret = await stage.device("burst")
        await town.up.kill()
        numbers = await publish_all(stage.port, "burst", secret, 0, WAITING, user=user)
        await stage.kill()
        if stage.account:
            await stage.back()
        await town.up.start()
        waiting = await town.verdict(Ledger({("burst", n) for n in numbers}), within_s=15)
        record.puback(broker, f"killed while it holds {WAITING:,} messages for a core that is away", waiting)
        assert not waiting.doubled
        if kind == "mosquitto":
            assert len(waiting.lost) <= IN_MEMORY
        if stage.account:
            assert not waiting.lost
