"""Where new devices claim themselves over MQTT: a small listener of our own, beside the broker and not on it.

CONNECT (user = batch, password = its key, client id = 128 random bits) -> SUBSCRIBE iot/v1/claim/CLIENT-ID
-> PUBLISH iot/v1/claim {"serial": ..., "profile": ..., "reply": CLIENT-ID} -> the answer on iot/v1/claim/CLIENT-ID

On a listener of Mosquitto 2.0 whoever holds a batch key could take over any session by its client id, a device's and
the core's own (docs/decisions/023-claims-have-their-own-listener.md). Here there are no sessions, no wills, no retained
messages, and two topics. It serves every mode of the broker alike. A device that was given a new secret shows it here
once (CONNECT with its own key): from then on the broker knows that one.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from mqttium.codec import encode_vbi

from iot_core.driver import ClaimState
from iot_core.errors import RequestError, StartError, StoreUnavailable
from iot_core.model import is_key

if TYPE_CHECKING:
    from iot_core.driver import Authenticate, Claim, Count, DriverContext

__all__ = ["ANSWERS", "ASK", "Listener"]

log = structlog.get_logger()

ASK: Final = "iot/v1/claim"
ANSWERS: Final = "iot/v1/claim/"
_CONNECTIONS: Final = 2_000
_FIRST_WORD_S: Final = 10.0
_LONGEST_S: Final = 3_600.0
"""A connection that waits for a person's word is closed after that; its device comes again with the same claim."""
_LARGEST: Final = 8_192
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{22,128}")
_CONNECT, _PUBLISH, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 8, 12, 14
_V311, _V5 = 4, 5
_USER, _PASSWORD, _WILL = 0x80, 0x40, 0x04
# Refusals of CONNECT, MQTT 3.1.1 (section 3.2.2.3) and 5 (section 3.2.2.2).
_BAD_VERSION, _BAD_CLIENT_ID, _UNAVAILABLE, _BAD_LOGIN = (1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86)
_NO_SUBSCRIPTION: Final = (0x80, 0x87)
_NOT_AUTHORIZED: Final = 0x87


class Listener:
    """Takes connections while the block of `run` lasts."""

    def __init__(self, context: DriverContext, claim: Claim, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._claim = claim
        self._authenticate = context.authenticate
        self._count = context.count
        self._host = context.settings.claims.host
        self._port = port
        self._tls = tls
        self._open = 0

    async def run(self) -> None:
        """Listen until cancelled. Raises StartError when the port is not ours."""
        try:
            server = await asyncio.start_server(
                self._connected, self._host, self._port, ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _FIRST_WORD_S,
            )  # fmt: skip
        except OSError as exc:
            raise StartError("app.port_in_use", part="claims", host=self._host, port=self._port) from exc
        log.info("claims.listening", host=self._host, port=self._port, tls=self._tls is not None)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _CONNECTIONS:
            self._count("claims_busy")
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_LONGEST_S):
                await _Visit(self._claim, self._authenticate, self._count, reader, writer).serve()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, _Broken):
            pass
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()


class _Broken(Exception):
    """Raised when the other side does not speak MQTT as it should, or said goodbye."""


