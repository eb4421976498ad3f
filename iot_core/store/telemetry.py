"""Merge a batch of observations into a class's table: staged binary COPY, then as little SQL as the batch needs.

COPY -> stage -> INSERT .. ON CONFLICT DO NOTHING     all new: done (the common case)
              -> conflicts: filled metrics that say something else (the first stays, the caller holds the second)
              -> UPDATE: fill nulls, worse quality, new keys of extra; an unchanged row is not written
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

import asyncpg

from iot_core.model import Observation
from iot_core.store.columns import ClassTable
from iot_core.store.connection import copying
from iot_core.store.packing import Packer


@dataclass(frozen=True, slots=True)
class Conflict:
    """Metrics of one observation that the table already holds with another value."""

    device_id: int
    time: datetime
    metrics: tuple[str, ...]


class TelemetryTable:
    """One class's table, with its statements written once."""

    def __init__(self, table: ClassTable) -> None:
        self.table = table
        self._packer = Packer(table)
        names = [f'"{column.name}"' for column in table.columns]
        # A connection keeps its stage; with other columns the class has another one.
        self._stage_name = f"stage_{table.name}_{crc32(' '.join(names).encode()):08x}"
        stage = f'pg_temp."{self._stage_name}"'
        target = f'telemetry."{table.name}"'
        copied = ", ".join(f'"{name}"' for name in self._packer.copied)
        same = "t.device_id = s.device_id AND t.time = s.time AND t.time BETWEEN $1 AND $2"
        self._create_stage = (
            f'CREATE TEMP TABLE IF NOT EXISTS "{self._stage_name}" (LIKE {target}) ON COMMIT DELETE ROWS'
        )
        self._empty_stage = f"TRUNCATE {stage}"
        self._insert = (
            f"INSERT INTO {target} ({copied}) SELECT {copied} FROM {stage} ON CONFLICT (device_id, time) DO NOTHING"
        )
        differs = " OR ".join(f"t.{name} <> s.{name}" for name in names)
        which = ", ".join(f"CASE WHEN t.{name} <> s.{name} THEN '{name[1:-1]}' END" for name in names)
        self._conflicts = (
            f"SELECT s.device_id, s.time, array_remove(ARRAY[{which}], NULL) AS metrics"
            f" FROM {stage} s JOIN {target} t ON {same} WHERE {differs}"
        )
        self._fill = _fill(table, stage, target, same, correction=False)
        self._correct = _fill(table, stage, target, same, correction=True)

    async def merge(self, connection: asyncpg.Connection, observations: Sequence[Observation]) -> list[Conflict]:
        """Merge observations, at most one for each device and time, inside the caller's transaction."""
        plain = [each for each in observations if not each.correction]
        corrections = [each for each in observations if each.correction]
        await connection.execute(self._create_stage)
        conflicts = await self._merge_plain(connection, plain) if plain else []
        if corrections:
            await connection.execute(self._empty_stage)
            inserted = await self._stage_and_insert(connection, corrections)
            if inserted < len(corrections):
                await connection.execute(self._correct, *_span(corrections))
        return conflicts

    async def _merge_plain(self, connection: asyncpg.Connection, observations: Sequence[Observation]) -> list[Conflict]:
        if await self._stage_and_insert(connection, observations) == len(observations):
            return []
        span = _span(observations)
        rows = await connection.fetch(self._conflicts, *span)
        await connection.execute(self._fill, *span)
        await connection.execute(self._empty_stage)  # what conflicts here is not the next merge's of this transaction
        return [Conflict(row["device_id"], row["time"], tuple(row["metrics"])) for row in rows]

    async def _stage_and_insert(self, connection: asyncpg.Connection, observations: Sequence[Observation]) -> int:
        async with copying(connection):
            await connection.copy_to_table(
                self._stage_name,
                source=io.BytesIO(self._packer.pack(observations)),
                columns=self._packer.copied,
                format="binary",
            )
        return int((await connection.execute(self._insert)).rpartition(" ")[2])


def _span(observations: Sequence[Observation]) -> tuple[datetime, datetime]:
    """Bound the times of a batch, so that the planner looks at its chunks only."""
    times = [each.time for each in observations]
    return min(times), max(times)


def _fill(table: ClassTable, stage: str, target: str, same: str, *, correction: bool) -> str:
    """Write the UPDATE that merges staged rows into existing ones; a correction replaces what it says."""
    sets, changed, taken = [], [], []
    for column in table.columns:
        name = f'"{column.name}"'
        bit = 1 << column.bit
        first, second = ("s", "t") if correction else ("t", "s")
        sets.append(f"{name} = COALESCE({first}.{name}, {second}.{name})")
        if correction:
            changed.append(f"(s.{name} IS NOT NULL AND s.{name} IS DISTINCT FROM t.{name})")
            taken.append(f"CASE WHEN s.{name} IS NULL THEN 0 ELSE {bit} END")
        else:
            changed.append(f"(t.{name} IS NULL AND s.{name} IS NOT NULL)")
            taken.append(f"CASE WHEN t.{name} IS NULL AND s.{name} IS NOT NULL THEN {bit} ELSE 0 END")
    # The bits of metrics that take the staged value follow it. Written twice, not once a metric within the other:
    # a nested CASE doubles with each metric, and a class may have 63.
    bits = f"({' | '.join(taken)})::bigint"
    mask = f"(t.bad & ~{bits}) | (s.bad & {bits})"
    empty = "'{}'::jsonb"
    extra = f"COALESCE(t.extra, {empty}) || s.extra" if correction else f"s.extra || COALESCE(t.extra, {empty})"
    quality = "s.quality" if correction else "GREATEST(t.quality, s.quality)"
    sets += [
        f"bad = {mask}",
        f"quality = {quality}",
        f"extra = CASE WHEN s.extra IS NULL THEN t.extra ELSE {extra} END",
    ]
    changed += [
        "s.quality <> t.quality" if correction else "s.quality > t.quality",
        f"(s.extra IS NOT NULL AND {extra} IS DISTINCT FROM t.extra)",
    ]
    return f"UPDATE {target} t SET {', '.join(sets)} FROM {stage} s WHERE {same} AND ({' OR '.join(changed)})"
