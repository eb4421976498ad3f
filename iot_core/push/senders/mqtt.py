"""PUBLISH with QoS 1 on our own broker or another one; delivered means PUBACK.

The message id is in the payload of JSON messages (`id`), and with MQTT 5 also a user property.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mqttium import MQTTError
from mqttium.api import AsyncClient
from yarl import URL

from iot_core.push.answer import Answer
from iot_core.push.senders import tls
from iot_core.push.senders.base import Home, Sender, reachable, word

if TYPE_CHECKING:
    from iot_core.push.outbox import Endpoint
    from iot_core.push.parcel import Parcel
    from iot_core.push.senders.base import Access

__all__ = ["MqttSender", "topic_of"]

_KEEPALIVE_S: Final = 30
_NONE: Final = "none"


def topic_of(url: str) -> str:
    """Give the topic pattern of a target's URL: what follows the host, `{area} {severity} {type}` to be filled in."""
    return URL(url, encoded=False).path.lstrip("/")


class MqttSender(Sender):
    """Keeps one connection, made when it is needed."""

    def __init__(self, target: Endpoint, access: Access) -> None:
        self._target = target
        self._access = access
        self._url = URL(target.url)
        self._client: AsyncClient | None = None
        self._turn = asyncio.Lock()

    async def send(self, parcel: Parcel) -> Answer:
        """Publish one message and wait for the broker's word."""
        topic = topic_of(self._target.url)
        for name, filled in (("area", parcel.area), ("severity", parcel.severity), ("type", parcel.type)):
            topic = topic.replace(f"{{{name}}}", filled or _NONE)
        try:
            async with asyncio.timeout(self._access.timeout_s):
                client = await self._connected()
                receipt = await client.publish(topic, parcel.data, qos=1)
                await receipt.wait()
        except OSError as exc:
            await self.close()
            return Answer(None, word(exc))
        except MQTTError:
            await self.close()
            return Answer(None, "broker")
        return Answer(None, None)

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(MQTTError, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.disconnect()

    async def _connected(self) -> AsyncClient:
        async with self._turn:
            if self._client is not None and self._client.is_connected:
                return self._client
            await self.close()
            home = self._access.home if not self._url.host else None
            username = home.username if home else self._target.options.get("username")
            password = home.password if home else self._target.secret
            client = AsyncClient(
                f"iot-core-push-{secrets.token_hex(4)}", keepalive=_KEEPALIVE_S, username=username or None,
                password=password or None, connect_timeout=self._access.timeout_s,
            )  # fmt: skip
            self._client = client
            await self._connect(client, home)
            return client

    async def _connect(self, client: AsyncClient, home: Home | None) -> None:
        if not self._url.host:
            if home is None:
                raise ConnectionRefusedError
            if home.socket:
                await client.connect_unix(home.socket)
            else:
                await client.connect(home.host, home.port)
            return
        secure = self._url.scheme == "mqtts"
        port = self._url.port or (8883 if secure else 1883)
        address = await reachable(self._url.host, port, self._access)
        # With TLS by name, because the certificate is the name's: an address that changed meanwhile fails its check.
        await client.connect(
            self._url.host if secure else address, port, ssl=tls.context(self._target.options) if secure else None
        )
