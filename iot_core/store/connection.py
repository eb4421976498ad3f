"""The pool of database connections, and which database errors mean what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.errors import StartError
from iot_core.settings import Store

log = structlog.get_logger()

OLDEST_SERVER: Final = 140000  # multiranges (iot.seq_range) came with PostgreSQL 14
_CONNECT_TIMEOUT_S: Final = 10.0
_RELEASE_S: Final = 2.0
_SILENCE_S: Final = 10.0
_ALIVE_WITHIN_S: Final = 5.0
_COPY_WITHIN_S: Final = 60.0
_LOST_AFTER: Final = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""The server ends our session a minute after our machine lost its power; its own word for that is two hours."""

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


_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ANY($1) AND usename = current_user AND application_name = current_setting('application_name')
"""

_JSONB_VERSION: Final = b"\x01"


def _encode(value: Any) -> bytes:
    return _JSONB_VERSION + msgspec.json.encode(value)


def _decode(data: bytes) -> Any:
    return msgspec.json.decode(memoryview(data)[1:])


async def prepare(connection: asyncpg.Connection) -> None:
    """Make jsonb columns take and give plain Python objects."""
    # Binary, because COPY is: the format is a version byte and the text.
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary")


class _Pool(asyncpg.Pool):  # type: ignore[misc] # asyncpg is untyped
    """A pool that takes a connection back even over a line that went silent."""

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as asyncpg's
        """Give a connection back. Raises nothing of the database: asyncpg drops one that cannot be used again."""
        try:
            await super().release(connection, timeout=timeout or _RELEASE_S)
        except AWAY as exc:
            log.debug("store.connection_dropped", reason=type(exc).__name__)


@asynccontextmanager
async def listening(pool: asyncpg.Pool, *channels: str) -> AsyncIterator[Notices]:
    """Hold a connection that hears every NOTIFY on these channels."""
    async with pool.acquire() as connection:
        notices = Notices(connection)
        try:
            connection.add_termination_listener(notices.wake)
            for channel in channels:
                await connection.add_listener(channel, notices.hear)
            yield notices
        finally:
            # Not UNLISTEN: on a line that went silent that would wait, and nobody needs this connection any more.
            with suppress(asyncpg.InterfaceError):  # it ended by itself
                connection.terminate()


class Notices:
    """What a listening connection hears. Several notifications may be told as one."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._woken = asyncio.Event()
        self._heard: set[tuple[str, str]] = set()

    def hear(self, _connection: object, _pid: int, channel: str, payload: str) -> None:
        """Note what was said."""
        self._heard.add((channel, payload))
        self._woken.set()

    def wake(self, *_: object) -> None:
        """Note that the connection is gone."""
        self._woken.set()

    async def next(self) -> set[tuple[str, str]]:
        """Wait for the next notifications, as (channel, payload). Raises one of AWAY when the connection is gone.

        A half-open one closes nothing and says nothing for ever, so in a silence it is asked whether it still lives.
        """
        while not await self._told():
            await self.connection.execute("SELECT", timeout=_ALIVE_WITHIN_S)
        self._woken.clear()
        if self.connection.is_closed():
            raise ConnectionResetError
        heard, self._heard = self._heard, set()
        return heard

    async def _told(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE_S):
                await self._woken.wait()
        return self._woken.is_set()


@asynccontextmanager
async def copying(connection: asyncpg.Connection, within_s: float | None = None) -> AsyncIterator[None]:
    """End a COPY whose connection is lost, or which takes longer than `within_s` (a batch's time), with one of AWAY.

    asyncpg 0.32 waits for room to write without a deadline, and nobody tells that wait that the connection is gone.
    """
    lost = False
    scope = asyncio.timeout(within_s or _COPY_WITHIN_S)

    def wake(_: object) -> None:
        nonlocal lost
        lost = True
        if not scope.expired():
            scope.reschedule(0)

    try:
        async with scope:
            connection.add_termination_listener(wake)
            try:
                yield
            finally:
                with suppress(asyncpg.InterfaceError):  # it is back in the pool already
                    connection.remove_termination_listener(wake)
    except Exception as exc:
        if lost:
            raise ConnectionResetError from exc
        raise


