"""Simulated devices in a process of their own, so that they and who measures do not wait for each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

__all__ = ["beside"]

_ENDS_S: Final = 120.0


@asynccontextmanager
async def beside(module: str, told: msgspec.Struct) -> AsyncIterator[asyncio.StreamReader]:
    """Run `python -m MODULE` while the block lasts: it gets `told` as a line of JSON, and its lines are given."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(told) + b"\n")
    try:
        yield process.stdout
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_ENDS_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
