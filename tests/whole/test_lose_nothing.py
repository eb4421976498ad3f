"""The reference device loses nothing and doubles nothing, whatever is killed under it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.core import until
from tests.faults.city import City, city
from tests.reference_device import Device

pytestmark = pytest.mark.timeout(240)


async def kill_core(town: City, _: Path) -> None:
    await town.up.kill()
    await asyncio.sleep(0.5)
    await town.up.start()


async def kill_broker(_: City, state: Path) -> None:
    os.kill(json.loads((state / "broker" / "child.json").read_bytes())["pid"], signal.SIGKILL)


async def kill_database(town: City, _: Path) -> None:
    os.kill(town.up.postmaster(), signal.SIGKILL)


async def test_what_no_receipt_covers_is_kept_and_sent_again_until_all_is_stored_once(
    state_path: Path, free_ports: Any
) -> None:
    port = free_ports(3)
    async with city(state_path, port) as town:
        device = Device("127.0.0.1", port + 1, "aq-1", await town.add("aq-1"), again_s=2)
        working = asyncio.create_task(device.work())
        for kill in (kill_core, kill_broker, kill_database):
            for _ in range(40):
                device.measure(pm25=device.seq % 90)
                await asyncio.sleep(0.01)
            await kill(town, state_path)
            for _ in range(40):
                device.measure(pm25=device.seq % 90)
                await asyncio.sleep(0.01)
        await until(lambda: not device.kept, within_s=90, what="receipts for everything")
        rows = await town.value("SELECT count(*) FROM telemetry.air_quality")
        numbers = await town.value("SELECT seqs::text FROM iot.seq_range")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert device.seq == 240
    assert (rows, numbers) == (240, "{[0,240)}")
