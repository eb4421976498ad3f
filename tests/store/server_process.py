"""A core reduced to its embedded database, as a process of its own: `python -m tests.store.server_process STATE`.

Prints the server's pid when it is ready and ends in order when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg
import structlog

from iot_core.errors import IotError
from iot_core.state import locked
from iot_core.store.server import embedded


async def main(path: Path) -> None:
    """Run until standard input ends."""
    with locked(path) as state:
        async with embedded(state) as dsn:
            connection = await asyncpg.connect(dsn)
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
            await connection.execute("INSERT INTO kept VALUES (1)")
            rows = await connection.fetchval("SELECT count(*) FROM kept")
            await connection.close()
            pid = (state.postgres / "data" / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0]
            sys.stdout.write(f"{pid} {rows}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except IotError as error:
        sys.exit(error.code)
