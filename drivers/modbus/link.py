"""One connection to a gateway or serial line, with one question on it at a time.

Every answer is proven to belong to its question: over TCP by its transaction number; over RTU, whose frames carry none,
by unit, function, length and checksum, and after a silence by a knock (see `Link.read`).
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from drivers.modbus import pdu
from drivers.modbus.address import Endpoint, Line, Place
from drivers.modbus.frames import Framing, Garbage, Rtu, Tcp
from iot_core.cancelled import notice_cancellation

if TYPE_CHECKING:
    from drivers.modbus.pdu import Block, Request

__all__ = ["Broken", "Link", "Malformed", "Refused", "Silent"]

_SILENCES: Final = 2
"""So many questions in a row without a single byte back: the connection may be dead, though nobody said so."""
_LONGEST_ANSWER: Final = 256
_LONGEST_IDENTIFICATION: Final = 8
"""Requests for one device's identification; three objects are basic, four more regular."""

_REASONS: Final = {
    errno.ENOENT: "no such port",
    errno.EACCES: "no permission",
    errno.EAGAIN: "in use",
    errno.EBUSY: "in use",
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
}


class Refused(Exception):
    """Raised when the unit answers with a Modbus exception; the code says which."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class Silent(Exception):
    """Raised when nothing that answers the question arrives in time."""

    def __init__(self) -> None:
        super().__init__("timeout")


class Broken(Exception):
    """Raised when the connection cannot be used any more: closed, or garbage on it."""


class Malformed(Exception):
    """Raised when an answer is whole but not as long as what was asked for."""

    def __init__(self) -> None:
        super().__init__("malformed")


def _knock(block: Block) -> Block:
    """Give one register, or two: an answer of another length than the one that was missed."""
    bits = block.table in pdu.BITS
    count = 1 if block.count > (8 if bits else 1) else (9 if bits else 2)
    return pdu.Cells(block.table, min(block.address, 0x10000 - count), count)


class Link:
    """A connection that can be opened again and again.

    After garbage or a close it is closed, and so after silence wherever a part of a frame is left lying or the
    connection itself may be dead.
    """

    def __init__(self, place: Place, timeout_s: float) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self._line = place if isinstance(place, Line) else None
        self._open: _Connection | None = None
        self._missed: dict[int, bool] = {}
        """RTU units that owe an answer; True: a knock is the next thing they are asked."""
        self._silences = 0
        self._free_at = 0.0
        self.strangers = 0

    @property
    def connected(self) -> bool:
        """Say whether a request can be sent."""
        return self._open is not None and not self._open.closed

    async def open(self) -> None:
        """Connect. Raises Broken."""
        self.close()
        loop = asyncio.get_running_loop()
        # Some gateways answer a question of the last connection on this one: never count from 1 again.
        framing = Rtu() if self._place.rtu else Tcp(random.randrange(0x10000))  # noqa: S311 - not a secret
        connection = _Connection(framing)
        try:
            if isinstance(self._place, Endpoint):
                async with asyncio.timeout(self._timeout_s):
                    await loop.create_connection(lambda: connection, self._place.host, self._place.port)
            else:
                await _open_serial(self._place, connection)
        except (OSError, ValueError) as exc:
            connection.close()
            raise Broken(_reason(exc)) from exc
        except BaseException:
            connection.close()
            raise
        notice_cancellation()
        self._open, self._silences = connection, 0

    def close(self) -> None:
        """Close; may be called at any time."""
        connection, self._open = self._open, None
        if connection is not None:
            self.strangers += connection.framing.strangers
            connection.close()

    def give_up(self) -> None:
        """End the wait for the answer to the present question, as if its time were over."""
        if self._open is not None:
            self._open.fail(Silent())

    async def read(
        self, unit_id: int, block: Block, *, timeout_s: float | None = None, pause_s: float = 0
    ) -> list[int]:
        """Read one block as 16-bit words, a coil as 0 or 1. Raises Refused, Malformed, Silent or Broken.

        An RTU unit that stayed silent owes an answer, and nothing in a late one says which question it answers. So it
        is first asked for another number of registers: answers come in the order of the questions, hence whatever was
        owed has come, or never will, once one of that other length is there.
        """
        owes = self._missed.get(unit_id)
        if owes:
            self._missed[unit_id] = False  # a device that ignores the knock is not knocked at twice in a row
            knock = pdu.read(_knock(block))
            with suppress(Refused):
                await self.ask(unit_id, knock, timeout_s=timeout_s, pause_s=pause_s)
        if owes is not None:
            self._missed[unit_id] = True
        answer = await self.ask(unit_id, pdu.read(block), timeout_s=timeout_s, pause_s=pause_s)
        self._missed.pop(unit_id, None)
        return pdu.words(block, answer)

    async def identify(self, unit_id: int, *, timeout_s: float | None = None) -> dict[str, str]:
        """Read a unit's identification: vendor, product, revision, and what else it tells of itself.

        Raises Refused, Malformed, Silent or Broken.
        """
        found: dict[str, str] = {}
        for level in (1, 2):
            first = 0
            for _ in range(_LONGEST_IDENTIFICATION):
                try:
                    answer = await self.ask(unit_id, pdu.identify(first, level), timeout_s=timeout_s)
                    texts, first = pdu.identification(answer)
                except ValueError as exc:
                    raise Malformed from exc
                except Refused:
                    if level == 1:
                        raise
                    break
                found |= texts
                if not first:
                    break
        return found

    async def ask(self, unit_id: int, request: Request, *, timeout_s: float | None = None, pause_s: float = 0) -> bytes:
        """Ask one question; give the PDU of a good answer. Raises Refused, Malformed, Silent or Broken.

        `pause_s` is how long the line is left alone after what was last on it.
        """
        connection = self._open
        if connection is None or connection.closed:
            raise Broken("closed")
        if pause_s or self._line is not None:
            await self._quiet(pause_s)
        wait = self._timeout_s if timeout_s is None else timeout_s
        if self._line is not None:
            wait += self._travel_s(request, self._line)
        try:
            answer = await connection.ask(unit_id, request, wait)
        except Silent:
            self._note_silence(connection, unit_id)
            raise
        except Broken:
            self.close()
            raise
        except asyncio.CancelledError:
            self._missed[unit_id] = self._place.rtu
            raise
        finally:
            self._free_at = connection.now()
        self._silences = 0
        if answer[0] & 0x80:
            raise Refused(answer[1])
        if request.size and len(answer) != request.size:
            raise Malformed
        return answer

    async def _quiet(self, pause_s: float) -> None:
        pause = max(pause_s, self._line.quiet_s if self._line is not None else 0)
        wait = self._free_at + pause - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)

    @staticmethod
    def _travel_s(request: Request, line: Line) -> float:
        """Say how long question and answer are on a serial line; the timeout is for the device."""
        return (len(request.pdu) + 6 + (request.size or _LONGEST_ANSWER)) * line.byte_s

    def _note_silence(self, connection: _Connection, unit_id: int) -> None:
        if self._place.rtu:
            self._missed[unit_id] = self._missed.get(unit_id, True)
        self._silences = 0 if connection.heard else self._silences + 1
        half = not self._place.rtu and not connection.framing.clean
        if half or (self._line is None and self._silences >= _SILENCES):
            self.close()


class _Connection(asyncio.Protocol):
    """An open socket or port."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.closed = False
        self.heard = False
        """Whether anything arrived since the last question was asked."""
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._transport: asyncio.WriteTransport | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, unit_id: int, request: Request, timeout_s: float) -> asyncio.Future[bytes]:
        """Send a question; the future has its answer, or the reason why there is none."""
        assert self._transport is not None
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiter = waiter
        self.heard = False
        self._transport.write(self.framing.ask(unit_id, request))
        self._deadline = self.now() + timeout_s
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()
        return waiter

    def _set_timer(self) -> None:
        """Look at the deadline when it may be over: one timer for many questions, for most are answered long before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.now() >= self._deadline:
            self.fail(Silent())
        else:
            self._set_timer()

    def fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        self.closed = True
        self.fail(Broken("closed"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        waiter = self._waiter
        try:
            if waiter is None or waiter.done():
                self.framing.idle(data)
                return
            answer = self.framing.feed(data)
        except Garbage:
            self.closed = True
            self.fail(Broken("garbage"))
            self.close()
            return
        if answer is not None:
            waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was, it is closed
        self.closed = True
        self.fail(Broken("closed"))
        self.close()


async def _open_serial(line: Line, connection: _Connection) -> None:
    from drivers.modbus.serial_port import SerialPort  # noqa: PLC0415 - a city on TCP loads no serial library

    port = await asyncio.to_thread(SerialPort, line, connection)
    port.start()


def _reason(error: Exception) -> str:
    """Say in two words why there is no connection; the errno decides, for pyserial's own errors carry it too."""
    return _REASONS.get(getattr(error, "errno", None) or 0, "no connection")
