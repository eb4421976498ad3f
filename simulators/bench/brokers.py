"""A Mosquitto that lets everyone in, for what our own broker's accounts forbid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from iot_core.broker.mosquitto import installed
from iot_core.errors import StartError
from simulators.ports import LOOPBACK, free_port

__all__ = ["open_broker"]

_READY_S: Final = 10.0
_CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages {window}
max_queued_messages 1000000
set_tcp_nodelay true
log_type error
"""


@asynccontextmanager
async def open_broker(folder: Path, window: int = 2_000) -> AsyncIterator[int]:
    """Run it while the block lasts; give its port. Raises StartError without Mosquitto.

    `window`: how many messages it hands over without acknowledgement.
    """
    program = await installed()
    if program is None:
        raise StartError("bench.no_mosquitto")
    port = free_port()
    config = folder / "open-broker.conf"
    config.write_text(_CONFIG.format(port=port, window=window), encoding="ascii")
    process = await asyncio.create_subprocess_exec(program, "-c", config, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(_READY_S):
            while not await _answers(port):  # noqa: ASYNC110 - a process that says nothing when it is ready
                await asyncio.sleep(0.05)
        yield port
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answers(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.close()
        return True
    return False
