"""Numbered SQL migrations, forward only; two cores that start at once migrate once."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Final

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo

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
        await pogo.apply(target, folder, schema_name="public", logger=_LOG)
    except BadMigrationError as exc:
        raise StartError("store.migration_failed", detail=f"{exc}: {exc.__cause__}") from exc
    finally:
        await target.execute("SELECT pg_advisory_unlock($1)", _LOCK)
