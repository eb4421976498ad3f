"""One connection to a broker. The only module that knows MQTTium (gmqtt would be the second choice)."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from mqttium import MQTTError, MQTTProtocolVersion
from mqttium.api import AsyncClient, Message
from mqttium.transport.tcp import TcpTransport
from mqttium.types import Properties

from iot_core.cancelled import notice_cancellation
from iot_core.errors import DriverUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from iot_core.driver import BrokerEndpoint
    from iot_core.settings import Mqtt

__all__ = ["Link", "Message", "connected", "content_format"]

_VERSIONS: Final = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
# How long a broker keeps our session while we are away, in seconds; MQTT 3.1.1 has no end for it.
_SESSION_S: Final = 7 * 24 * 3600
_CONTENT_FORMATS: Final = {
    "application/json": 50,
    "application/cbor": 60,
    "application/senml+json": 110,
    "application/senml+cbor": 112,
}

_ITERATOR_MESSAGES: Final = 4_000
# Mosquitto 2.0.11 fills the sockets whatever its window says, so this one may not grow to megabytes. (The sender's
# side is not ours: see Handover.fresh. A Unix socket, as to our own Mosquitto, holds little.)
_RECEIVE_BUFFER: Final = 256 * 1024
_CONNECT_S: Final = 10.0
# A backlog may stand in front of the SUBACK; it is read meanwhile.
_SUBSCRIBE_S: Final = 600.0
_GOODBYE_S: Final = 5.0
# One message must always fit: one that does not would end every connection that it is delivered to.
_ITERATOR_BYTES: Final = 300 * 1024 * 1024


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
        """Give the messages as they arrive; ends with the connection. Reading slowly makes TCP push back."""
        return self._client.messages()

    async def subscribe(self, filters: Sequence[str], *, qos: int) -> None:
        """Subscribe, while somebody else reads `messages`. Raises DriverUnavailable when the broker refuses."""
        try:
            await self._client.subscribe(filters, qos=qos)
        except (MQTTError, OSError) as exc:
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc

    async def acknowledge(self, message: Message) -> bool:
        """Send the PUBACK; False when this connection is gone, and the broker will deliver the message again."""
        try:
            await self._client.ack(message)
        except (MQTTError, OSError):
            return False
        return True

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the broker's word. Raises DriverUnavailable without it."""
        try:
            receipt = await self._client.publish(topic, payload, qos=1, retain=retain)
            await receipt.wait()
        except (MQTTError, OSError) as exc:
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc


@asynccontextmanager
async def connected(broker: BrokerEndpoint, client_id: str, mqtt: Mqtt, *, keep_session: bool) -> AsyncIterator[Link]:
    """Connect, by the core's own socket where there is one. Raises DriverUnavailable."""
    version = _VERSIONS[mqtt.version]
    kept = version is MQTTProtocolVersion.MQTTv5 and keep_session
    client = AsyncClient(
        client_id,
        protocol=version,
        clean_start=not keep_session,
        connect_properties=Properties({"session_expiry_interval": _SESSION_S}) if kept else None,
        max_inbound_inflight=min(mqtt.window, 65_535) if kept else None,
        keepalive=mqtt.keepalive_s,
        username=broker.username,
        password=broker.password,
        manual_ack=keep_session,
        max_iterator_messages=_ITERATOR_MESSAGES,
        max_iterator_bytes=_ITERATOR_BYTES,
        connect_timeout=_CONNECT_S,
        subscribe_timeout=_SUBSCRIBE_S,
    )
    client._transport_factory = _tcp  # noqa: SLF001 - MQTTium's seam for transports has no public name
    try:
        try:
            if broker.socket:
                await client.connect_unix(broker.socket)
            else:
                await client.connect(broker.host, broker.port, ssl=True if mqtt.tls else None)
        except (MQTTError, OSError) as exc:
            raise DriverUnavailable("broker.away", detail=_said(exc)) from exc
        notice_cancellation()
        yield Link(client)
    finally:
        await client.disconnect()


async def _tcp(host: str, port: int, *, ssl: Any = None) -> Any:
    transport = await TcpTransport.connect(host, port, ssl=ssl)
    with suppress(AttributeError, OSError):
        found = transport._writer.get_extra_info("socket")  # noqa: SLF001 - see _RECEIVE_BUFFER
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return transport


def content_format(message: Message) -> int | None:
    """Give the CoAP number of what an MQTT 5 publisher says its payload is; None where nothing usable was said."""
    if message.properties is None:
        return None
    said = message.properties.get("content_type")
    return _CONTENT_FORMATS.get(said.partition(";")[0].strip().lower()) if isinstance(said, str) else None


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
