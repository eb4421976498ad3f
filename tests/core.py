"""A whole core in this process, on a real database and a real broker, with free ports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from iot_core.app import Core, running_core
from iot_core.client import Client
from iot_core.settings import Settings, with_ports
from iot_core.state import locked
from tests.forks import FORKS


@asynccontextmanager
async def core_running(
    dsn: str, state: Path, free_ports: Callable[[int], int], **sections: Any
) -> AsyncIterator[tuple[Core, Client]]:
    """Run a core while the block lasts, with an admin's client. `say` is told what its console shows."""
    say = sections.pop("say", lambda _: None)
    plain = msgspec.to_builtins(with_ports(Settings(), free_ports(3)))
    for name, values in {"store": {"dsn": dsn}, **sections}.items():
        plain[name] = plain[name] | values if isinstance(values, dict) else values
    with locked(state) as directory:
        async with (
            running_core(msgspec.convert(plain, Settings), directory, say=say) as core,
            Client(core.url, core.token) as client,
        ):
            yield core, client


async def until(condition: Callable[[], Any], *, within_s: float = 60.0, what: str = "") -> Any:
    """Wait until `condition` (sync or async) gives something true, and give it."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what or condition}") from None


def last_week() -> str:
    """Give a day of last week as 2026-11-20: what was measured on one that is written here is too old in a year."""
    return (datetime.now(UTC) - timedelta(days=7)).date().isoformat()


@dataclass
class Stopwatch:
    """Counts the seconds in which this process could run: a machine busy with others makes nothing late."""

    seconds: float = 0.0


@asynccontextmanager
async def stopwatch() -> AsyncIterator[Stopwatch]:
    """Count while the block lasts."""
    watch, tick = Stopwatch(), 0.01

    async def count() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(tick)
            now = loop.time()
            watch.seconds += min(now - before, 2 * tick)
            before = now

    counting = asyncio.create_task(count())
    try:
        yield watch
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


async def command(*words: str | Path, stdin: bytes = b"", within_s: float = 60.0) -> tuple[int, str, str]:
    """Run a program and give its exit code, output and errors."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, words), stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(within_s):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def forked(*words: str | Path, within_s: float = 60.0) -> tuple[int, str, str]:
    """Run `iot`, in a fork, and give its exit code, output and errors."""
    said = [str(each) for each in words]
    code, out, err = await asyncio.to_thread(FORKS.run, said, os.environ, Path.cwd(), within_s=within_s)
    return code, out.decode(), err.decode()


def mosquitto_pub(core: Core, key: str, secret: str, topic: str, body: str) -> Sequence[str]:
    """Write the command line of an independent MQTT client."""
    where = ("-h", core.broker.host, "-p", str(core.broker.port), "-q", "1")
    return ("mosquitto_pub", *where, "-u", key, "-P", secret, "-t", topic, "-m", body)
