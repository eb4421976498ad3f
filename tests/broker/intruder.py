"""Somebody with one device's secret tries to get at another one: the same tries at every broker that asks us."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiomqtt

from drivers.mqtt.link import connected
from iot_core.settings import Mqtt
from tests.core import command, last_week, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from iot_core.app import Core

DAY = last_week()
AT, LATER = f"{DAY}T08:00:00+07:00", f"{DAY}T08:01:00+07:00"
LISTENED = (
    "iot/v1/{victim}/commands", "iot/v1/+/commands", "iot/v1/{victim}/#", "#", "+/v1/{victim}/commands", "$SYS/#",
    "$share/g/iot/v1/{victim}/commands", "iot/v1/{victim}/telemetry", "iot/v1/claim", "iot/v1/claim/+",
)  # fmt: skip
SAID = (
    "iot/v1/{victim}/telemetry", "iot/v1/{victim}/status", "iot/v1/{victim}/commands", "iot/v1/{victim}/stored",
    "iot/v1/{victim}/commands/result", "iot/v1/{victim}/config/reported", "iot/v1/{own}/commands",
    "iot/v1/{own}/stored", "iot/v1/claim", "zigbee2mqtt/lamp", "$SYS/broker/uptime",
)  # fmt: skip


class Intruder:
    """Knows the secret of `own`, wants to be `victim`."""

    def __init__(self, core: Core, own: str, secret: str, victim: str, victims_secret: str) -> None:
        self.core = core
        self.own, self.secret = own, secret
        self.victim, self.victims_secret = victim, victims_secret
        self.where = (core.broker.host, core.broker.port)

    @asynccontextmanager
    async def client(self, key: str, secret: str, **more: Any) -> AsyncIterator[aiomqtt.Client]:
        async with aiomqtt.Client(*self.where, username=key, password=secret, **{"identifier": key, **more}) as made:
            yield made

    async def publishes(self, topic: str, body: str, *more: str) -> None:
        """Try; whether the broker says no or nothing differs from broker to broker."""
        words = ("mosquitto_pub", "-h", self.where[0], "-p", str(self.where[1]), "-q", "1", "-i", self.own)
        await command(*words, "-u", self.own, "-P", self.secret, "-t", topic, "-m", body, *more)

    def names(self, topic: str) -> str:
        return topic.format(own=self.own, victim=self.victim)

    async def hears_nothing_of_its_neighbour(self) -> None:
        for topic in LISTENED:
            async with (
                self.client(self.own, self.secret) as device,
                asyncio.timeout(60),
                asyncio.TaskGroup() as both,
            ):
                asking = both.create_task(self._asks_for(device, self.names(topic)))
                heard, closed = await self._listens(device)
                if closed:  # at the first forbidden filter; aiomqtt would wait ten seconds for its answer
                    asking.cancel()
            assert heard == [], topic

    async def _asks_for(self, device: aiomqtt.Client, topic: str) -> None:
        """Subscribe to a topic and to its own; then the core says something on the victim's, and on its own."""
        with suppress(aiomqtt.MqttError):
            await device.subscribe(topic, qos=1)
        await device.subscribe(f"iot/v1/{self.own}/commands", qos=1)
        async with connected(self.core.broker, "iot-core-ingest-test", Mqtt()) as core:
            await core.publish(f"iot/v1/{self.victim}/commands", b"the neighbour's")
            await core.publish(f"iot/v1/{self.own}/commands", b"own")

    async def _listens(self, device: aiomqtt.Client) -> tuple[list[str], bool]:
        """Give the topics heard until its own, and whether the broker closed the connection instead."""
        heard: list[str] = []
        with suppress(aiomqtt.MqttError):
            async for message in device.messages:
                if str(message.topic) == f"iot/v1/{self.own}/commands":
                    return heard, False
                heard.append(str(message.topic))
        return heard, True

    async def says_nothing_for_its_neighbour(self) -> None:
        """Publish everywhere, retained too; the victim listens, and the core counts."""
        before = self.core.counters.total("ingest_stored") + self.core.counters.total("ingest_held")
        async with self.client(self.victim, self.victims_secret) as device:
            await device.subscribe([(f"iot/v1/{self.victim}/{tail}", 1) for tail in ("commands", "stored", "config")])
            for topic in SAID:
                for more in ((), ("-r",)):
                    await self.publishes(self.names(topic), json.dumps({"time": AT, "pm25": 666}), *more)
            async with connected(self.core.broker, "iot-core-ingest-test", Mqtt()) as core:
                await core.publish(f"iot/v1/{self.victim}/commands", b"of the core")
            async with asyncio.timeout(60):
                first = await anext(aiter(device.messages))
        assert first.payload == b"of the core"
        await self.publishes(self.names("iot/v1/{own}/telemetry"), json.dumps({"time": AT, "pm25": 5}))
        await until(lambda: self.core.counters.total("ingest_stored") > before)
        assert self.core.counters.total("ingest_stored") == before + 1
        assert await self._heard_of_victim() == 0

    async def leaves_no_will_with_its_neighbour(self) -> None:
        words = (
            "stdbuf",
            "-oL",
            "mosquitto_sub",
            "-h",
            self.where[0],
            "-p",
            str(self.where[1]),
            "-i",
            self.own,
            "-u",
            self.own,
            "-d",
        )
        will = ("--will-topic", self.names("iot/v1/{victim}/status"), "--will-payload", "offline", "--will-retain")
        child = await asyncio.create_subprocess_exec(
            *words, "-P", self.secret, *will, "-t", self.names("iot/v1/{own}/commands"), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        async with asyncio.timeout(60):
            while line := await child.stdout.readline():  # until it is connected, or refused for its will
                if b"CONNACK" in line or b"SUBACK" in line:
                    break
        with suppress(ProcessLookupError):
            child.kill()  # a device that dies says no goodbye
        await child.communicate()
        before = self.core.counters.total("ingest_stored")
        await self.publishes(self.names("iot/v1/{own}/telemetry"), json.dumps({"time": LATER, "pm25": 6}))
        await until(lambda: self.core.counters.total("ingest_stored") > before)  # a will would have come before it
        assert await self.core.pool.fetchval(
            "SELECT count(*) FROM iot.device_status s JOIN iot.device d ON d.id = s.device_id"
            " WHERE d.key = $1 AND s.online IS NOT NULL", self.victim,
        ) == 0  # fmt: skip

    async def takes_no_session(self) -> None:
        """Connect under the victim's client id, and the core's; both stay connected."""
        away = self.core.counters.total("mqtt_disconnected")
        async with self.client(self.victim, self.victims_secret) as device:
            await device.subscribe(f"iot/v1/{self.victim}/commands", qos=1)
            for identifier in (self.victim, "iot-core-ingest", "iot-core-ingest-receipts"):
                with suppress(aiomqtt.MqttError):
                    async with self.client(self.own, self.secret, identifier=identifier):
                        pass
            async with connected(self.core.broker, "iot-core-ingest-test", Mqtt()) as core:
                await core.publish(f"iot/v1/{self.victim}/commands", b"still there?")
            async with asyncio.timeout(60):
                assert (await anext(aiter(device.messages))).payload == b"still there?"
        assert self.core.counters.total("mqtt_disconnected") == away

    async def tries_everything(self) -> None:
        await self.hears_nothing_of_its_neighbour()
        await self.says_nothing_for_its_neighbour()
        await self.leaves_no_will_with_its_neighbour()
        await self.takes_no_session()

    async def _heard_of_victim(self) -> int:
        count: int = await self.core.pool.fetchval(
            "SELECT (SELECT count(*) FROM iot.held_uplink WHERE address IN ('iot:' || $1, 'iot:claim'))"
            " + (SELECT count(*) FROM iot.device_status s JOIN iot.device d ON d.id = s.device_id WHERE d.key = $1)",
            self.victim,
        )  # fmt: skip
        return count
