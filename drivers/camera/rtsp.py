"""One question of RTSP 1.0 (RFC 2326): OPTIONS, which names methods and starts nothing."""

from __future__ import annotations

import asyncio
import re
from typing import Final

__all__ = ["options", "read_status", "request"]

_LONGEST: Final = 8_192
_STATUS: Final = re.compile(rb"RTSP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_CSEQ: Final = re.compile(rb"^cseq:\s*1\s*$", re.IGNORECASE | re.MULTILINE)


def request(url: str) -> bytes:
    """Write the question."""
    return f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: iot-core\r\n\r\n".encode()


def read_status(answer: bytes) -> int | None:
    """Give the status of an answer to our one question; None for what is no RTSP, or answers another question."""
    status = _STATUS.match(answer)
    if status is None or not _CSEQ.search(answer.replace(b"\r", b"")):
        return None
    return int(status[1])


async def options(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str) -> int | None:
    """Ask on an open connection; None when the other end closes or speaks no RTSP. The caller sets the deadline."""
    writer.write(request(url))
    await writer.drain()
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _LONGEST:
        more = await reader.read(_LONGEST)
        if not more:
            break
        answer += more
    return read_status(answer)
