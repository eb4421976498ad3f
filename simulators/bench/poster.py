"""A lean CoAP client, a process of its own: many endpoints, each with one request under way (NSTART, RFC 7252 4.7).

Run as `python -m simulators.bench.poster` with a Load as JSON on standard input; a Sent comes out. It speaks just
enough CoAP by itself (POST, repetition, separate answers), because a client library would be what is measured.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

_CON: Final = 0x40
_NON: Final = 0x50
_ACK: Final = 0x60
_POST: Final = 0x02
_CHANGED: Final = 0x44
_URI_PATH: Final = 11
_CONTENT_FORMAT: Final = 12
_URI_QUERY: Final = 15
_REPEAT_S: Final = 2.5
_GIVE_UP_S: Final = 45.0
_NON_ANSWER_S: Final = 10.0
_LOOK_S: Final = 0.25
_SIGNS: Final = (0, 13, 269)


class Load(msgspec.Struct, frozen=True):
    """What to post: as `accounts`, for `seconds`, at `rate` a second over all (0: as fast as answers come)."""

    host: str
    port: int
    accounts: tuple[tuple[str, str], ...]
    seconds: float
    confirmable: bool = True
    rate: float = 0.0
    start: str = ""
    """Time of each device's first reading, RFC 3339; the next ones follow by seconds."""


class Sent(msgspec.Struct, frozen=True):
    """How many were answered 2.04, how many posted at all, the other answers by code, and what it took."""

    acknowledged: int
    written: int
    seconds: float
    cpu_s: float
    repeated: int
    refused: dict[str, int]
    answer_ms: dict[str, float]


class Endpoint:
    """One device: its socket, and the one request that is under way."""

    def __init__(self, load: Load, key: str, secret: str, start: datetime) -> None:
        family = socket.AF_INET6 if ":" in load.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((load.host, load.port))
        self.socket.setblocking(False)
        self.since = self.last = 0.0
        """When the request under way was first and last sent; 0 when none is."""
        self.written = 0
        self._kind = (_CON if load.confirmable else _NON) | 4
        self._options = _options(key, secret)
        self._start = start
        self._datagram = b""

    def post(self, now: float) -> None:
        """Send the next reading."""
        n = self.written
        self.written += 1
        head = struct.pack(">BBHI", self._kind, _POST, n & 0xFFFF, n)
        self._datagram = head + self._options + b"\xff" + self._body(n)
        self.since = self.last = now
        self._send(self._datagram)

    def repeat(self, now: float) -> None:
        """Send the same again."""
        self.last = now
        self._send(self._datagram)

    def heard(self, data: bytes) -> int:
        """Give the code that answers the request under way; 0 for anything else."""
        kind, code, mid = struct.unpack_from(">BBH", data)
        if kind & 0xF0 == _CON:  # a separate answer asks for an acknowledgement
            self._send(struct.pack(">BBH", _ACK, 0, mid))
        if not code or data[4:8] != self._datagram[4:8] or not self.since:
            return 0
        return int(code)

    def _send(self, datagram: bytes) -> None:
        with suppress(BlockingIOError, ConnectionRefusedError):  # lost, as it may be on any network
            self.socket.send(datagram)

    def _body(self, n: int) -> bytes:
        at = (self._start + timedelta(seconds=n)).isoformat()
        return (
            f'{{"time":"{at}","seq":{n},"pm25":{n % 900 / 10},"pm10":{n % 800 / 10},"temperature":{20 + n % 90 / 10},'
            f'"humidity":{40 + n % 50},"co2":{400 + n % 900},"pressure":{1000 + n % 200 / 10}}}'
        ).encode()


class Poster:
    """All endpoints, and what came back."""

    def __init__(self, load: Load) -> None:
        start = datetime.fromisoformat(load.start) if load.start else datetime.now(UTC) - timedelta(hours=6)
        self._load = load
        self._endpoints = [Endpoint(load, key, secret, start) for key, secret in load.accounts]
        self._poll = select.epoll()
        self._by_number = {each.socket.fileno(): each for each in self._endpoints}
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)
        self._idle = list(reversed(self._endpoints))
        self._acknowledged = self._repeated = 0
        self._refused: dict[str, int] = {}
        self._took: list[float] = []

    def run(self) -> Sent:
        """Post for as long as asked, then wait (bounded) for the last answers."""
        began, cpu = time.perf_counter(), time.process_time()
        looked = began
        while True:
            now = time.perf_counter()
            running = now - began < self._load.seconds
            if running:
                self._post(now, began)
            if now - looked > _LOOK_S:
                looked = now
                self._look(now)
            if not running and len(self._idle) == len(self._endpoints):
                break
            self._hear(0.005 if self._load.rate and running else 0.05)
        self._took.sort()
        took = self._took or [0.0]
        return Sent(
            acknowledged=self._acknowledged,
            written=sum(each.written for each in self._endpoints),
            seconds=time.perf_counter() - began,
            cpu_s=time.process_time() - cpu,
            repeated=self._repeated,
            refused=self._refused,
            answer_ms={f"p{share}": round(took[len(took) * share // 100] * 1000, 1) for share in (50, 99)},
        )

    def _post(self, now: float, began: float) -> None:
        due = len(self._idle)
        if self._load.rate:
            due = min(due, int((now - began) * self._load.rate) - sum(each.written for each in self._endpoints))
        for _ in range(due):
            self._idle.pop().post(now)

    def _hear(self, seconds: float) -> None:
        for number, _ in self._poll.poll(seconds):
            endpoint = self._by_number[number]
            try:
                code = endpoint.heard(endpoint.socket.recv(2048))
            except (BlockingIOError, ConnectionRefusedError, struct.error):
                continue
            if not code:
                continue
            if code == _CHANGED:
                self._acknowledged += 1
                self._took.append(time.perf_counter() - endpoint.since)
            else:
                said = f"{code >> 5}.{code & 31:02}"
                self._refused[said] = self._refused.get(said, 0) + 1
            self._done(endpoint)

    def _look(self, now: float) -> None:
        """Repeat what was not answered; an answer to a NON is not waited for long."""
        for endpoint in self._endpoints:
            if not endpoint.since:
                continue
            if now - endpoint.since > (_GIVE_UP_S if self._load.confirmable else _NON_ANSWER_S):
                self._refused["none"] = self._refused.get("none", 0) + 1
                self._done(endpoint)
            elif self._load.confirmable and now - endpoint.last > _REPEAT_S:
                self._repeated += 1
                endpoint.repeat(now)

    def _done(self, endpoint: Endpoint) -> None:
        endpoint.since = 0.0
        self._idle.append(endpoint)


def _options(key: str, secret: str) -> bytes:
    listed = [(_URI_PATH, b"v1"), (_URI_PATH, key.encode()), (_URI_PATH, b"telemetry")]
    return encoded([*listed, (_CONTENT_FORMAT, b"\x32"), (_URI_QUERY, f"token={secret}".encode())])


def encoded(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Write options in the order of their numbers (RFC 7252 section 3.1)."""
    written, before = b"", 0
    for number, value in options:
        delta, more = _nibble(number - before)
        length, longer = _nibble(len(value))
        written += bytes([delta << 4 | length]) + more + longer + value
        before = number
    return written


def _nibble(value: int) -> tuple[int, bytes]:
    if value < _SIGNS[1]:
        return value, b""
    if value < _SIGNS[2]:
        return 13, bytes([value - _SIGNS[1]])
    return 14, struct.pack(">H", value - _SIGNS[2])


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.write(msgspec.json.encode(Poster(asked).run()).decode() + "\n")
