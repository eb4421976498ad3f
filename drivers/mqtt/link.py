"""The connection that goes out, for commands and receipts; it also hears what the broker says of itself.

The only module that uses MQTTium as a client (gmqtt would be the second choice); what comes in has session.py.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from mqttium import MQTTError, MQTTProtocolVersion
from mqttium.api import AsyncClient, Message

from iot_core.cancelled import notice_cancellation
from iot_core.errors import DriverUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from iot_core.driver import BrokerEndpoint
    from iot_core.settings import Mqtt

__all__ = ["VERSIONS", "Link", "Message", "connected"]

VERSIONS: Final = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
_CONNECT_S: Final = 10.0
_WAITING: Final = 1_000


class Link:
    """A connection that ends once and is never mended: after a loss comes a new Link with the same session."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def up(self) -> bool:
        """Say whether acknowledgements still reach the broker."""
        return self._client.is_connected

    async def close(self) -> None:
        """End the connection; the session stays."""
        await self._client.disconnect()

    def messages(self) -> AsyncIterator[Message]:
        """Give the messages as they arrive; ends with the connection."""
        return self._client.messages()

    async def subscribe(self, filters: Sequence[str], *, qos: int) -> None:
        """Subscribe. Raises DriverUnavailable when the broker refuses."""
        try:
            await self._client.subscribe(filters, qos=qos)
        except (MQTTError, OSError) as exc:
            notice_cancellation()
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc
        notice_cancellation()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Publish; with QoS 1 wait for the broker's word. Raises DriverUnavailable without it."""
        try:
            receipt = await self._client.publish(topic, payload, qos=qos, retain=retain)
            await receipt.wait()
        except (MQTTError, OSError) as exc:
            notice_cancellation()
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc
        notice_cancellation()


@asynccontextmanager
async def connected(broker: BrokerEndpoint, client_id: str, mqtt: Mqtt) -> AsyncIterator[Link]:
    """Connect with a session of its own, by the core's own socket where there is one. Raises DriverUnavailable."""
    client = AsyncClient(
        client_id,
        protocol=VERSIONS[mqtt.version],
        clean_start=True,
        keepalive=mqtt.keepalive_s,
        username=broker.username,
        password=broker.password,
        max_iterator_messages=_WAITING,
        connect_timeout=_CONNECT_S,
    )
    try:
        try:
            if broker.socket:
                await client.connect_unix(broker.socket)
            else:
                await client.connect(broker.host, broker.port, ssl=True if mqtt.tls else None)
        except (MQTTError, OSError) as exc:
            notice_cancellation()
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc
        notice_cancellation()
        yield Link(client)
    finally:
        await client.disconnect()


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
