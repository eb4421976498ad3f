"""A serial port as an asyncio transport: pyserial in a thread of its own, on every system alike."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Final

import serial

from drivers.modbus.address import Line

__all__ = ["SerialPort"]

_LOOK_S: Final = 0.25
_WRITE_S: Final = 2.0


class SerialPort(asyncio.WriteTransport):
    """Hands what arrives to a protocol. Closing waits for the thread, so that the port can be opened again at once."""

    def __init__(self, line: Line, protocol: asyncio.Protocol) -> None:
        """Open the port. Blocks a moment; raises OSError."""
        super().__init__()
        self._protocol = protocol
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = threading.Event()
        self._port = serial.Serial(
            line.port, line.baud, parity=line.parity, stopbits=line.stop_bits,
            timeout=_LOOK_S, write_timeout=_WRITE_S, exclusive=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, name=f"modbus {line.port}", daemon=True)

    def start(self) -> None:
        """Begin to read, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._protocol.connection_made(self)
        self._thread.start()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a frame; it fits in the system's buffer."""
        try:
            self._port.write(bytes(data))
        except (OSError, serial.SerialException) as exc:
            self._loop_call(self._protocol.connection_lost, exc)

    def is_closing(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError, AttributeError, TypeError):
            self._port.cancel_read()
        if self._thread.ident is not None:
            self._thread.join(2 * _LOOK_S)
        self._port.close()

    abort = close

    def _read(self) -> None:
        error: Exception | None = None
        try:
            while not self._closing.is_set():
                data = self._port.read(self._port.in_waiting or 1)
                if data:
                    self._loop_call(self._protocol.data_received, data)
        except (OSError, TypeError, ValueError) as exc:  # unplugged, or closed under the reader
            error = exc
        if not self._closing.is_set():
            self._loop_call(self._protocol.connection_lost, error)

    def _loop_call(self, call: object, argument: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(call, argument)  # type: ignore[arg-type]
