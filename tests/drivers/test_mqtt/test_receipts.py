"""Receipts: what is committed is told to the unit that numbered it, with ranges that heal what was lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiomqtt
from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt.receipts import Receipts, ranges
from iot_core.settings import Mqtt
from tests.drivers.test_mqtt.bench import Ingest, context, running, until

if TYPE_CHECKING:
    from iot_core.model import Uplink
    from tests.servers import Mosquitto


class Numbering(Ingest):
    """Commits everything at once, with the number in its payload."""

    async def emit(self, uplink: Uplink) -> None:
        self.taken.append(uplink)
        said = json.loads(uplink.payload)
        assert uplink.settle is not None
        await uplink.settle([uplink.token], {(uplink.address[4:], said.get("run", "")): [said["seq"]]})


async def receipts_of(client: aiomqtt.Client, told: list[Any]) -> None:
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        told.append((str(message.topic), json.loads(message.payload)))


async def test_a_device_is_told_what_is_committed_and_a_later_receipt_covers_a_lost_one(mosquitto: Mosquitto) -> None:
    told: list[Any] = []
    async with (
        running(context(mosquitto.port), Numbering().emit),
        aiomqtt.Client("127.0.0.1", mosquitto.port) as device,
    ):
        await device.subscribe("iot/v1/+/stored", qos=1)
        reading = asyncio.create_task(receipts_of(device, told))
        for number in range(5):
            await device.publish("iot/v1/aq-1/telemetry", json.dumps({"seq": number, "run": "b7"}), qos=1)
        await until(lambda: bool(told) and told[-1][1]["seq"][-1][1] == 4)
        lost = len(told)  # as if none of them had reached it
        await device.publish("iot/v1/aq-1/telemetry", json.dumps({"seq": 5, "run": "b7"}), qos=1)
        await device.publish("iot/v1/aq-2/telemetry", json.dumps({"seq": 9}), qos=1)
        await until(lambda: len({topic for topic, _ in told[lost:]}) == 2)
        reading.cancel()
    later = dict(told[lost:])
    assert later == {
        "iot/v1/aq-1/stored": {"run": "b7", "seq": [[0, 5]]},
        "iot/v1/aq-2/stored": {"run": "", "seq": [[9, 9]]},
    }


async def test_none_are_sent_where_settings_say_so(mosquitto: Mosquitto) -> None:
    told: list[Any] = []
    ingest = Numbering()
    async with (
        running(context(mosquitto.port, mqtt=Mqtt(receipts=False)), ingest.emit),
        aiomqtt.Client("127.0.0.1", mosquitto.port) as device,
    ):
        await device.subscribe("iot/v1/+/stored", qos=1)
        reading = asyncio.create_task(receipts_of(device, told))
        await device.publish("iot/v1/aq-1/telemetry", '{"seq": 1}', qos=1)
        await until(lambda: len(ingest.taken) == 1)
        await device.publish("iot/v1/aq-1/stored", '{"end": true}', qos=1)  # behind anything the core would have sent
        await until(lambda: bool(told))
        reading.cancel()
    assert told == [("iot/v1/aq-1/stored", {"end": True})]


async def test_receipts_beyond_the_bound_are_dropped_and_counted() -> None:
    counted = Counter[str]()
    receipts = Receipts(context(1, counted=counted), most=3)
    receipts.note({(f"d-{number}", ""): [1] for number in range(5)})
    receipts.note({("d-0", ""): [2, 3]})  # of a device that is known as well: it may say thousands
    assert receipts._waiting == {("d-0", ""): [1], ("d-1", ""): [1], ("d-2", ""): [1]}
    assert counted["mqtt_receipts_dropped"] == 4


@given(st.lists(st.integers(0, 40), min_size=1), st.none() | st.tuples(st.integers(0, 40), st.integers(0, 9)))
def test_ranges_say_the_numbers_and_what_was_told_and_nothing_else(numbers: list[int], told: Any) -> None:
    before = None if told is None else (told[0], told[0] + told[1])
    found = ranges(numbers, before)
    said = {number for first, last in found for number in range(first, last + 1)}
    known = set() if before is None else set(range(before[0], before[1] + 1))
    assert set(numbers) <= said <= set(numbers) | known
    assert all(b[0] > a[1] + 1 for a, b in pairwise(found))
