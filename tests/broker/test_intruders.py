"""A device of the registry tries to be another one, at a real Mosquitto under a real core; RabbitMQ: test_rabbitmq."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from iot_core.api import shapes
from tests.broker.intruder import Intruder
from tests.conftest import missing
from tests.core import core_running

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def intruder(dsn: str, state_path: Path, free_ports: Callable[[int], int]) -> AsyncIterator[Intruder]:
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    async with core_running(dsn, state_path, free_ports, mqtt={"broker": "mosquitto"}) as (core, client):
        made = [
            await client.add_device(shapes.DeviceNew(key=key, profile="native-air-quality")) for key in ("aq-1", "aq-2")
        ]
        yield Intruder(core, "aq-1", made[0].secret or "", "aq-2", made[1].secret or "")


async def test_a_device_hears_nothing_of_its_neighbour(intruder: Intruder) -> None:
    await intruder.hears_nothing_of_its_neighbour()


async def test_a_device_says_nothing_in_its_neighbours_name_nor_forges_receipts(intruder: Intruder) -> None:
    await intruder.says_nothing_for_its_neighbour()
    await intruder.leaves_no_will_with_its_neighbour()


async def test_a_device_takes_nobodys_session_with_a_cloned_client_id(intruder: Intruder) -> None:
    await intruder.takes_no_session()
