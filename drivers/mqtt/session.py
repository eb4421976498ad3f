"""The fast lanes of MQTT: telemetry in with manual acknowledgement, receipts out at QoS 0, and little else of it.

socket --> data_received: PUBLISH -> list of Message --take()--> Intake --> ingest
              |  too many wait: pause_reading, so that TCP pushes back
  <-- PUBACK -+---------------------------------- acknowledge(packet ids), one write a flush

MQTTium writes and reads the packets that come once a connection. PUBLISH and PUBACK, which come 20,000 times a second,
are read and written here: a client for every purpose spends as much on them as all the rest of the core
(docs/decisions/014-own-reader-of-publish-packets.md).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from mqttium import MQTTError, MQTTProtocolVersion, QoS
from mqttium.codec import decode_properties, encode_vbi
from mqttium.packets import (
    ConnAckPacket,
    ConnectPacket,
    PublishPacket,
    SubAckPacket,
    SubscribeOptions,
    SubscribePacket,
    Subscription,
    encode_disconnect,
    encode_pingreq,
)
from mqttium.types import Properties

from drivers.mqtt.link import VERSIONS
from iot_core.errors import DriverUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from iot_core.driver import BrokerEndpoint
    from iot_core.settings import Mqtt

__all__ = ["Message", "Session", "opened"]

_CONNACK, _PUBLISH, _SUBACK, _DISCONNECT = 0x20, 0x30, 0x90, 0xE0
_REFUSED: Final = 0x80
"""The lowest code of a SUBACK that says no."""
_PUBACK: Final = 0x4002  # packet type and remaining length
_MOST_WAITING: Final = 2_000
# Mosquitto 2.0.11 fills the sockets whatever its window says, so this one may not grow to megabytes. (The sender's
# side is not ours: see Handover.fresh. A Unix socket, as to our own Mosquitto, holds little.)
_RECEIVE_BUFFER: Final = 256 * 1024
_CONNECT_S: Final = 10.0
# A backlog may stand in front of the SUBACK; it is read meanwhile.
_SUBSCRIBE_S: Final = 600.0
# How long a broker keeps our session while we are away, in seconds; MQTT 3.1.1 has no end for it.
_SESSION_S: Final = 7 * 24 * 3600
_MAX_IDS: Final = 65_535
_TICK: Final = timedelta(microseconds=1)
"""Between two arrivals: messages without a time of their own are stored by it, and two at one time would contradict."""
_CLOCK_SET_BACK: Final = timedelta(seconds=1)
_CONTENT_FORMATS: Final = {
    "application/json": 50,
    "application/cbor": 60,
    "application/senml+json": 110,
    "application/senml+cbor": 112,
}


class Message(msgspec.Struct, gc=False):
    """One PUBLISH. `packet_id` is None at QoS 0, `content_format` what an MQTT 5 publisher said (CoAP's number)."""

    topic: str
    payload: bytes
    packet_id: int | None
    retained: bool
    content_format: int | None
    received_at: datetime


class Session(asyncio.Protocol):
    """A connection that ends once and is never mended: after a loss comes a new one with the same session."""

    def __init__(self, version: MQTTProtocolVersion, keepalive_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._version = version
        self._modern = version is MQTTProtocolVersion.MQTTv5
        self._keepalive_s = keepalive_s
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._arrival = datetime.min.replace(tzinfo=UTC)
        self._waiting: list[Message] = []
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._heard = True
        self._pinging: asyncio.TimerHandle | None = None
        self._connack: asyncio.Future[ConnAckPacket] = loop.create_future()
        self._subacks: dict[int, asyncio.Future[SubAckPacket]] = {}
        self._packet_ids = 0
        self.up = False

    async def greet(self, packet: ConnectPacket) -> None:
        """Send CONNECT and wait until we are taken. Raises DriverUnavailable."""
        assert self._transport is not None
        self._transport.write(packet.encode())
        answer = await self._connack
        if answer.reason_code:
            raise DriverUnavailable("broker.away", detail=f"CONNACK {answer.reason_code}")
        self.up = True
        self._ping()

    async def subscribe(self, filters: Sequence[str]) -> dict[str, int]:
        """Subscribe with QoS 1, while somebody else takes messages. Gives the filters that are refused, with the codes.

        Raises DriverUnavailable without an answer.
        """
        wanted = tuple(Subscription(each, SubscribeOptions(qos=QoS.AT_LEAST_ONCE)) for each in filters)
        if self._transport is None:
            raise _gone(None)
        packet_id = self._own_packet_id()
        suback = self._subacks[packet_id] = asyncio.get_running_loop().create_future()
        self._transport.write(SubscribePacket(packet_id, wanted).encode(self._version))
        try:
            async with asyncio.timeout(_SUBSCRIBE_S):
                answer = await suback
        except TimeoutError as exc:
            raise DriverUnavailable("broker.away", detail="no SUBACK") from exc
        finally:
            del self._subacks[packet_id]
        return {each: code for each, code in zip(filters, answer.reason_codes, strict=False) if code >= _REFUSED}

    async def take(self) -> list[Message]:
        """Give the messages that came since, at least one; none when the connection is gone."""
        while not self._waiting and self._transport is not None:
            self._news.clear()
            await self._news.wait()
        taken, self._waiting = self._waiting, []
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return taken

    def acknowledge(self, packet_ids: Sequence[int]) -> bool:
        """Send the PUBACKs; False when this connection is gone, and the broker will deliver the messages again."""
        if not self.up or self._transport is None:
            return False
        fields = [_PUBACK] * (2 * len(packet_ids))
        fields[1::2] = packet_ids
        self._transport.write(struct.pack(f">{len(fields)}H", *fields))
        return True

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> bool:
        """Publish at QoS 0; False when this connection is gone."""
        if not self.up or self._transport is None:
            return False
        no_properties = b"\0" if self._modern else b""
        packets = bytearray()
        for topic, payload in messages:
            name = topic.encode()
            size = 2 + len(name) + len(no_properties) + len(payload)
            packets += bytes((_PUBLISH,)) + encode_vbi(size) + len(name).to_bytes(2, "big")
            packets += name + no_properties + payload
        self._transport.write(packets)
        return True

    def retain(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1, retained; nobody waits for the PUBACK, and a connection that is gone has its will."""
        if self._transport is not None and self.up:
            packet = PublishPacket(topic, payload, QoS.AT_LEAST_ONCE, retain=True, dup=False, mid=self._own_packet_id())
            self._transport.write(packet.encode(self._version))

    async def written(self) -> None:
        """Wait until the broker has taken what was published, or the connection is gone."""
        await self._writable.wait()

    def pause_writing(self) -> None:
        """Note that the broker reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it caught up."""
        self._writable.set()

    def close(self) -> None:
        """Say goodbye; the session stays."""
        if self._transport is not None and self.up:
            self._transport.write(encode_disconnect())
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        found = transport.get_extra_info("socket")
        with suppress(AttributeError, OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Read whole packets; keep the beginning of the next one."""
        self._heard = True
        try:
            self._read(self._rest + data if self._rest else data)
        except (MQTTError, IndexError, struct.error):
            self._end()  # not MQTT; whatever was not acknowledged comes again
            return
        if self._waiting:
            self._news.set()
            if len(self._waiting) >= _MOST_WAITING and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        self._transport = None
        self._end()
        waiting: list[asyncio.Future[Any]] = [self._connack, *self._subacks.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(_gone(exc))
                future.exception()  # nobody may be waiting for it

    def _own_packet_id(self) -> int:
        """Give the next one: those of messages that come are the broker's."""
        self._packet_ids = self._packet_ids % _MAX_IDS + 1
        return self._packet_ids

    def _end(self) -> None:
        self.up = False
        self._news.set()
        self._writable.set()
        if self._pinging is not None:
            self._pinging.cancel()
        if self._transport is not None:
            self._transport.close()

    def _read(self, data: bytes) -> None:
        at, end, now = 0, len(data), datetime.now(UTC)
        if now <= self._arrival < now + _CLOCK_SET_BACK:
            now = self._arrival
        waiting, modern = self._waiting, self._modern
        while end - at >= 2:
            first, size, body = data[at], data[at + 1], at + 2
            shift = 7
            if size > 127:
                size &= 127
                while body < end:
                    more = data[body]
                    body += 1
                    size |= (more & 127) << shift
                    shift += 7
                    if more < 128:
                        break
                else:
                    break  # the length itself is not all there yet
            stop = body + size
            if stop > end:
                break
            if first & 0xF0 == _PUBLISH:
                content = body + 2 + (data[body] << 8 | data[body + 1])
                topic = data[body + 2 : content].decode("utf-8", "replace")
                packet_id = None
                if first & 0x06:
                    packet_id = data[content] << 8 | data[content + 1]
                    content += 2
                content_format = None
                if modern:
                    content_format, content = _said(data, content)
                payload = data[content:stop]
                now += _TICK
                waiting.append(Message(topic, payload, packet_id, first & 1 == 1, content_format, now))
            else:
                self._control(first & 0xF0, data[body:stop])
            at = stop
        self._rest = data[at:]
        self._arrival = now

    def _control(self, kind: int, body: bytes) -> None:
        """Read a packet that does not come often."""
        if kind == _CONNACK and not self._connack.done():
            self._connack.set_result(ConnAckPacket.decode(body, self._version))
        elif kind == _SUBACK:
            answer = SubAckPacket.decode(body, self._version)
            if (waiting := self._subacks.get(answer.mid)) is not None and not waiting.done():
                waiting.set_result(answer)
        elif kind == _DISCONNECT:
            self._end()

    def _ping(self) -> None:
        """Ask twice a keep-alive whether the broker is there; one that said nothing since the last time is not."""
        if not self._heard and not self._paused:
            self._end()
            return
        if self._transport is not None:
            self._heard = False
            self._transport.write(encode_pingreq())
            self._pinging = asyncio.get_running_loop().call_later(self._keepalive_s / 2, self._ping)


@asynccontextmanager
async def opened(
    broker: BrokerEndpoint,
    mqtt: Mqtt,
    client_id: str = "",
    *,
    keep: bool = True,
    will: tuple[str, bytes] | None = None,
) -> AsyncIterator[Session]:
    """Connect, by the core's own socket where there is one; `keep` resumes the session. Raises DriverUnavailable.

    `will` is a topic and what the broker publishes there, retained, when the connection is lost.
    """
    version = VERSIONS[mqtt.version]
    kept = {"session_expiry_interval": _SESSION_S, "receive_maximum": min(mqtt.window, _MAX_IDS)} if keep else {}
    packet = ConnectPacket(
        client_id or mqtt.client_id,
        clean_start=not keep,
        keepalive=mqtt.keepalive_s,
        username=broker.username,
        password=broker.password.encode() if broker.password is not None else None,
        will_topic=will[0] if will else None,
        will_payload=will[1] if will else b"",
        will_qos=QoS.AT_LEAST_ONCE if will else QoS.AT_MOST_ONCE,
        will_retain=will is not None,
        protocol=version,
        properties=Properties(kept) if version is MQTTProtocolVersion.MQTTv5 else None,
    )
    session = Session(version, mqtt.keepalive_s)
    loop = asyncio.get_running_loop()
    try:
        try:
            async with asyncio.timeout(_CONNECT_S):
                if broker.socket:
                    await loop.create_unix_connection(lambda: session, broker.socket)
                else:
                    context = ssl.create_default_context() if mqtt.tls else None
                    await loop.create_connection(lambda: session, broker.host, broker.port, ssl=context)
                await session.greet(packet)
        except (OSError, TimeoutError) as exc:
            raise DriverUnavailable("broker.away", detail=str(exc) or type(exc).__name__) from exc
        yield session
    finally:
        session.close()


def _gone(cause: Exception | None) -> DriverUnavailable:
    return DriverUnavailable("broker.away", detail=str(cause) if cause else "connection closed")


def _said(data: bytes, at: int) -> tuple[int | None, int]:
    """Read the properties of an MQTT 5 PUBLISH: what the payload is, and where it begins."""
    properties, begin = decode_properties(data, at, "PUBLISH")
    said = properties.get("content_type")
    known = _CONTENT_FORMATS.get(said.partition(";")[0].strip().lower()) if isinstance(said, str) else None
    return known, begin
