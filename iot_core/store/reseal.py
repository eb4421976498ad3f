"""`iot key rotate`: a new master key, every sealed secret sealed anew, the old key forgotten; cut off, it goes on.

file: k1      -> k1, k2 (k2 seals)  -> rows, some at a time: k1 -> k2  -> file: k2
killed here:     next run goes on with k2, and makes no k3 -------------^
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import asyncpg

from iot_core.store.vault import Vault

__all__ = ["SEALED", "Column", "reseal", "rotate"]

_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Column:
    """A column of sealed secrets; `about` is SQL that names a row for ever, `write` the assignment of `$2` to it."""

    table: str
    name: str
    about: str
    binary: bool
    write: str = ""


# By the device's key, not the unit's number: an exchanged unit takes the login over.
_CREDENTIAL: Final = """
'credential/' || (SELECT d.key FROM iot.unit u JOIN iot.device d ON d.id = u.device_id WHERE u.id = credential.unit_id)
    || '/' || kind
"""
_TARGET: Final = "'push_target/' || key"
SEALED: Final = (
    Column("iot.credential", "secret", _CREDENTIAL, binary=True),
    Column("iot.push_target", "secret", _TARGET, binary=False),
    Column("iot.push_target", "old_secret", _TARGET, binary=False),
    Column(
        "iot.push_target",
        "(options->>'key')",
        _TARGET,
        binary=False,
        write="options = jsonb_set(options, '{key}', to_jsonb($2::text))",
    ),
    Column("iot.center", "secret", "'center/' || key", binary=False),
    Column("iot.answer", "body", "'answer/' || asker || '/' || key", binary=True),
)


async def rotate(connection: asyncpg.Connection, vault: Vault) -> AsyncIterator[int]:
    """Rotate the master key; give the number of secrets that were sealed anew, as it grows.

    A core that runs goes on: it reads the file again when it changes, and opens what either key sealed.
    """
    if len(vault.keys.keys) == 1:
        vault.add_key()
    total = 0
    async for done in reseal(connection, vault):
        total += done
        yield total
    async with connection.transaction():
        # Whoever sealed with the old key before it was replaced has committed by now, or waits behind this lock and
        # is found by the look before the old key goes.
        tables = ", ".join(sorted({column.table for column in SEALED}))
        await connection.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")
        async for done in reseal(connection, vault):
            total += done
        vault.drop_others()
    yield total


async def reseal(connection: asyncpg.Connection, vault: Vault) -> AsyncIterator[int]:
    """Seal everything with the current key that is not, in transactions of some rows; give how many each sealed."""
    for column in SEALED:
        while done := await _some(connection, vault, column):
            yield done


async def _some(connection: asyncpg.Connection, vault: Vault, column: Column) -> int:
    begin = f"sealed:1:{vault.current}:".encode()
    prefix = begin if column.binary else begin.decode()
    async with connection.transaction():
        rows = await connection.fetch(
            f"SELECT ctid, {column.about} AS about, {column.name} AS kept FROM {column.table}"
            f" WHERE length({column.name}) > 0 AND substring({column.name} FROM 1 FOR $1) <> $2"
            f" LIMIT {_AT_ONCE} FOR UPDATE",
            len(begin),
            prefix,
        )
        for row in rows:
            kept: bytes = row["kept"] if column.binary else row["kept"].encode()
            sealed = vault.seal(vault.open(kept, row["about"]), row["about"])
            await connection.execute(
                f"UPDATE {column.table} SET {column.write or f'{column.name} = $2'} WHERE ctid = $1",
                row["ctid"],
                sealed if column.binary else sealed.decode(),
            )
    return len(rows)