class _Visit:
    """One connection, from CONNECT to its end."""

    def __init__(
        self,
        claim: Claim,
        authenticate: Authenticate,
        count: Count,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._claim = claim
        self._authenticate = authenticate
        self._count = count
        self._reader = reader
        self._writer = writer
        peer = writer.get_extra_info("peername")
        self._came_from = str(peer[0]) if peer else None
        self._modern = False
        self._client_id = ""
        self._login = ("", "")
        self._listens = False
        self._alive_s: float | None = None
        self._waiting: asyncio.Task[None] | None = None
        """Waits for a person's word about a claim, and asks again then."""

    async def serve(self) -> None:
        async with asyncio.timeout(_FIRST_WORD_S):
            await self._greet()
        try:
            while True:
                async with asyncio.timeout(self._alive_s):
                    first, body = await self._packet()
                await self._take(first, body)
        finally:
            await self._wait_no_more()

    async def _greet(self) -> None:
        first, body = await self._packet()
        if first >> 4 != _CONNECT:
            raise _Broken
        fields = _Fields(body)
        name, version, flags, keep_alive = fields.text(), fields.byte(), fields.byte(), fields.number()
        self._modern = version == _V5
        if name != "MQTT" or version not in {_V311, _V5}:
            await self._refuse(_BAD_VERSION)
        if self._modern:
            fields.skip(fields.variable())
        self._client_id = fields.text()
        if flags & _WILL:
            await self._refuse(_BAD_LOGIN)  # a will is a message on somebody's topic, and nobody here has one
        batch = fields.text() if flags & _USER else ""
        key = fields.text() if flags & _PASSWORD else ""
        if not is_key(batch) and not _CLIENT_ID.fullmatch(self._client_id):
            await self._refuse(_BAD_CLIENT_ID)
        try:
            if is_key(batch):
                await self._confirm(batch, key)
            admitted = await self._claim.admits(batch, key, driver="mqtt", came_from=self._came_from)
        except StoreUnavailable:
            await self._refuse(_UNAVAILABLE)
            return
        if not admitted:
            await self._refuse(_BAD_LOGIN)
        self._login = (batch, key)
        self._alive_s = keep_alive * 1.5 or None
        # Maximum QoS 1, no retained messages, no wildcards, no shared subscriptions (MQTT 5 section 3.2.2.3).
        properties = b"\x08\x24\x01\x25\x00\x28\x00\x2a\x00" if self._modern else b""
        await self._say(b"\x20" + encode_vbi(2 + len(properties)) + b"\x00\x00" + properties)

    async def _confirm(self, device_key: str, secret: str) -> None:
        """Take a device's word that it has its new secret: it shows it here before the broker knows it."""
        if not await self._authenticate(device_key, secret):
            await self._refuse(_BAD_LOGIN)
        await self._claim.let_in()
        await self._say(b"\x20\x03\x00\x00\x00" if self._modern else b"\x20\x02\x00\x00")
        raise _Broken

    async def _refuse(self, reason: tuple[int, int]) -> None:
        body = b"\x00" + bytes([reason[self._modern]]) + (b"\x00" if self._modern else b"")
        await self._say(b"\x20" + encode_vbi(len(body)) + body)
        raise _Broken

    async def _take(self, first: int, body: bytes) -> None:
        kind, fields = first >> 4, _Fields(body)
        if kind == _PUBLISH:
            await self._published(first, fields)
        elif kind == _SUBSCRIBE:
            await self._subscribed(fields)
        elif kind == _PINGREQ:
            await self._say(b"\xd0\x00")
        else:
            raise _Broken

    async def _subscribed(self, fields: _Fields) -> None:
        packet_id = fields.take(2)
        if self._modern:
            fields.skip(fields.variable())
        granted = bytearray()
        while fields.left:
            topic, qos = fields.text(), fields.byte() & 3
            if topic == ANSWERS + self._client_id and qos < 3:
                self._listens = True
                granted.append(min(qos, 1))
            else:
                self._count("claims_topic_refused")
                granted.append(_NO_SUBSCRIPTION[self._modern])
        body = packet_id + (b"\x00" if self._modern else b"") + bytes(granted)
        await self._say(b"\x90" + encode_vbi(len(body)) + body)

    async def _published(self, first: int, fields: _Fields) -> None:
        qos = first >> 1 & 3
        if qos > 1:
            raise _Broken
        topic = fields.text()
        packet_id = fields.take(2) if qos else b""
        if self._modern:
            fields.skip(fields.variable())
        payload = fields.rest()
        meant = topic == ASK and not first & 1
        if not meant:
            self._count("claims_topic_refused")
            if not self._modern:
                raise _Broken  # MQTT 3.1.1 has no other word for it
        if qos:
            code = bytes([0 if meant else _NOT_AUTHORIZED, 0]) if self._modern else b""
            await self._say(b"\x40" + encode_vbi(2 + len(code)) + packet_id + code)
        if meant:
            await self._answer(payload)

    async def _answer(self, payload: bytes) -> None:
        """Ask for a claim, and again once a person has decided about one that waits."""
        if not self._listens:
            return  # nobody would hear the secret, and it is given once
        await self._wait_no_more()
        decided = self._decision(payload)  # from before it is asked, so that no word is missed
        try:
            waits = await self._ask(payload)
        except BaseException:
            decided.cancel()
            raise
        if waits:
            self._waiting = asyncio.create_task(self._ask_again(payload, decided), name="claim waiting")
        else:
            decided.cancel()

    async def _ask_again(self, payload: bytes, decided: asyncio.Future[None]) -> None:
        try:
            while True:
                await decided
                decided = self._decision(payload)
                if not await self._ask(payload, only_news=True):
                    return
        except (OSError, _Broken):
            self._writer.close()
        finally:
            decided.cancel()

    async def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
            self._waiting = None

    def _decision(self, payload: bytes) -> asyncio.Future[None]:
        try:
            return self._claim.decision(payload)
        except RequestError:
            self._count("claims_malformed")
            raise _Broken from None

    async def _ask(self, payload: bytes, *, only_news: bool = False) -> bool:
        """Ask for a claim, publish what becomes of it to its own topic, and say whether it waits."""
        try:
            claimed = await self._claim(payload, driver="mqtt", came_from=self._came_from, login=self._login)
        except RequestError:
            self._count("claims_malformed")
            raise _Broken from None
        except StoreUnavailable:
            raise _Broken from None
        waits = claimed.state is ClaimState.WAITING
        if not (waits and only_news):
            topic = (ANSWERS + self._client_id).encode()
            body = len(topic).to_bytes(2, "big") + topic + (b"\x00" if self._modern else b"") + claimed.body
            await self._say(b"\x30" + encode_vbi(len(body)) + body)
        return waits

    async def _packet(self) -> tuple[int, bytes]:
        (first,) = await self._reader.readexactly(1)
        size = shift = 0
        while True:
            (byte,) = await self._reader.readexactly(1)
            size |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 21:
                raise _Broken
        if size > _LARGEST or first >> 4 == _DISCONNECT:
            raise _Broken
        return first, await self._reader.readexactly(size)

    async def _say(self, packet: bytes) -> None:
        self._writer.write(packet)
        await self._writer.drain()


class _Fields:
    """Reads the fields of a packet. Raises _Broken when they are not there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if self.left < count:
            raise _Broken
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self.take(self.left)

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def variable(self) -> int:
        size = shift = 0
        while (byte := self.byte()) > 127 and shift < 21:
            size |= (byte & 127) << shift
            shift += 7
        return size | byte << shift

    def skip(self, count: int) -> None:
        self.take(count)

    def text(self) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise _Broken from None
