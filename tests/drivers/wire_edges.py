"""Stand-ins at the very edge of a driver: units, the ingest path, counters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, cast

from iot_core.driver import BrokerEndpoint, Driver, DriverContext
from iot_core.errors import StoreUnavailable
from iot_core.model import MountedUnit, Outcome, Uplink
from iot_core.settings import Coap, Modbus, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from iot_core.profiles import Profiles

STORED = Outcome(stored=1)


class Mounted:
    """The live view of mounted units."""

    def __init__(self, *units: MountedUnit) -> None:
        self._units = {unit.address: unit for unit in units}
        self._news = asyncio.Event()

    def at(self, address: str) -> MountedUnit | None:
        return self._units.get(address)

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        return [unit for unit in self._units.values() if unit.address.startswith(f"{scheme}:")]

    async def changed(self) -> None:
        self._news.clear()
        await self._news.wait()

    def mount(self, unit: MountedUnit) -> None:
        self._units[unit.address] = unit
        self._news.set()

    def touch(self) -> None:
        self._news.set()

    def dismount(self, address: str) -> None:
        del self._units[address]
        self._news.set()


def unit(address: str, *, profile: str = "acme-meter", number: int = 1, channels: Sequence[str] = ()) -> MountedUnit:
    return MountedUnit(
        unit_id=number,
        device_id=number,
        device_key=f"device-{number}",
        class_key="water_meter",
        profile=profile,
        address=address,
        mounted_from=datetime(2025, 1, 1, tzinfo=UTC),
        channels={channel: 1_000 + place for place, channel in enumerate(channels)},
    )


@dataclass
class Ingest:
    """The ingest path: keeps what it is given and tells each driver what became of it."""

    outcome: Outcome = STORED
    away: bool = False
    refused: int = 0
    commit: Callable[[], Awaitable[None]] | None = None
    uplinks: list[Uplink] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, uplink: Uplink) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable
        self.uplinks.append(uplink)
        self._news.set()
        task = asyncio.create_task(self._commit(uplink))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(self, uplink: Uplink) -> None:
        if self.commit is not None:
            await self.commit()
        if uplink.settle is not None:
            await uplink.settle([uplink.token], {})
        else:
            await uplink.done(self.outcome)

    def of(self, address: str) -> list[Uplink]:
        return [uplink for uplink in self.uplinks if uplink.address == address]

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait for a condition over what has arrived."""
        await until(condition, seconds)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition; fail at the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Secrets:
    """The registry's answer to `does this secret belong to this device`."""

    known: dict[str, str] = field(default_factory=dict)
    away: bool = False
    asked: list[str] = field(default_factory=list)
    remembering: ClassVar[bool] = False
    """Whether a known sender is recognised without asking, as it is from its second message on."""

    def remembers(self, device_key: str, secret: str) -> bool:
        return self.remembering and not self.away and bool(self.known) and self.known.get(device_key) == secret

    async def __call__(self, device_key: str, secret: str) -> bool:
        self.asked.append(device_key)
        if self.away:
            raise StoreUnavailable
        return self.known.get(device_key) == secret


@dataclass
class Edges:
    """All of them, and the context made of them."""

    secrets: Secrets = field(default_factory=Secrets)
    counted: Counter[str] = field(default_factory=Counter)
    ingest: Ingest = field(default_factory=Ingest)

    def context(
        self,
        *,
        coap: Coap | None = None,
        modbus: Modbus | None = None,
        profiles: object = None,
        spool: Path | None = None,
    ) -> DriverContext:
        def count(event: str, by: int = 1) -> None:
            self.counted[event] += by

        return DriverContext(
            settings=Settings(coap=coap or Coap(), modbus=modbus or Modbus()),
            profiles=cast("Profiles", profiles),
            authenticate=self.secrets,
            broker=BrokerEndpoint("127.0.0.1", 1, None, None, 1, "external"),
            count=count,
            spool=spool,
        )


@asynccontextmanager
async def running(driver: Driver, units: Mounted, ingest: Ingest) -> AsyncIterator[asyncio.Task[None]]:
    """Run a driver for the length of a block; a driver that fails fails the test."""
    task = asyncio.create_task(driver.run(units, ingest))
    try:
        yield task
    finally:
        if task.done():
            task.result()
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(task, return_exceptions=True)
