"""Confirmable notifications are acknowledged after COMMIT, seen by a device written on a bare socket."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.drivers.test_coap_client import StubProfiles, observed, watching
from tests.drivers.wire_edges import Mounted, unit, until

CON, NON, ACK, RST = range(4)
EMPTY, CONTENT = 0x00, 0x45


class Device(asyncio.DatagramProtocol):
    """A server with one observable resource; it notes each datagram that it gets, as type, code and message id."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int]] = []
        self.token = b""
        self.transport: asyncio.DatagramTransport | None = None
        self.observer: tuple[str, int] = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        first, code, number = struct.unpack_from(">BBH", data)
        self.heard.append(((first >> 4) & 3, code, number))
        if code == 0x01:  # GET: observed from now on
            self.token, self.observer = data[4 : 4 + (first & 15)], addr
            self.send(ACK, CONTENT, number, b"first", observe=1)

    def send(self, kind: int, code: int, number: int, payload: bytes = b"", observe: int | None = None) -> None:
        assert self.transport is not None
        token = self.token if code else b""
        head = struct.pack(">BBH", 0x40 | kind << 4 | len(token), code, number) + token
        options = b"" if observe is None else b"\x61" + bytes([observe])
        self.transport.sendto(head + options + (b"\xff" + payload if payload else b""), self.observer)

    def acknowledged(self, number: int) -> int:
        return self.heard.count((ACK, EMPTY, number))

    async def pinged(self, number: int) -> None:
        """Wait until whatever was sent before has been dealt with: a ping is answered in turn."""
        self.send(CON, EMPTY, number)
        await until(lambda: (RST, EMPTY, number) in self.heard)


@asynccontextmanager
async def device() -> AsyncIterator[tuple[Device, str]]:
    transport, made = await asyncio.get_running_loop().create_datagram_endpoint(Device, local_addr=("127.0.0.1", 0))
    try:
        yield made, f"coap://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


async def test_a_notification_is_acknowledged_after_its_commit_and_not_before() -> None:
    committed = asyncio.Event()

    async def commit() -> None:
        await committed.wait()

    async with device() as (made, address), watching(StubProfiles(observed("t")), Mounted(unit(address))) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
        edges.ingest.commit = commit
        made.send(CON, CONTENT, 700, b"second", observe=2)
        await until(lambda: len(edges.ingest.uplinks) == 2)
        made.send(CON, CONTENT, 700, b"second", observe=2)  # it was not acknowledged, so the device says it again
        await made.pinged(701)
        assert made.acknowledged(700) == 0
        committed.set()
        await until(lambda: made.acknowledged(700))
        made.send(CON, CONTENT, 700, b"second", observe=2)  # the acknowledgement was lost
        await until(lambda: made.acknowledged(700) == 2)
        await made.pinged(702)
    assert [each.payload for each in edges.ingest.uplinks] == [b"first", b"second"]


async def test_while_the_store_is_away_nothing_is_acknowledged() -> None:
    async with device() as (made, address), watching(StubProfiles(observed("t")), Mounted(unit(address))) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
        edges.ingest.away = True
        made.send(CON, CONTENT, 800, b"second", observe=2)
        await made.pinged(801)
        assert made.acknowledged(800) == 0
        edges.ingest.away = False
        await until(lambda: made.acknowledged(800))
    assert [each.payload for each in edges.ingest.uplinks] == [b"first", b"second"]


async def test_what_nobody_asked_for_is_refused_and_what_needs_no_acknowledgement_gets_none() -> None:
    async with device() as (made, address), watching(StubProfiles(observed("t")), Mounted(unit(address))) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
        made.send(NON, CONTENT, 900, b"second", observe=2)
        await until(lambda: len(edges.ingest.uplinks) == 2)
        made.token = b"\xee" * 4
        made.send(CON, CONTENT, 901, b"third", observe=3)
        await until(lambda: (RST, EMPTY, 901) in made.heard)
    assert made.acknowledged(900) == made.acknowledged(901) == 0


async def test_a_notification_that_was_overtaken_is_acknowledged_and_not_stored() -> None:
    async with device() as (made, address), watching(StubProfiles(observed("t")), Mounted(unit(address))) as (_, edges):
        await until(lambda: edges.ingest.uplinks)
        made.send(NON, CONTENT, 700, b"newest", observe=9)
        await until(lambda: len(edges.ingest.uplinks) == 2)
        made.send(CON, CONTENT, 699, b"older", observe=8)
        await until(lambda: made.acknowledged(699))
        made.send(CON, CONTENT, 701, b"next", observe=10)
        await until(lambda: made.acknowledged(701))
    assert [each.payload for each in edges.ingest.uplinks] == [b"first", b"newest", b"next"]
    assert edges.counted["coap_notification_overtaken"] == 1
