"""Borrowing a connection for what may take long: bounded in time, and cancelled when the asker has gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg
from aiohttp import web

from iot_core.api.services import Services
from iot_core.errors import RequestError

__all__ = ["reader", "second_reader"]

_ACQUIRE_S: Final = 10.0
_SECOND_S: Final = 1.0
_LOOK_S: Final = 0.2


@asynccontextmanager
async def reader(services: Services, request: web.Request) -> AsyncIterator[asyncpg.Connection]:
    """Borrow a reader for a block. The handler is cancelled, and with it the query, when the client disconnects.

    Raises RequestError when a statement takes longer than store.read_timeout_s, or all readers stay busy.
    """
    seconds = services.settings.store.read_timeout_s
    try:
        async with _while_somebody_waits(request), _borrowed(services) as connection:
            yield connection
    except asyncpg.QueryCanceledError as exc:
        raise RequestError("read.too_long", seconds=seconds) from exc


@asynccontextmanager
async def second_reader(services: Services) -> AsyncIterator[asyncpg.Connection | None]:
    """Borrow one reader more for half of a long question, or give None where that would leave none for the others.

    It does not wait till one is free: askers that each hold a reader and wait for another would wait for each other.
    """
    pool = services.readers
    connection = None
    if pool.get_max_size() - pool.get_size() + pool.get_idle_size() > 1:
        with suppress(TimeoutError, asyncpg.TooManyConnectionsError):
            connection = await pool.acquire(timeout=_SECOND_S)
    try:
        yield connection
    finally:
        if connection is not None:
            await pool.release(connection)


@asynccontextmanager
async def _borrowed(services: Services) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await services.readers.acquire(timeout=_ACQUIRE_S)
    except TimeoutError as exc:
        raise RequestError("read.busy", readers=services.settings.store.readers) from exc
    try:
        yield connection
    finally:
        await services.readers.release(connection)


@asynccontextmanager
async def _while_somebody_waits(request: web.Request) -> AsyncIterator[None]:
    """Cancel the block when the connection that asked is gone; asyncpg then tells the server to stop."""
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        # aiohttp says nothing when a client leaves.
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        task.cancel()

    watcher = asyncio.create_task(watch(), name="api reader watch")
    try:
        yield
    finally:
        watcher.cancel()
