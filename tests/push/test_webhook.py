from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from iot_core.push.addresses import PrivateAddressError, allowed_addresses, is_public
from iot_core.push.post import Poster
from iot_core.push.webhook import headers
from tests.push.receiver import SECRET, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def post(url: str, *, allow_private: bool = False, timeout_s: float = 5.0) -> tuple[int | None, str | None]:
    body = b'{"type": "push.test"}'
    poster = Poster(url, allow_private=allow_private, timeout_s=timeout_s)
    try:
        answer = await poster.post(headers(SECRET, "msg_1", body), body)
    finally:
        await poster.close()
    return answer.status, answer.error


async def test_private_address_is_refused_when_sending(free_port: Callable[[], int]) -> None:
    async with receiving(free_port()) as receiver:
        assert await post(receiver.url) == (None, "private_address")
        for spelt in ("localhost", "2130706433", "127.1", "0177.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"):
            assert await post(receiver.url.replace("127.0.0.1", spelt)) == (None, "private_address"), spelt
        assert await post(receiver.url, allow_private=True) == (204, None)
    assert len(receiver.ids) == 1


async def test_name_that_moved_into_our_network_is_refused(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was public when the target was added answers with a private address when a message is sent."""

    def moved(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", moved)
    async with receiving(free_port()) as receiver:
        assert await post(f"http://ioc.example.vn:{receiver.port}/alarms") == (None, "private_address")
    assert receiver.ids == []


async def test_public_one_of_several_addresses_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("10.0.0.1", "93.184.215.14")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert await allowed_addresses("ioc.example.vn", 443, allow_private=False) == ["93.184.215.14"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(PrivateAddressError):
        await allowed_addresses("ioc.example.vn", 443, allow_private=False)


async def test_failures_are_told_in_codes(free_port: Callable[[], int]) -> None:
    assert await post(f"http://127.0.0.1:{free_port()}/", allow_private=True) == (None, "unreachable")
    assert await post("http://no-such-name.invalid/", allow_private=True) == (None, "unresolved")
    async with receiving(free_port()) as receiver:
        assert await post(receiver.url.replace("http:", "https:"), allow_private=True) == (None, "tls")


LIES = {
    "promises more than it sends": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nok",
    "speaks no HTTP": b"220 mail.example.vn ESMTP\r\n",
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000,
    "a status that is none": b"HTTP/1.1 OK\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
async def test_who_answers_nonsense_has_not_taken_it(free_port: Callable[[], int], lie: str) -> None:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(LIES[lie])
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(served, "127.0.0.1", port)
    try:
        status, error = await post(f"http://127.0.0.1:{port}/", allow_private=True)
    finally:
        server.close()
        await server.wait_closed()
    assert (status, error) == (None, "disconnected")


ANSWERS = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "the end of the line": b"HTTP/1.0 200 OK\r\n\r\nok",
    "a word before it": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_every_whole_answer_is_one(free_port: Callable[[], int], kind: str) -> None:
    async with answering(free_port(), ANSWERS[kind]) as (url, _):
        status, error = await post(url, allow_private=True)
    assert (status in {200, 202, 204}, error) == (True, None)


async def test_one_line_serves_many_messages_until_the_receiver_closes_it(free_port: Callable[[], int]) -> None:
    async with answering(free_port(), ANSWERS["a length"], each=3) as (url, lines):
        poster = Poster(url, allow_private=True, timeout_s=5.0)
        try:
            answers = [await poster.post(headers(SECRET, f"msg_{n}", b"{}"), b"{}") for n in range(7)]
        finally:
            await poster.close()
    assert [answer.status for answer in answers] == [200] * 7, "a line that was closed while idle is no failure"
    assert lines == [3, 3, 1]


@contextlib.asynccontextmanager
async def answering(port: int, answer: bytes, each: int = 1) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer every request alike; close a line after `each` of them. Gives how many requests each line took."""
    lines: list[int] = []
    ended: list[asyncio.Event] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(lines)
        ended.append(end := asyncio.Event())
        lines.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while lines[mine] < each:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                lines[mine] += 1
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        end.set()

    server = await asyncio.start_server(served, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}/", lines
    finally:
        for end in ended:
            await end.wait()
        server.close()
        await server.wait_closed()


def test_tls_certificates_are_checked() -> None:
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("64:ff9b::5db8:d70e", True),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::", False),
        ("255.255.255.255", False),
    ],
)
def test_addresses_are_seen_through_their_wrapping(address: str, public: bool) -> None:
    assert is_public(address) is public
