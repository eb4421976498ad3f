"""One TCP connection to a gateway, with one request on it at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU

from drivers.modbus.address import Endpoint
from drivers.modbus.frames import Question
from iot_core.driver import notice_cancellation

# pymodbus logs every occurrence; this driver logs transitions.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class Read(Protocol):
    """A block of registers that is read in one request (iot_core.profiles)."""

    @property
    def table(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def count(self) -> int: ...


class Refused(Exception):
    """Raised when the unit answers with a Modbus exception; the code says which."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class Silent(Exception):
    """Raised when nothing that fits the question arrives in time."""


class Broken(Exception):
    """Raised when the connection cannot be used any more: closed, or garbage on it."""


class Malformed(Exception):
    """Raised when an answer is whole but not as long as what was asked for."""


class Link:
    """A connection that survives nothing: after silence, garbage or a close it is opened anew.

    An answer that comes after its timeout can so never be taken for the answer to a later question, and half a frame
    never stands in front of the next one. pymodbus neither reports a close nor drops garbage while a request waits;
    its trace hooks tell us.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._question: Question | None = None

    @property
    def connected(self) -> bool:
        """Say whether a request can be sent."""
        return self._client is not None

    async def open(self) -> None:
        """Connect. Raises Broken."""
        client = AsyncModbusTcpClient(
            self._endpoint.host,
            port=self._endpoint.port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._traced,
            trace_connect=self._noticed,
        )
        connected = await client.connect()
        notice_cancellation()
        if not connected:
            raise Broken("no connection")
        # Some gateways answer a question of the last connection on this one: never count from 1 again.
        client.ctx.next_tid = random.randrange(60_000)  # noqa: S311 - not a secret
        self._client = client

    def close(self) -> None:
        """Close; may be called at any time."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def read(self, unit_id: int, read: Read) -> list[int]:
        """Read one block as 16-bit words, a coil as 0 or 1. Raises Refused, Malformed, Silent or Broken."""
        if self._client is None:
            raise Broken("closed")
        try:
            answer = await _request(self._client, read.table)(read.address, count=read.count, device_id=unit_id)
        except ModbusIOException as exc:
            self.close()
            raise Silent from exc
        except (ModbusException, Broken) as exc:
            self.close()
            raise Broken(str(exc)) from exc
        finally:
            self._question = None
        notice_cancellation()
        return _words(answer, read)

    def _traced(self, sending: bool, packet: bytes) -> bytes:
        if sending:
            self._question = Question.of(packet)
        elif self._question is not None and self._question.is_garbage(packet):
            self._fail("garbage")
            return b""
        return packet

    def _noticed(self, connected: bool) -> None:
        if not connected:
            self._fail("closed")
            self._client = None

    def _fail(self, reason: str) -> None:
        """End the wait for an answer that will not come."""
        if self._client is not None and self._question is not None and not self._client.ctx.response_future.done():
            self._client.ctx.response_future.set_exception(Broken(reason))


def _request(client: AsyncModbusTcpClient, table: str) -> Callable[..., Awaitable[ModbusPDU]]:
    requests: dict[str, Callable[..., Awaitable[ModbusPDU]]] = {
        "holding": client.read_holding_registers,
        "input": client.read_input_registers,
        "coil": client.read_coils,
        "discrete": client.read_discrete_inputs,
    }
    return requests[table]


def _words(answer: ModbusPDU, read: Read) -> list[int]:
    if answer.isError():
        raise Refused(answer.exception_code)
    if read.table in ("coil", "discrete"):
        words = [int(bit) for bit in answer.bits]
        if read.count <= len(words) < read.count + 8:  # whole bytes travel
            return words[: read.count]
    elif len(answer.registers) == read.count:
        return list(answer.registers)
    raise Malformed
