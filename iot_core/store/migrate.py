"""Numbered SQL migrations, forward only; two cores that start at once migrate once."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Final

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo
from pogo_core.util import sql

from iot_core.errors import StartError

_LOCK: Final = 0x696F742D6D6967  # "iot-mig": an advisory lock that nobody else takes by chance
_LOG = logging.getLogger("iot.migrate")
_LOG.setLevel(logging.ERROR)


async def migrate(target: str | asyncpg.Connection) -> None:
    """Bring a database up to date. Raises StartError when a migration fails; nothing of it remains then."""
    if isinstance(target, str):
        connection = await asyncpg.connect(target)
        try:
            await migrate(connection)
        finally:
            await connection.close()
        return
    folder = Path(str(resources.files("iot_core.store") / "migrations"))
    await target.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        if not await _is_up_to_date(target, folder):
            await pogo.apply(target, folder, schema_name="public", logger=_LOG)
    except BadMigrationError as exc:
        raise StartError("store.migration_failed", detail=f"{exc}: {exc.__cause__}") from exc
    finally:
        await target.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _is_up_to_date(connection: asyncpg.Connection, folder: Path) -> bool:
    """Say whether every migration ran. The library parses all files first: a quarter of a second at every start."""
    await sql.ensure_pogo_sync(connection)
    applied = await sql.get_applied_migrations(connection, schema_name="public")
    return {each.stem for each in folder.glob("*.sql")} <= applied  # noqa: ASYNC240 - as the library does
