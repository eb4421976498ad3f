"""Polls that wait on disk while the store is away: a queue in SQLite, bounded, the oldest dropped first."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

SCHEMA = """
CREATE TABLE IF NOT EXISTS poll (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    received_at TEXT NOT NULL,
    registers TEXT NOT NULL
)
"""
DROP_OLDEST = "DELETE FROM poll WHERE id <= (SELECT max(id) FROM poll) - ?"


class Poll(NamedTuple):
    """One unit's registers at one time."""

    address: str
    received_at: datetime
    registers: dict[str, list[int]]


class Spool:
    """A queue that survives the process (WAL; every change is in the file before its call returns).

    Its methods block: call them through `asyncio.to_thread`. Any number of threads may.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._file = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def __len__(self) -> int:
        with self._lock:
            return int(self._file.execute("SELECT count(*) FROM poll").fetchone()[0])

    def add(self, poll: Poll) -> int:
        """Append a poll, and say how many old ones had to go for it."""
        registers = msgspec.json.encode(poll.registers).decode()
        with self._lock, self._file:
            self._file.execute(
                "INSERT INTO poll (address, received_at, registers) VALUES (?, ?, ?)",
                (poll.address, poll.received_at.isoformat(), registers),
            )
            return self._file.execute(DROP_OLDEST, (self._rows,)).rowcount

    def oldest(self, most: int) -> list[tuple[int, Poll]]:
        """Give the oldest polls with their numbers, in order; they stay until removed."""
        with self._lock:
            rows = self._file.execute(
                "SELECT id, address, received_at, registers FROM poll ORDER BY id LIMIT ?", (most,)
            ).fetchall()
        return [
            (number, Poll(address, datetime.fromisoformat(received_at), msgspec.json.decode(registers)))
            for number, address, received_at, registers in rows
        ]

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove what the store has."""
        with self._lock, self._file:
            self._file.executemany("DELETE FROM poll WHERE id = ?", [(number,) for number in numbers])


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file; one that is no database any more is set aside, not allowed to stop the polling."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):  # locked, read-only, disk full: the file itself is sound
            raise
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(path.with_name(path.name + suffix + ".broken"))
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
        file.execute(SCHEMA)
        file.commit()
    except BaseException:
        file.close()
        raise
    return file
