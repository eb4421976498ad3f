"""A core with devices on all three protocols, and what one compares at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from iot_core.api import shapes
from tests.core import until
from tests.faults.ledger import Ledger, Verdict, connect
from tests.faults.senders import Coap, Meter, Mqtt, Sender, ledger_of, meter, profiles, sending
from tests.up import Up, core_process

STILL_S: Final = 6.0
"""A core that takes work and stores nothing for so long has nothing more."""


@dataclass
class City:
    """What runs."""

    up: Up
    senders: list[Sender] = field(default_factory=list)
    meter: Meter | None = None
    direct: str = ""
    """The database's own address, where the core has one that can fail."""

    @property
    def dsn(self) -> str:
        return self.direct or self.up.dsn()

    async def sql(self, *statements: str) -> None:
        """Run statements in the core's database."""
        connection = await connect(self.dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def value(self, query: str) -> Any:
        """Read one value from the core's database."""
        connection = await connect(self.dsn)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def add(self, key: str, profile: str = "native-air-quality", address: str | None = None) -> str:
        """Register a device; give its secret, empty for one that needs none."""
        async with self.up.client() as client:
            added = await client.add_device(shapes.DeviceNew(key=key, profile=profile, address=address))
        return added.secret or ""

    async def mqtt(self, key: str, *, timed: bool = True, interval_s: float = 0.005, port: int = 0) -> Mqtt:
        """Add a device that speaks MQTT."""
        made = Mqtt(port or self.up.port + 1, key, await self.add(key), timed, interval_s)
        self.senders.append(made)
        return made

    async def coap(self, key: str, *, interval_s: float = 0.01) -> Coap:
        """Add a device that speaks CoAP."""
        made = Coap(self.up.port + 2, key, await self.add(key), interval_s=interval_s)
        self.senders.append(made)
        return made

    def ledger(self) -> Ledger:
        """Write down what every sender was told."""
        made = ledger_of(*self.senders)
        if self.meter is not None:
            made.note(self.meter.key, range(len(self.meter.answered)))
        return made

    async def verdict(self, ledger: Ledger | None = None, *, within_s: float = 60.0) -> Verdict:
        """Wait until everything acknowledged is in the tables, or until nothing moves any more; give what is there."""
        ledger = ledger or self.ledger()
        deadline = time.monotonic() + within_s
        found, moved = await ledger.verdict(self.dsn), time.monotonic()
        while found.lost and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            now = await ledger.verdict(self.dsn)
            if now.stored != found.stored:
                moved = time.monotonic()
            elif time.monotonic() - moved > STILL_S and await self.up.ready():
                break
            found = now
        return found

    async def stored_again(self, senders: Iterable[Sender] = ()) -> float:
        """Wait until a message of each that was acknowledged from now on is stored; give the seconds it took."""
        began = time.monotonic()
        watched = list(senders) or self.senders
        marks = {sender.key: len(sender.said) for sender in watched}

        def silent() -> list[str]:
            return [each.key for each in watched if len(each.said) <= marks[each.key]]

        try:
            await until(lambda: not silent(), within_s=90, what="new messages")
        except AssertionError as error:
            raise AssertionError(f"{error}; {silent()} not acknowledged: {self.up.log()[-3000:]}") from None
        missing = {each.key for each in watched}

        async def there() -> bool:
            fresh = Ledger({(each.key, n) for each in watched for n in range(marks[each.key], len(each.said))})
            lost = set((await fresh.verdict(self.dsn)).lost)
            missing.difference_update(key for key, _ in fresh.acknowledged - lost)
            return not missing

        try:
            await until(there, within_s=90, what="stored again")
        except AssertionError as error:
            raise AssertionError(f"{error}; nothing new of {missing}: {self.up.log()[-3000:]}") from None
        return time.monotonic() - began


@asynccontextmanager
async def city(state: Path, port: int, *, modbus: int = 0, direct: str = "", **settings: str) -> AsyncIterator[City]:
    """Run a core; with a port for Modbus also a unit there, polled every second."""
    if not modbus:
        async with core_process(state, port, **settings) as up:
            yield City(up, direct=direct)
        return
    async with (
        meter(modbus) as unit,
        core_process(state, port, PROFILES=profiles(state.parent), **settings) as up,
    ):
        made = City(up, meter=unit, direct=direct)
        await made.add(unit.key, "fault-meter", f"modbus://127.0.0.1:{modbus}/1")
        yield made


__all__ = ["City", "city", "sending"]
