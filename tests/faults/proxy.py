"""A TCP proxy between two parts that can go silent, refuse, hang up or be slow, as networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
CHUNK = 64 * 1024


@dataclass(eq=False)
class Proxy:
    """Listens on a loopback port and passes bytes on.

    `silence()` is a half-open network: connections stand, new ones are taken, and nothing arrives anywhere any more.
    With `forget=True` only connections of that moment are dead (a failed-over router): new ones work.
    """

    port: int
    connect: Connect
    connections: int = 0
    _forward: asyncio.Event = field(default_factory=asyncio.Event)
    _dead: set[asyncio.StreamWriter] = field(default_factory=set)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _served: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections."""
        self._forward.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Hang up, and refuse new connections, as a host does whose service is down."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None

    def hang_up(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def silence(self, *, forget: bool = False) -> None:
        """Pass nothing on any more, and close nothing."""
        if forget:
            self._dead |= self._open
        else:
            self._forward.clear()

    def speak(self) -> None:
        """Pass on again what is still there to be passed on."""
        self._forward.set()

    async def end(self) -> None:
        """Stop everything, dead connections too."""
        await self.refuse()
        served = list(self._served)
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # from `end`; asyncio's streams would complain of it
            await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (task := asyncio.current_task()) is not None:
            self._served.add(task)
            task.add_done_callback(self._served.discard)
        self._open.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._forward.wait()
            other_reader, other = await self.connect()
            self._open.add(other)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, other))
                group.create_task(self._copy(other_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            for each in (writer, other):
                if each is not None:
                    self._open.discard(each)
                    self._dead.discard(each)
                    each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._forward.wait()
            if writer in self._dead:
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        raise EOFError


class Line(NamedTuple):
    """A proxy in front of a database: how a core reaches it, and how we do."""

    wire: Proxy
    dsn: str
    direct: str


@asynccontextmanager
async def proxy(port: int, connect: Connect) -> AsyncIterator[Proxy]:
    """Run a proxy while the block lasts."""
    made = Proxy(port, connect)
    await made.listen()
    try:
        yield made
    finally:
        await made.end()
