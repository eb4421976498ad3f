"""A lean MQTT publisher, a process of its own: many connections, each with a window of unacknowledged messages.

Run as `python -m simulators.bench.publisher` with a Load as a line of JSON on standard input; a Sent comes out. Later
lines are numbers: how many messages may be written in all by now, so that no queue grows without bound; where they end,
publishing ends. It speaks just enough MQTT 3.1.1 by itself (CONNECT, PUBLISH at QoS 1), because a client library would
be what is measured.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

__all__ = ["Load", "Login", "Sent"]

_ANSWER: Final = 4
"""CONNACK and PUBACK are this long, and nothing else comes."""
_IDS: Final = 65_535
_TICK_S: Final = 0.005
_PATIENCE_S: Final = 60.0
_MID: Final = struct.Struct(">H")


class Login(msgspec.Struct, frozen=True):
    """One connection, and the devices it speaks for."""

    client_id: str
    username: str
    password: str
    keys: tuple[str, ...]


class Load(msgspec.Struct, frozen=True):
    """What to publish, for `seconds`, at `rate` messages a second over all (0: as fast as it goes).

    Device keys are alike in length, so that the parts of a packet are made once for all of them. At full speed a device
    says `burst` observations at a time, a second apart from `start` on; at a rate one, of that very moment. Each says
    `says` in turn, members of a JSON object; without them made-up values of an air-quality station.
    """

    host: str
    port: int
    logins: tuple[Login, ...]
    seconds: float
    rate: float = 0.0
    window: int = 20
    burst: int = 10
    start: str = ""
    says: tuple[str, ...] = ()
    paced: bool = True
    """Whether numbers will come on standard input; no message is written before the first one."""


class Sent(msgspec.Struct, frozen=True):
    """How many the broker acknowledged, how many were written at all, and how long it took."""

    acknowledged: int
    written: int
    seconds: float
    cpu_s: float


class Connection:
    """One connection: what was written, what of it was acknowledged."""

    def __init__(self, load: Load, login: Login) -> None:
        self.written = self.acknowledged = 0
        self.topics = [_text(f"iot/v1/{key}/telemetry") for key in login.keys]
        self.socket = socket.create_connection((load.host, load.port), timeout=_PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 0xC2 if login.username else 0x02
        names = b"".join(_text(name) for name in (login.client_id, login.username, login.password) if name)
        self.socket.sendall(_packet(0x10, _text("MQTT") + bytes([4, flags]) + struct.pack(">H", 0) + names))
        answer = self.socket.recv(_ANSWER)
        if len(answer) != _ANSWER or answer[3]:
            raise ConnectionError(f"{login.client_id} was refused: {answer.hex()}")
        self._half = 0

    def send(self, topic: bytes, bodies: Sequence[tuple[bytes, bytes]]) -> None:
        """Write messages, each given as head and body. It never waits for long: a window fits the socket's buffer."""
        parts: list[bytes] = []
        number = self.written
        for head, body in bodies:
            parts += (head, topic, _MID.pack(number % _IDS + 1), body)
            number += 1
        self.socket.sendall(b"".join(parts))
        self.written = number

    def receive(self) -> None:
        """Count the acknowledgements that are there."""
        data = self.socket.recv(65_536, socket.MSG_DONTWAIT)
        if not data:
            raise ConnectionError("the broker closed a connection")
        acknowledged, self._half = divmod(len(data) + self._half, _ANSWER)
        self.acknowledged += acknowledged


class Publisher:
    """All connections, written to in turn."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._connections = [Connection(load, login) for login in load.logins]
        self._turns = [(each, topic) for each in self._connections for topic in each.topics]
        self._topic_size = len(self._turns[0][1])
        self._by_fd = {each.socket.fileno(): each for each in self._connections}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._allowed = 0 if load.paced else sys.maxsize
        if load.paced:
            os.set_blocking(0, False)
            self._poll.register(0, select.EPOLLIN)
        self._start = datetime.fromisoformat(load.start) if load.start else datetime.now(UTC) - timedelta(hours=6)
        self._burst = 1 if load.rate else load.burst
        self._turn = self._round = self.written = 0
        self._over = False
        self._bodies: list[tuple[bytes, bytes]] = []

    def run(self) -> Sent:
        """Publish the load and wait (bounded) for the last acknowledgements."""
        began, cpu = time.perf_counter(), time.process_time()
        while not self._over and (elapsed := time.perf_counter() - began) < self._load.seconds:
            due = int(elapsed * self._load.rate) if self._load.rate else sys.maxsize
            waits = not self._write(min(due, self._allowed))
            self._listen(_TICK_S if waits else 0)
        patience = time.perf_counter() + _PATIENCE_S
        while self.acknowledged < self.written and time.perf_counter() < patience:
            self._listen(_TICK_S)
        took = time.perf_counter() - began
        return Sent(self.acknowledged, self.written, took, time.process_time() - cpu)

    @property
    def acknowledged(self) -> int:
        """Count what the broker acknowledged."""
        return sum(each.acknowledged for each in self._connections)

    def _write(self, most: int) -> bool:
        """Write until `most` are written in all, a window is full or everyone had a turn; say whether it was that."""
        burst = self._burst
        stale = self._load.rate > 0
        for _ in range(len(self._turns)):
            connection, topic = self._turns[self._turn]
            if self.written + burst > most or connection.written - connection.acknowledged > self._load.window - burst:
                return False
            if stale or self._turn == 0:
                now = datetime.now(UTC)
                self._bodies = [self._body(self._round * burst + n, now) for n in range(burst)]
                stale = False
            connection.send(topic, self._bodies)
            self.written += burst
            self._turn += 1
            if self._turn == len(self._turns):
                self._turn, self._round = 0, self._round + 1
        return True

    def _listen(self, seconds: float) -> None:
        for fd, _ in self._poll.poll(seconds):
            if fd == 0:
                self._be_told()
            else:
                self._by_fd[fd].receive()

    def _be_told(self) -> None:
        lines = os.read(0, 65_536).split()
        if not lines:
            self._poll.unregister(0)
            self._over = True
            return
        self._allowed = int(lines[-1])

    def _body(self, n: int, now: datetime) -> tuple[bytes, bytes]:
        at = now if self._load.rate else self._start + timedelta(seconds=n)
        if says := self._load.says:
            body = f'{{"time":"{at.isoformat()}","seq":{n},{says[n % len(says)]}}}'.encode()
            return bytes([0x32]) + _length(self._topic_size + 2 + len(body)), body
        body = (
            f'{{"time":"{at.isoformat()}","seq":{n},"pm25":{n % 900 / 10},"pm10":{n % 800 / 10},'
            f'"temperature":{20 + n % 90 / 10},"humidity":{40 + n % 50},"co2":{400 + n % 900},'
            f'"pressure":{1000 + n % 200 / 10}}}'
        ).encode()
        return bytes([0x32]) + _length(self._topic_size + 2 + len(body)), body


def _text(said: str) -> bytes:
    return struct.pack(">H", len(said)) + said.encode()


def _length(size: int) -> bytes:
    sizes = bytearray()
    while True:
        size, rest = divmod(size, 128)
        sizes.append(rest | (0x80 if size else 0))
        if not size:
            return bytes(sizes)


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _length(len(body)) + body


if __name__ == "__main__":
    with open(0, "rb", buffering=0, closefd=False) as said:  # unbuffered: the numbers are read from the descriptor
        asked = msgspec.json.decode(said.readline(), type=Load)
    sys.stdout.write(msgspec.json.encode(Publisher(asked).run()).decode() + "\n")