class outlasting:  # noqa: N801 - used like suppress
    """Go on after the block when the store was away in it (or said one of `errors`), unless we were cancelled."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = (*AWAY, *errors)

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None or not isinstance(error, self._errors):
            return False
        notice_cancellation()
        return True


async def wake_on(pool: asyncpg.Pool, channel: str, woken: asyncio.Event, *, again_s: float = 1.0) -> None:
    """Set `woken` with every NOTIFY on `channel`, and after each time in which nobody listened; until cancelled."""
    while True:
        with outlasting():
            async with listening(pool, channel) as notices:
                while True:
                    woken.set()
                    await notices.next()
        await asyncio.sleep(again_s)


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg is untyped
    """A connection that says which session of the server it leaves behind when it is given up."""

    give_up: Callable[[], None] | None = None

    def terminate(self) -> None:
        """Close at once, without a word to the server."""
        if self.give_up is not None:
            self.give_up()
        super().terminate()


class _Connect:
    """Connects for the pool. A server that took us at the start and refuses us later is away, whatever it says.

    Else a database that is closed for an hour, or whose password was changed, would look like refused data.
    """

    def __init__(self) -> None:
        self.taken = False
        self._given_up: set[int] = set()

    async def __call__(self, *args: Any, **options: Any) -> asyncpg.Connection:
        try:
            connection: asyncpg.Connection = await asyncpg.connect(*args, **options)
        except asyncpg.PostgresError as exc:
            if not self.taken:
                raise
            raise ConnectionRefusedError(str(exc)) from exc
        pid = connection.get_server_pid()
        self._given_up.discard(pid)
        connection.give_up = partial(self._given_up.add, pid)
        if self._given_up:
            await self._end_given_up(connection)
        return connection

    async def _end_given_up(self, connection: asyncpg.Connection) -> None:
        """End what we left behind on a line that went silent.

        The server has not heard that we are gone: a transaction left open there holds its locks, and the same batch
        would wait behind itself.
        """
        pids = list(self._given_up)
        try:
            await connection.execute(_END_SESSIONS, pids, timeout=_CONNECT_TIMEOUT_S)
        except BaseException:
            connection.terminate()
            raise
        self._given_up.difference_update(pids)


@asynccontextmanager
async def open_pool(dsn: str, settings: Store) -> AsyncIterator[asyncpg.Pool]:
    """Open the pool. Raises StartError when the database refuses us, is not there or is too old."""
    connect = _Connect()
    try:
        pool = await _create(
            dsn, "iot-core", connect=connect, min_size=1, max_size=settings.pool,
            command_timeout=settings.statement_timeout_s,
            server={"idle_in_transaction_session_timeout": f"{2 * settings.statement_timeout_s}s"},
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


SPANS_PLANNED: Final = {"plan_cache_mode": "force_custom_plan"}
"""A span is planned for its own times: from the sixth time on PostgreSQL would take one plan for all spans.

For hours of one device that plan costs 50 ms where its own costs 4, planning included.
"""


@asynccontextmanager
async def open_readers(dsn: str, settings: Store) -> AsyncIterator[asyncpg.Pool]:
    """Open the small pool of those who only read, each statement bounded by the server itself."""
    pool = await _create(
        dsn, "iot-core-read", min_size=0, max_size=settings.readers,
        command_timeout=settings.read_timeout_s + _ALIVE_WITHIN_S,  # the server's own says nothing on a silent line
        server={
            "statement_timeout": f"{settings.read_timeout_s}s",
            "default_transaction_read_only": "on",
            **SPANS_PLANNED,
        },
    )  # fmt: skip
    try:
        yield pool
    finally:
        pool.terminate()


async def _create(dsn: str, name: str, *, server: dict[str, str] | None = None, **options: Any) -> asyncpg.Pool:
    return await _Pool(
        dsn,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        loop=None,
        connection_class=_Connection,
        record_class=asyncpg.Record,
        init=prepare,
        timeout=_CONNECT_TIMEOUT_S,
        server_settings={"application_name": name, "timezone": "UTC", "jit": "off", **_LOST_AFTER, **(server or {})},
        **options,
    )


@asynccontextmanager
async def open_one(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Open one connection for a command; StartError when the database refuses us or is not there."""
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=_CONNECT_TIMEOUT_S,
            server_settings={"application_name": "iot", "timezone": "UTC", "jit": "off"},
        )
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as exc:
        raise StartError("store.refused", detail=str(exc)) from exc
    except ValueError as exc:
        raise StartError("store.bad_dsn") from exc
    except AWAY as exc:
        raise StartError("store.unreachable", detail=type(exc).__name__) from exc
    try:
        await prepare(connection)
        yield connection
    finally:
        connection.terminate()
