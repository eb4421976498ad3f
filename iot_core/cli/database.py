"""The database that a command works on directly: that of the settings, else the embedded one, running or not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from iot_core.cli.config import found
from iot_core.cli.session import state_dir
from iot_core.errors import StartError
from iot_core.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import asyncpg

    from iot_core.settings import Settings

__all__ = ["dsn_of", "on_database", "opened"]

T = TypeVar("T")


def on_database(path: Path | None, work: Callable[[asyncpg.Connection, Settings], Awaitable[T]]) -> T:
    """Run `work` on a connection to the database that the settings name. Raises StartError, ConfigError."""
    settings = load(found(path))

    async def run() -> T:
        async with opened(settings, state_dir()) as connection:
            return await work(connection, settings)

    return asyncio.run(run())


@asynccontextmanager
async def opened(settings: Settings, state: Path) -> AsyncIterator[asyncpg.Connection]:
    """Connect; the embedded server is started for the while where no core runs it."""
    async with dsn_of(settings, state) as dsn:
        from iot_core.store.connection import open_one

        async with open_one(dsn) as connection:
            yield connection


@asynccontextmanager
async def dsn_of(settings: Settings, state: Path) -> AsyncIterator[str]:
    """Give the DSN of the database; the embedded server is started for the while where no core runs it."""
    try:
        from iot_core.cli.hangup import ends_as_interrupted
        from iot_core.cli.logs import log_to_stderr
        from iot_core.state import locked
        from iot_core.store.server import DATABASE, embedded, running_dsn
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    log_to_stderr()
    dsn = settings.store.dsn or running_dsn(state, DATABASE)
    if dsn:
        yield dsn
        return
    ends_as_interrupted()
    with locked(state) as directory:
        async with embedded(directory) as started:
            yield started
