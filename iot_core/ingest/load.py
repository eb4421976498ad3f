"""Load telemetry from a file: rows as they were exported, merged like any other; no rules, no alarms, no numbers.

Doing it twice changes nothing, so a load that broke off is simply done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.ingest.check import AHEAD, CLOCK_SET, Checker
from iot_core.model import Observation, Quality, Sample
from iot_core.store import due, status
from iot_core.store.columns import ClassTable
from iot_core.store.connection import RETRY
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tier import Tier

_TRIES: Final = 5
_DEVICES: Final = "SELECT key, id, class_key FROM iot.device WHERE key = ANY($1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a file. What it does not say of `bad` is judged by the class's ranges, as for a message."""

    device: str
    time: datetime
    values: Mapping[str, object]
    received_at: datetime | None = None
    quality: Quality = Quality.GOOD
    bad: Sequence[str] | None = None
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """What of the row at `index` was not taken; the rest of it was, unless `whole`."""

    index: int
    code: str
    detail: str = ""
    whole: bool = True


class Loader:
    """Merges rows of files into the tables of all classes."""

    def __init__(self, tables: Mapping[str, ClassTable], tier: Tier) -> None:
        self._checkers: dict[str, Checker] = {}
        self._tables: dict[str, TelemetryTable] = {}
        self._bits: dict[str, dict[str, int]] = {}
        self._tier = tier
        self.add(tables)

    def add(self, tables: Mapping[str, ClassTable]) -> None:
        """Learn of the tables of classes that are new or changed. A file may hold what a class measures no more."""
        for key, table in ((key, table.whole) for key, table in tables.items()):
            self._checkers[key] = Checker(table, gone=True)
            self._tables[key] = TelemetryTable(table)
            self._bits[key] = {column.name: 1 << column.bit for column in table.columns}

    async def __call__(self, pool: asyncpg.Pool, rows: Mapping[int, Row], *, replace: bool) -> list[Refused]:
        """Merge rows in one transaction; `replace` lets them win over what is stored. Give what was not taken."""
        devices = {row["key"]: row for row in await pool.fetch(_DEVICES, list({each.device for each in rows.values()}))}
        refused: list[Refused] = []
        taken: list[tuple[int, Observation]] = []
        for index, row in rows.items():
            device = devices.get(row.device)
            made = self._observation(index, row, device, refused, replace=replace)
            if made is not None:
                taken.append((index, made))
        await self._make_room(pool, [each for _, each in taken])
        for attempt in range(1, _TRIES + 1):
            try:
                async with pool.acquire() as connection, connection.transaction():
                    conflicts = await self._merge(connection, taken)
                return sorted([*refused, *conflicts], key=lambda each: each.index)
            except RETRY:
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def _observation(
        self, index: int, row: Row, device: Any, refused: list[Refused], *, replace: bool
    ) -> Observation | None:
        if device is None:
            refused.append(Refused(index, "load.no_device", row.device))
            return None
        checker = self._checkers.get(device["class_key"])
        if checker is None:
            refused.append(Refused(index, "api.class_gone", device["class_key"]))
            return None
        now = datetime.now(UTC)
        if not CLOCK_SET <= row.time <= now + AHEAD:
            refused.append(Refused(index, "load.time", row.time.isoformat()))
            return None
        values, bad, problems = checker.values(Sample(row.values))
        if row.bad is not None:
            bits = self._bits[device["class_key"]]
            problems_of_bad = [key for key in row.bad if key not in bits]
            bad = sum(bits[key] for key in set(row.bad) if key in values)
            refused += [Refused(index, "held.unknown_metric", key, whole=False) for key in problems_of_bad]
        whole = not values and not row.extra
        refused += [Refused(index, f"held.{each.reason}", each.detail, whole=whole) for each in problems]
        if whole:
            if not problems:
                refused.append(Refused(index, "held.no_values"))
            return None
        return Observation(
            device_id=device["id"], unit_id=0, class_key=device["class_key"], time=row.time,
            received_at=row.received_at or now, values=values, quality=row.quality, bad=bad, correction=replace,
            extra=row.extra,
        )  # fmt: skip

    async def _make_room(self, pool: asyncpg.Pool, taken: Iterable[Observation]) -> None:
        if self._tier is Tier.PLAIN:
            async with pool.acquire() as connection:
                for class_key, week in sorted({(each.class_key, week_of(each.time)) for each in taken}):
                    await ensure_partitions(connection, class_key, [week])

    async def _merge(self, connection: asyncpg.Connection, taken: Sequence[tuple[int, Observation]]) -> list[Refused]:
        conflicts: list[Refused] = []
        for turn in _turns(taken):
            for class_key, table in self._tables.items():
                mine = {(each.device_id, each.time): index for index, each in turn if each.class_key == class_key}
                if not mine:
                    continue
                for found in await table.merge(connection, [each for _, each in turn if each.class_key == class_key]):
                    index = mine[found.device_id, found.time]
                    conflicts.append(Refused(index, "held.conflict", ", ".join(found.metrics), whole=False))
                await due.note(connection, list(due.notes(class_key, list(mine))))
        await status.mark_loaded(connection, self._said(each for _, each in taken))
        return conflicts

    def _said(self, taken: Iterable[Observation]) -> dict[int, tuple[datetime, int]]:
        said: dict[int, tuple[datetime, int]] = {}
        for each in taken:
            bits = sum(self._bits[each.class_key][key] for key in each.values)
            newest, before = said.get(each.device_id, (each.time, 0))
            said[each.device_id] = (max(newest, each.time), before | bits)
        return said


def _turns(taken: Sequence[tuple[int, Observation]]) -> list[list[tuple[int, Observation]]]:
    """Part rows so that no device and time stands twice in one merge; the order of a file is kept."""
    turns: list[list[tuple[int, Observation]]] = []
    seen: dict[tuple[int, datetime], int] = {}
    for index, each in taken:
        turn = seen[each.device_id, each.time] = seen.get((each.device_id, each.time), -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append((index, each))
    return turns
