"""Signed POSTs over connections that stay open: as many as are on their way at once, to one target.

HTTP/1.1 is read by httptools (llhttp). A general client does what a push never needs (cookies, redirects, proxies,
tracing, forms) at several times the CPU a message: docs/decisions/028-webhooks-over-httptools.md.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import httptools
from yarl import URL

from iot_core.push.addresses import PrivateAddressError, allowed_addresses
from iot_core.push.answer import Answer

__all__ = ["Poster"]

MOST_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read; its status says all that we ask."""
_LEAST_FINAL: Final = 200


class _Line(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._used = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._read = 0
        self._status = 0
        self._ends_with_line = True

    @property
    def open(self) -> bool:
        """Say whether it can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes) -> int:
        """Send a request; give the status of its answer. Raises ConnectionError, ssl.SSLError."""
        assert self._transport is not None
        self._begin()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._transport.write(head + body)
        try:
            return await answer
        finally:
            self._answer = None

    @property
    def untouched(self) -> bool:
        """Say whether it ended before anything of an answer came: the receiver had closed an idle line."""
        return self._used and self._read == 0

    def close(self) -> None:
        """Close at once: what is still to come is of no use."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._read += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()
            return
        if self._read > MOST_ANSWER:  # more than anyone needs to say that it has the message
            if self._status:
                self._settle(keep=False)
            else:
                self._fail()

    def eof_received(self) -> bool:
        """Close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End: an answer without a length ends here and is whole; any other is not."""
        if self._status and self._ends_with_line and exc is None:
            self._settle(keep=False)
        else:
            self._fail(exc)

    # ------------------------------------------------------------ httptools' side
    def on_header(self, name: bytes, _: bytes) -> None:
        """Note how the body will end."""
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._ends_with_line = False

    def on_headers_complete(self) -> None:
        """Note the status; 1xx is not the answer yet."""
        status = self._parser.get_status_code()
        if status >= _LEAST_FINAL:
            self._status = status

    def on_message_complete(self) -> None:
        """Give the answer."""
        if self._status:
            self._settle(keep=self._parser.should_keep_alive())

    def _settle(self, *, keep: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._status)
            self._used = True
        if not keep:
            self.close()

    def _fail(self, exc: Exception | None = None) -> None:
        if self._answer is not None and not self._answer.done():
            # With TLS 1.3 a receiver that misses our certificate says so only after the handshake.
            self._answer.set_exception(exc if isinstance(exc, ssl.SSLError) else ConnectionResetError())
        self.close()


class Poster:
    """Posts to one URL. `tls`: how the receiver is checked; None: as the system does."""

    def __init__(self, url: str, *, allow_private: bool, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._url = URL(url)
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._tls = (tls or _system()) if self._url.scheme == "https" else None
        host = self._url.raw_host or ""
        named = f"[{host}]" if ":" in host else host
        where = named if self._url.is_default_port() else f"{named}:{self._url.port}"
        self._head = f"POST {self._url.raw_path_qs} HTTP/1.1\r\nHost: {where}\r\nAccept: */*\r\n"
        self._free: list[_Line] = []
        self._lines: set[_Line] = set()

    async def post(self, headers: dict[str, str], body: bytes) -> Answer:
        """Send one message once. Never raises for what the other side does; never follows a redirect."""
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{self._head}{said}Content-Length: {len(body)}\r\n\r\n".encode()
        try:
            async with asyncio.timeout(self._timeout_s):
                return _judge(await self._ask(head, body))
        except (OSError, ValueError, _Unresolved, _Unreachable) as exc:
            return Answer(None, _why(exc))

    async def close(self) -> None:
        """Close the connections."""
        lines, self._lines, self._free = self._lines, set(), []
        for line in lines:
            line.close()
        await asyncio.sleep(0)  # a transport lets go of its socket in the loop's next round

    async def _ask(self, head: bytes, body: bytes) -> int:
        while self._free:
            line = self._free.pop()
            if line.open:
                try:
                    return await self._over(line, head, body)
                except ConnectionError:
                    if not line.untouched:
                        raise
            self._lines.discard(line)
        return await self._over(await self._connected(), head, body)

    async def _over(self, line: _Line, head: bytes, body: bytes) -> int:
        """Use a line, and keep it when it can be used again."""
        whole = False
        try:
            status = await line.ask(head, body)
            whole = line.open
        finally:
            if whole and line in self._lines:
                self._free.append(line)
            else:
                self._lines.discard(line)
                line.close()
        return status

    async def _connected(self) -> _Line:
        host, port = self._url.raw_host or "", self._url.port or 0
        try:
            addresses = await allowed_addresses(host, port, allow_private=self._allow_private)
        except PrivateAddressError:
            raise
        except (OSError, UnicodeError) as exc:
            raise _Unresolved from exc
        name = host if self._tls is not None else None
        loop = asyncio.get_running_loop()
        for number, address in enumerate(addresses, 1):
            try:
                _, line = await loop.create_connection(_Line, address, port, ssl=self._tls, server_hostname=name)
            except OSError as exc:
                if number == len(addresses) or isinstance(exc, ssl.SSLError | TimeoutError):
                    raise _Unreachable from exc
            else:
                self._lines.add(line)
                return line
        raise _Unreachable


class _Unresolved(Exception):
    pass


class _Unreachable(Exception):
    pass


def _why(exc: Exception) -> str:
    """Say in a code why there is no answer. A TimeoutError and an SSLError are OSErrors too."""
    match exc:
        case PrivateAddressError():
            return "private_address"
        case _Unresolved():
            return "unresolved"
        case ssl.SSLError() | _Unreachable(__cause__=ssl.SSLError()):
            return "tls"
        case _Unreachable():
            return "unreachable"
        case TimeoutError():
            return "timeout"
        case _:
            return "disconnected"


def _system() -> ssl.SSLContext:
    return ssl.create_default_context()


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(status, None)
    return Answer(status, "redirect" if 300 <= status < 400 else f"http_{status}")
