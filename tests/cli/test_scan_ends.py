"""`iot modbus scan --via` ends when it is asked to, whatever the server does or does not say."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from iot_core.cli.endings import UNREACHABLE
from tests.core import core_running
from tests.whole.test_command_life import IOT

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_STEP = b'event: step\ndata: {"done": 1, "total": 247, "found": null}\n\n'
SAYS = {
    "nothing": b"",
    "its head only": _HEAD,
    "one step, then nothing": _HEAD + f"{len(_STEP):x}\r\n".encode() + _STEP + b"\r\n",
}


@asynccontextmanager
async def mute(port: int, says: bytes) -> AsyncIterator[asyncio.Event]:
    """Serve a core that answers a survey with `says`, and never again; tells when somebody asked."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(says)
            await writer.drain()
            asked.set()
            await over.wait()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield asked
    finally:
        over.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("says", SAYS.values(), ids=SAYS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
async def test_a_scan_by_a_core_that_falls_silent_ends_at_once(
    free_port: Callable[[], int], says: bytes, number: signal.Signals, code: int
) -> None:
    port = free_port()
    async with mute(port, says) as asked:
        words = ("modbus", "scan", "10.0.3.7", "--via", f"http://127.0.0.1:{port}", "--token", "t")
        scan = await asyncio.create_subprocess_exec(*IOT, *words, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(60):
                await asked.wait()
            scan.send_signal(number)
            async with asyncio.timeout(60):
                assert await scan.wait() == code
        finally:
            if scan.returncode is None:
                scan.kill()
                await scan.wait()


@asynccontextmanager
async def breaking_off(port: int, said: bytes) -> AsyncIterator[None]:
    """Serve a core whose first answer is `said` and breaks off there; later ones stand."""
    over = asyncio.Event()
    times = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal times
        times += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_HEAD + f"{len(said):x}\r\n".encode() + said + b"\r\n")
            await writer.drain()
            if times > 1:
                await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        over.set()
        server.close()
        await server.wait_closed()


_METER = (
    b'event: step\ndata: {"done": 3, "total": 247, "found": {"address": "modbus://10.0.3.7:502/3", "unit_id": 3}}\n\n'
)


@pytest.mark.parametrize(
    ("steps", "code", "says"),
    [(_STEP, 3, "in the middle of its answer"), (_METER, 1, "after unit 3: the core broke off")],
)
async def test_a_core_that_ends_in_the_middle_of_a_scan_is_a_sentence(
    free_port: Callable[[], int], steps: bytes, code: int, says: str
) -> None:
    port = free_port()
    async with breaking_off(port, steps):
        words = ("modbus", "scan", "10.0.3.7", "--via", f"http://127.0.0.1:{port}", "--token", "t")
        scan = await asyncio.create_subprocess_exec(
            *IOT, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            _, said = await scan.communicate()
    assert scan.returncode == code
    assert says in said.decode()
    assert "payload" not in said.decode(), "a library's words are nobody's next step"


async def test_who_watches_is_told_that_the_core_went_and_that_it_is_back(free_port: Callable[[], int]) -> None:
    port = free_port()
    async with breaking_off(port, b": alive\n\n"):
        words = ("--url", f"http://127.0.0.1:{port}", "--token", "t", "telemetry", "watch", "meter-01")
        watch = await asyncio.create_subprocess_exec(
            *IOT, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert watch.stderr is not None
        try:
            async with asyncio.timeout(60):
                said = [(await watch.stderr.readline()).decode() for _ in range(3)]
        finally:
            watch.kill()
            await watch.wait()
    assert said[0].startswith("Watching")
    assert said[1].startswith("Connection lost: ")
    assert "in the middle of its answer" in said[1]
    assert said[2] == "Connected again.\n"


@pytest.mark.timeout(120)
async def test_a_core_asks_nobody_any_more_when_whoever_asked_it_was_killed(
    shipped_dsn: str, state_path: Path, free_ports: Callable[[int], int], free_port: Callable[[], int]
) -> None:
    """The gateway takes every question and answers none; the core ends as well, in the middle of the next scan."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.clear()
        with suppress(OSError):
            while await reader.read(100):
                asked.set()
        left.set()
        writer.close()

    port = free_port()
    gateway = await asyncio.start_server(serve, "127.0.0.1", port)
    async with gateway, core_running(shipped_dsn, state_path, free_ports) as (core, _):
        words = ("modbus", "scan", f"127.0.0.1:{port}", "--via", core.url, "--token", core.token, "--timeout", "10")
        for ends in (True, False):
            asked.clear()
            scan = await asyncio.create_subprocess_exec(
                *IOT, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(60):
                    await asked.wait()
            finally:
                if ends:
                    scan.kill()
                    await scan.wait()
            if ends:
                async with asyncio.timeout(30):
                    await left.wait()
    async with asyncio.timeout(30):
        await left.wait()
        assert await scan.wait() == UNREACHABLE
