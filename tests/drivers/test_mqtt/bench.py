"""A driver on the bench: real broker, real clients of others, and an ingest path that does what the test says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from drivers.mqtt import MqttDriver
from iot_core.driver import BrokerEndpoint, DriverContext
from iot_core.model import Outcome, Uplink
from iot_core.settings import Mqtt, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from iot_core.model import MountedUnit
    from iot_core.profiles import Profiles
from tests.drivers.wire_edges import Secrets
from tests.servers import Mosquitto

DURABLE = ("allow_anonymous true", "upgrade_outgoing_qos true", "max_queued_messages 500000", "sys_interval 1")


@dataclass(frozen=True)
class StubProfile:
    model: str
    address: str
    topics: tuple[str, ...]
    command_topics: tuple[str, ...] = ()


class StubProfiles:
    """The part of Profiles that topics need."""

    version = 0

    def __init__(self, *profiles: StubProfile) -> None:
        self._profiles = profiles

    def all(self) -> tuple[StubProfile, ...]:
        return self._profiles


class NoUnits:
    """A registry where nothing, or only the given addresses, are mounted."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def at(self, address: str) -> MountedUnit | None:
        return cast("MountedUnit", address) if address in self._addresses else None

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        return iter([cast("MountedUnit", one) for one in self._addresses if one.startswith(f"{scheme}:")])

    async def changed(self) -> None:
        await asyncio.Event().wait()


def context(
    port: int,
    *profiles: StubProfile,
    counted: Counter[str] | None = None,
    keepalive_s: int = 30,
    kind: str = "mosquitto",
    socket: str = "",
    endpoint: BrokerEndpoint | None = None,
    mqtt: Mqtt | None = None,
) -> DriverContext:
    counts = Counter[str]() if counted is None else counted

    def count(event: str, by: int = 1) -> None:
        counts[event] += by

    return DriverContext(
        settings=Settings(mqtt=mqtt or Mqtt(keepalive_s=keepalive_s)),
        profiles=cast("Profiles", StubProfiles(*profiles)),
        authenticate=Secrets(),
        broker=endpoint or BrokerEndpoint("127.0.0.1", port, None, None, 20, kind, socket),
        count=count,
    )


async def settle(*uplinks: Uplink) -> None:
    """Say that these are committed, each in a flush of its own."""
    for uplink in uplinks:
        assert uplink.settle is not None
        await uplink.settle([uplink.token], {})


@dataclass
class Ingest:
    """Takes uplinks like the ingest path; says `done` at once unless told to wait."""

    finish: bool = True
    taken: list[Uplink] = field(default_factory=list)

    async def emit(self, uplink: Uplink) -> None:
        self.taken.append(uplink)
        if self.finish and uplink.settle is None:
            await uplink.done(Outcome(stored=1))
        elif self.finish:
            await settle(uplink)

    def of(self, address: str) -> list[Uplink]:
        return [uplink for uplink in self.taken if uplink.address == address]

    def payloads(self) -> list[str]:
        return [uplink.payload.decode() for uplink in self.taken]


@asynccontextmanager
async def running(
    context: DriverContext, emit: Callable[[Uplink], object], units: NoUnits | None = None
) -> AsyncIterator[MqttDriver]:
    """Run a driver until the block ends."""
    driver = MqttDriver(context)
    task = asyncio.create_task(driver.run(units or NoUnits(), emit))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(60):
            await driver.listening()
        yield driver
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.done()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def until(condition: Callable[[], object], seconds: float = 60.0, what: object = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


async def publish(broker: Mosquitto, *arguments: str, lines: bytes | None = None) -> int:
    """Run mosquitto_pub and give its exit code."""
    words = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), *arguments]
    stdin = asyncio.subprocess.DEVNULL if lines is None else asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*words, stdin=stdin, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        await child.communicate(lines)
    assert child.returncode is not None
    return child.returncode
