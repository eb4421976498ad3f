"""The pool of database connections, and which database errors mean what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import StartError
from iot_core.settings import Store

OLDEST_SERVER: Final = 140000  # multiranges (iot.seq_range) came with PostgreSQL 14
_CONNECT_TIMEOUT_S: Final = 10.0

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection cut in mid-operation: "another operation is in progress"
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # admin shutdown, cannot connect now, statement timeout
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.ReadOnlySQLTransactionError,
)
"""The store does not answer: wait and try the same again."""

LATE: Final = (TimeoutError, asyncpg.QueryCanceledError)
"""Of those: not in time. The store is away, or what it was asked is too much for one statement."""

RETRY: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
"""Two workers met: the same transaction can succeed when it is tried again."""


_JSONB_VERSION: Final = b"\x01"


def _encode(value: Any) -> bytes:
    return _JSONB_VERSION + msgspec.json.encode(value)


def _decode(data: bytes) -> Any:
    return msgspec.json.decode(memoryview(data)[1:])


async def prepare(connection: asyncpg.Connection) -> None:
    """Make jsonb columns take and give plain Python objects."""
    # Binary, because COPY is: the format is a version byte and the text.
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary")


class _Connect:
    """Connects for the pool. A server that took us at the start and refuses us later is away, whatever it says.

    Else a database that is closed for an hour, or whose password was changed, would look like refused data.
    """

    def __init__(self) -> None:
        self.taken = False

    async def __call__(self, *args: Any, **options: Any) -> asyncpg.Connection:
        try:
            connection: asyncpg.Connection = await asyncpg.connect(*args, **options)
        except asyncpg.PostgresError as exc:
            if not self.taken:
                raise
            raise ConnectionRefusedError(str(exc)) from exc
        return connection


@asynccontextmanager
async def open_pool(dsn: str, settings: Store) -> AsyncIterator[asyncpg.Pool]:
    """Open the pool. Raises StartError when the database refuses us, is not there or is too old."""
    connect = _Connect()
    try:
        pool = await _create(
            dsn, "iot-core", connect=connect, min_size=1, max_size=settings.pool,
            command_timeout=settings.statement_timeout_s,
        )  # fmt: skip
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as exc:
        raise StartError("store.refused", detail=str(exc)) from exc
    except ValueError as exc:  # asyncpg's word for a DSN it cannot read; the text may hold the password
        raise StartError("store.bad_dsn") from exc
    except AWAY as exc:
        raise StartError("store.unreachable", detail=type(exc).__name__) from exc
    try:
        async with pool.acquire() as connection:
            version = await connection.fetchval("SELECT current_setting('server_version_num')::int")
            if version < OLDEST_SERVER:
                shown = await connection.fetchval("SHOW server_version")
                raise StartError("store.too_old", version=shown, oldest=OLDEST_SERVER // 10000)
        connect.taken = True
        yield pool
    finally:
        pool.terminate()


@asynccontextmanager
async def open_readers(dsn: str, settings: Store) -> AsyncIterator[asyncpg.Pool]:
    """Open the small pool of those who only read, each statement bounded by the server itself."""
    pool = await _create(
        dsn, "iot-core-read", min_size=0, max_size=settings.readers,
        server={"statement_timeout": f"{settings.read_timeout_s}s", "default_transaction_read_only": "on"},
    )  # fmt: skip
    try:
        yield pool
    finally:
        pool.terminate()


async def _create(dsn: str, name: str, *, server: dict[str, str] | None = None, **options: Any) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        dsn,
        init=prepare,
        timeout=_CONNECT_TIMEOUT_S,
        server_settings={"application_name": name, "timezone": "UTC", "jit": "off", **(server or {})},
        **options,
    )
