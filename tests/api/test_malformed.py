"""What is no HTTP is answered 400 and logged in one line, without what it held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from iot_core.api.malformed import say_malformed_in_one_line


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nBearer hunter2\r\n\r\n", "BadHttpMessage"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"hunter2" * 2_000 + b"\r\n\r\n", "LineTooLong"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: hunter2\r\n\r\n", "BadHttpMessage"),
    ],
)
async def test_a_request_that_is_no_http_is_one_line_in_the_log(
    sent: bytes, why: str, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    say_malformed_in_one_line()
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with capture_logs() as logs, caplog.at_level(logging.DEBUG, "aiohttp.server"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(60):
                assert b" 400 " in await reader.readline()
                await reader.read()
            writer.close()
            await writer.wait_closed()
    finally:
        await runner.cleanup()
    assert [(line["event"], line["why"], line["sender"]) for line in logs] == [("api.malformed", why, "127.0.0.1")]
    assert caplog.records == []
    assert "hunter2" not in str(logs)
