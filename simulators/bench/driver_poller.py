"""Our Modbus driver as far as pymodbus' client goes: it asks, and what is said is thrown away.

Run as `python -m simulators.bench.driver_poller FOLDER` (of profiles) with a Rounds as JSON on standard input; a Polled
comes out, of what follows the first round.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from drivers.modbus.poller import ModbusDriver
from iot_core.driver import BrokerEndpoint, DriverContext
from iot_core.model import MountedUnit, Outcome, Uplink
from iot_core.profiles import load
from iot_core.settings import Modbus, Settings
from simulators.bench.pymodbus_poller import Polled, Rounds

_STORED = Outcome(stored=1)


class _Nobody:
    """Nobody signs in."""

    async def __call__(self, device_key: str, secret: str) -> bool:
        return self.remembers(device_key, secret)

    def remembers(self, device_key: str, secret: str) -> bool:
        return not (device_key or secret)


class _Units:
    """Units that never change."""

    def __init__(self, rounds: Rounds) -> None:
        addresses = [
            f"modbus://127.0.0.1:{port}/{unit}" for port in rounds.ports for unit in range(1, rounds.units + 1)
        ]
        self._units = {
            address: MountedUnit(
                unit_id=number, device_id=number, device_key=f"m-{number}", class_key="bench_meter",
                profile="bench-meter", address=address, mounted_from=datetime.now(UTC),
            )
            for number, address in enumerate(addresses)
        }  # fmt: skip

    def at(self, address: str) -> MountedUnit | None:
        return self._units.get(address)

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        del scheme
        return self._units.values()

    async def changed(self) -> None:
        await asyncio.Event().wait()


async def main(folder: Path, rounds: Rounds) -> Polled:
    """Poll all gateways side by side."""
    polls = 0

    async def emit(uplink: Uplink) -> None:
        nonlocal polls
        polls += 1
        await uplink.done(_STORED)

    settings = Settings(modbus=Modbus(connections=len(rounds.ports)))
    broker = BrokerEndpoint("127.0.0.1", 1, None, None, 1, "external")
    driver = ModbusDriver(DriverContext(settings, load(folder), _Nobody(), broker, lambda _event, _by=1: None))
    running = asyncio.create_task(driver.run(_Units(rounds), emit), name="driver")
    await asyncio.sleep(rounds.interval_s)  # the first round comes in five seconds, and connects
    polls, used = 0, time.process_time()
    await asyncio.sleep(rounds.seconds)
    cpu_s = time.process_time() - used
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return Polled(polls, cpu_s)


if __name__ == "__main__":
    done = asyncio.run(main(Path(sys.argv[1]), msgspec.json.decode(sys.stdin.buffer.read(), type=Rounds)))
    sys.stdout.write(msgspec.json.encode(done).decode())
