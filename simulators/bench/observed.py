"""Devices that are CoAP servers and can be observed, by the thousand, in a process of its own.

Run as `python -m simulators.bench.observed` with a Fleet as JSON on standard input. Each device has a port of its own.
It says one line of JSON when its ports are open, and another each time a line comes in: a number of seconds to notify
for, at the fleet's rate; `0` only counts. It speaks just enough CoAP by itself (GET with Observe, CON notifications).
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from simulators.bench.poster import encoded

_CON: Final = 0x40
_ACK: Final = 0x60
_RST: Final = 0x70
_GET: Final = 0x01
_CONTENT: Final = 0x45
_OBSERVE: Final = 6
_CONTENT_FORMAT: Final = 12
_MAX_AGE: Final = 14
_JSON: Final = b"\x32"
_REPEAT_S: Final = 2.5


class Fleet(msgspec.Struct, frozen=True):
    """How many devices, on which address, and how many notifications a second all together (0: as fast as they go)."""

    devices: int
    host: str = "127.0.0.1"
    rate: float = 0.0
    max_age: int = 3_600


class Counts(msgspec.Struct, frozen=True):
    """What happened so far: `said` counts notifications and first answers, `acknowledged` what of it was confirmed."""

    ports: tuple[int, ...] = ()
    registered: int = 0
    registrations: int = 0
    said: int = 0
    acknowledged: int = 0
    repeated: int = 0


class Observed:
    """One device: a socket, at most one observer, at most one notification under way."""

    def __init__(self, fleet: Fleet, start: datetime) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in fleet.host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((fleet.host, 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.observer: tuple[object, bytes] | None = None
        self.pending: tuple[int, bytes, float] | None = None
        self.registrations = self.said = self.acknowledged = self.repeated = 0
        self._max_age = fleet.max_age.to_bytes(4, "big").lstrip(b"\0")
        self._start = start
        self._mid = 0

    def heard(self, data: bytes, sender: object) -> None:
        """Answer a GET (each registers anew), note an acknowledgement, drop the observer on a reset."""
        kind, code, mid = struct.unpack_from(">BBH", data)
        token = data[4 : 4 + (kind & 15)]
        if code == _GET:
            if self.observer != (sender, token):
                self.registrations += 1
                self.pending = None
            self.observer = (sender, token)
            head = struct.pack(">BBH", _ACK | len(token), _CONTENT, mid)
            self.acknowledged += 1
            self._send(head + token + self._content(), sender)
        elif self.pending is not None and mid == self.pending[0]:
            if kind & 0xF0 == _ACK:
                self.acknowledged += 1
            elif kind & 0xF0 == _RST:
                self.observer = None
            self.pending = None

    def notify(self, now: float) -> bool:
        """Send the next value to the observer; False while there is none, or the last one is not confirmed."""
        if self.observer is None or self.pending is not None:
            return False
        sender, token = self.observer
        self._mid = (self._mid + 1) & 0xFFFF
        datagram = struct.pack(">BBH", _CON | len(token), _CONTENT, self._mid) + token + self._content()
        self.pending = (self._mid, datagram, now)
        self._send(datagram, sender)
        return True

    def repeat(self, now: float) -> None:
        """Send the notification under way again when it is not confirmed for too long."""
        if self.pending is not None and self.observer is not None and now - self.pending[2] > _REPEAT_S:
            self.repeated += 1
            self.pending = (self.pending[0], self.pending[1], now)
            self._send(self.pending[1], self.observer[0])

    def _content(self) -> bytes:
        n = self.said
        self.said += 1
        at = (self._start + timedelta(seconds=n)).isoformat()
        options = encoded([(_OBSERVE, (n + 1).to_bytes(3, "big")), (_CONTENT_FORMAT, _JSON), (_MAX_AGE, self._max_age)])
        return options + b"\xff" + f'{{"time":"{at}","pm25":{n % 900 / 10},"temperature":{20 + n % 90 / 10}}}'.encode()

    def _send(self, datagram: bytes, to: Any) -> None:
        with suppress(BlockingIOError, ConnectionRefusedError):
            self.socket.sendto(datagram, to)


class Crowd:
    """All devices, and standard input beside them."""

    def __init__(self, fleet: Fleet) -> None:
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        self._fleet = fleet
        self._devices = [Observed(fleet, start) for _ in range(fleet.devices)]
        self._poll = select.epoll()
        self._by_number = {each.socket.fileno(): each for each in self._devices}
        for number in (*self._by_number, sys.stdin.fileno()):
            self._poll.register(number, select.EPOLLIN)
        self._next = 0

    def run(self) -> None:
        """Serve until standard input ends."""
        self._say(ports=tuple(each.port for each in self._devices))
        until = began = looked = 0.0
        notified = 0
        while True:
            now = time.perf_counter()
            if until and now >= until and not any(each.pending for each in self._devices):
                until = 0.0
                self._say()
            if now < until:
                due = int((now - began) * self._fleet.rate) - notified if self._fleet.rate else len(self._devices)
                notified += self._notify(due, now)
            if now - looked > 0.25:
                looked = now
                for device in self._devices:
                    device.repeat(now)
            for number, _ in self._poll.poll(0.002 if now < until else 0.05):
                if number == sys.stdin.fileno():
                    line = sys.stdin.buffer.readline()
                    if not line:
                        return
                    began, notified = time.perf_counter(), 0
                    until = began + float(line) if float(line) else 0.0
                    if not until:
                        self._say()
                    continue
                with suppress(BlockingIOError, struct.error):
                    self._by_number[number].heard(*self._by_number[number].socket.recvfrom(2048))

    def _notify(self, due: int, now: float) -> int:
        sent = 0
        for _ in range(min(max(due, 0), len(self._devices))):
            sent += self._devices[self._next].notify(now)
            self._next = (self._next + 1) % len(self._devices)
        return sent

    def _say(self, ports: tuple[int, ...] = ()) -> None:
        all_of = {
            name: sum(getattr(each, name) for each in self._devices)
            for name in ("registrations", "said", "acknowledged", "repeated")
        }
        counts = Counts(ports=ports, registered=sum(each.observer is not None for each in self._devices), **all_of)
        sys.stdout.write(msgspec.json.encode(counts).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Crowd(msgspec.json.decode(sys.stdin.buffer.readline(), type=Fleet)).run()
