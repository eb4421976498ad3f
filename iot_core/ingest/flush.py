"""One transaction for a batch of work: merge, rules, telemetry, status, ranges, held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from iot_core.ingest.check import merge_values
from iot_core.ingest.prepare import Work
from iot_core.model import Observation, Problem, Reason, Uplink
from iot_core.store import due, held, status
from iot_core.store.columns import ClassTable
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.telemetry import Conflict, TelemetryTable
from iot_core.store.tier import Tier

Heard = dict[int, tuple[datetime, datetime | None, int]]
"""Device id -> (newest arrival, newest measured time or None, bits of the metrics it said)."""


_LATE: Final = 500
_MOST_LEARNT: Final = 10_000
"""A sender may say its metrics in another order every time."""
_DECOMPRESS: Final = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
"""TimescaleDB refuses a transaction that touches many compressed rows; ours are few and wanted."""


class Rules(Protocol):
    """What ingest asks of the alarm rules (alarms.evaluate.Evaluator)."""

    async def evaluate(
        self, connection: asyncpg.Connection, observations: Sequence[Observation], *, now: datetime
    ) -> Any:
        """Write what these observations change, inside the flush's transaction and before they are merged."""

    async def keep_uplinks(
        self, connection: asyncpg.Connection, pending: Any, uplinks: Callable[[], Any], now: datetime
    ) -> None:
        """Keep with the alarms that were raised the uplinks that raised them."""

    def committed(self, pending: Any) -> None:
        """Take the changes into memory, after COMMIT."""


Moment = tuple[int, datetime]
"""Device id, measured time."""


@dataclass(slots=True)
class _Turn:
    """One observation for each moment, and who said it first."""

    merged: dict[Moment, Observation] = field(default_factory=dict)
    said_by: dict[Moment, Work] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    """A batch while it is merged.

    Where a moment turns from plain to correction or back, a new turn begins for it, and turns are merged into the
    table one after the other: else a plain value beside a correction would replace what is stored, unseen.
    """

    turns: list[_Turn] = field(default_factory=lambda: [_Turn()])
    turn_of: dict[Moment, int] = field(default_factory=dict)
    """Moments that are past the first turn."""
    held: list[held.Held] = field(default_factory=list)
    conflicts: list[tuple[Work, Problem]] = field(default_factory=list)
    disputed: list[Observation] = field(default_factory=list)
    """What was said second of a life-safety device: not stored, but rules must hear it."""

    def conflict(self, work: Work, each: Observation, values: Mapping[str, object]) -> None:
        """Hold values that say something else than what came first."""
        problem = Problem(Reason.CONFLICT, each.time.isoformat(), dict(values), each.device_id)
        self.conflicts.append((work, problem))
        self.held.append(_held(work, problem))


class Flush:
    """Writes batches. Stateless but for which partitions and devices it has seen."""

    def __init__(
        self,
        tables: Mapping[str, ClassTable],
        tier: Tier,
        rules: Rules,
        compressed_after: Mapping[str, timedelta] | None = None,
    ) -> None:
        self._telemetry: dict[str, TelemetryTable] = {}
        self._bits: dict[str, dict[str, int]] = {}
        self._life_safety: set[str] = set()
        self._tier = tier
        self._rules = rules
        self._compressed_after = {} if compressed_after is None else compressed_after
        self._weeks: set[tuple[str, datetime]] = set()
        self._active: set[int] = set()
        self._said: dict[str, dict[tuple[str, ...], int]] = {}
        self.add(tables)

    def add(self, tables: Mapping[str, ClassTable]) -> None:
        """Learn of the tables of classes that are new or changed."""
        for key, table in tables.items():
            self._telemetry[key] = TelemetryTable(table)
            self._bits[key] = {column.name: 1 << column.bit for column in table.columns}
            self._said[key] = {}
            if table.device_class.life_safety:
                self._life_safety.add(key)
            else:
                self._life_safety.discard(key)

    async def __call__(self, connection: asyncpg.Connection, works: Sequence[Work], *, now: datetime) -> None:
        """Write a batch in one transaction. Raises whatever the database says; nothing is written then."""
        await self._ensure_weeks(connection, works)
        heard = self._heard(works)
        async with connection.transaction():
            if self._is_late(works[0], now):
                await connection.execute(_DECOMPRESS)
            batch = self._merge(works, await _redelivered(connection, works))
            pending = await self._write(connection, batch, now)
            await self._rules.keep_uplinks(connection, pending, lambda: _uplinks(works), now)
            await self._write_status(connection, works, heard)
        self._rules.committed(pending)
        for work, problem in batch.conflicts:
            work.problems.append(problem)
        self._active.update(_spoke(heard))

    def parts(self, works: Sequence[Work], *, now: datetime) -> list[Sequence[Work]]:
        """Divide a batch: what may lie in compressed chunks flushes apart, and a few hundred uplinks at a time."""
        if not self._compressed_after:
            return [works]
        late = [work for work in works if self._is_late(work, now)]
        if not late:
            return [works]
        on_time = [work for work in works if not self._is_late(work, now)]
        return [*([on_time] if on_time else []), *(late[at : at + _LATE] for at in range(0, len(late), _LATE))]

    def _is_late(self, work: Work, now: datetime) -> bool:
        after = self._compressed_after
        return bool(after) and any(now - each.time > after[each.class_key] for each in work.observations)

    async def hold_whole(self, connection: asyncpg.Connection, work: Work, detail: str, *, bare: bool = False) -> None:
        """Keep an uplink that the database refuses, whole and by itself; `bare`: as bytes that nobody looks into."""
        problem = Problem(Reason.REFUSED, detail)
        async with connection.transaction():
            await held.keep(connection, [_bare(work, problem) if bare else _held(work, problem)])
            if not bare and (numbers := _numbers([work])):
                await status.add_seqs(connection, numbers)
        if bare:
            work.numbers.clear()  # what is not on record is in no receipt
        work.observations.clear()
        work.problems = [problem]

    async def _ensure_weeks(self, connection: asyncpg.Connection, works: Sequence[Work]) -> None:
        if self._tier is not Tier.PLAIN:
            return
        days = {(each.class_key, each.time.date()) for work in works for each in work.observations}
        needed = {(class_key, week_of(datetime.combine(day, time(), UTC))) for class_key, day in days}
        # A replay may be of any age: a week that was here once may have been dropped since.
        known: set[tuple[str, datetime]] = set() if any(work.replay for work in works) else self._weeks
        for class_key, week in sorted(needed - known):
            await ensure_partitions(connection, class_key, [week])
            self._weeks.add((class_key, week))

    async def _write(self, connection: asyncpg.Connection, batch: _Batch, now: datetime) -> Any:
        said = [each for turn in batch.turns for each in turn.merged.values()]
        pending = await self._rules.evaluate(connection, [*said, *batch.disputed], now=now)
        notes: list[due.Note] = []
        for turn in batch.turns:
            by_class: dict[str, list[Observation]] = {}
            for each in turn.merged.values():
                by_class.setdefault(each.class_key, []).append(each)
            for class_key, mine in sorted(by_class.items()):
                self._hold_conflicts(batch, turn, await self._telemetry[class_key].merge(connection, mine))
                notes += due.notes(class_key, [(each.device_id, each.time) for each in mine])
        if notes:
            await due.note(connection, notes)
        if batch.held:
            await held.keep(connection, batch.held)
        return pending

    def _merge(self, works: Sequence[Work], redelivered: set[int]) -> _Batch:
        """Merge within the batch, on copies: a batch that is tried again must find its work as it was."""
        batch = _Batch()
        for work in works:
            for each in work.observations:
                if id(each) in redelivered:
                    continue
                key = (each.device_id, each.time)
                number = batch.turn_of.get(key, 0)
                turn = batch.turns[number]
                first = turn.merged.get(key)
                if first is not None and first.correction is not each.correction:
                    turn, first = _next_turn(batch, key, number + 1), None
                if first is None:
                    turn.merged[key] = each
                    turn.said_by[key] = work
                    continue
                merged = turn.merged[key] = msgspec.structs.replace(first, values=dict(first.values))
                if conflicts := merge_values(merged, each, self._bits[each.class_key]):
                    batch.conflict(work, each, conflicts)
                    if each.class_key in self._life_safety:
                        batch.disputed.append(msgspec.structs.replace(each, values=dict(conflicts)))
            batch.held += [_held(work, problem) for problem in work.problems]
        return batch

    def _hold_conflicts(self, batch: _Batch, turn: _Turn, conflicts: Sequence[Conflict]) -> None:
        for conflict in conflicts:
            key = (conflict.device_id, conflict.time)
            work, each = turn.said_by[key], turn.merged[key]
            batch.conflict(work, each, {metric: each.values[metric] for metric in conflict.metrics})

    async def _write_status(self, connection: asyncpg.Connection, works: Sequence[Work], heard: Heard) -> None:
        online = {
            work.unit.device_id: (work.online, work.uplink.received_at, work.uplink.retained)
            for work in works
            if work.online is not None and work.unit is not None
        }
        if heard:
            await status.mark_heard(connection, heard)
        if online:
            await status.mark_presence(connection, online)
        if fresh := _spoke(heard) - self._active:
            await status.mark_active(connection, sorted(fresh))
        if numbers := _numbers(works):
            await status.add_seqs(connection, numbers)

    def _heard(self, works: Sequence[Work]) -> Heard:
        """Note which devices live: anything but a retained message shows it, garbage included.

        Not so what is said as a unit whose credentials were taken back: that may be anybody.
        """
        heard: Heard = {}
        for work in works:
            uplink = work.uplink
            for each in work.observations:
                said = self._said[each.class_key].get(names := tuple(each.values))
                if said is None:
                    said = self._learn(each.class_key, names)
                _hear(heard, each.device_id, each.received_at, each.time, said)
            if work.observations or work.unit is None or uplink.kind != "telemetry" or uplink.retained:
                continue
            if not any(problem.reason is Reason.REVOKED for problem in work.problems):
                _hear(heard, work.unit.device_id, uplink.received_at, None, 0)
        return heard

    def _learn(self, class_key: str, names: tuple[str, ...]) -> int:
        bits, known = self._bits[class_key], self._said[class_key]
        if len(known) >= _MOST_LEARNT:
            known.clear()
        said = known[names] = sum(bits[name] for name in names)
        return said


def _uplinks(works: Sequence[Work]) -> dict[tuple[int, datetime], Uplink]:
    """Find the uplink of each device and arrival."""
    return {(each.device_id, each.received_at): work.uplink for work in works for each in work.observations}


def _next_turn(batch: _Batch, key: Moment, number: int) -> _Turn:
    batch.turn_of[key] = number
    if number == len(batch.turns):
        batch.turns.append(_Turn())
    return batch.turns[number]


def _hear(heard: Heard, device_id: int, received: datetime, time: datetime | None, said: int) -> None:
    before = heard.get(device_id)
    if before is not None:
        received_before, time_before, said_before = before
        received = max(received, received_before)
        if time is None or (time_before is not None and time_before > time):
            time = time_before
        said |= said_before
    heard[device_id] = (received, time, said)


def _spoke(heard: Heard) -> set[int]:
    """Name the devices that an observation is of."""
    return {device_id for device_id, (_, time, _) in heard.items() if time is not None}


async def _redelivered(connection: asyncpg.Connection, works: Sequence[Work]) -> set[int]:
    """Find observations (by identity) whose `seq` is on record and that have no time to tell by."""
    asked = [
        (each.unit_id, each.run, each.seq, each)
        for work in works
        if not work.replay
        for each in work.untimed
        if each.seq is not None
    ]
    if not asked:
        return set()
    seen = await status.seen_seqs(connection, [(unit, run, seq) for unit, run, seq, _ in asked])
    again: set[int] = set()
    for unit, run, seq, each in asked:
        if (unit, run, seq) in seen:
            again.add(id(each))
        seen.add((unit, run, seq))
    return again


def _numbers(works: Sequence[Work]) -> list[status.Seq]:
    return [number for work in works for number in work.numbers]


def _bare(work: Work, problem: Problem) -> held.Held:
    uplink = work.uplink
    said = uplink.payload or (b"" if uplink.registers is None else repr(uplink.registers).encode())
    plain = msgspec.structs.replace(uplink, payload=said, registers=None, content_format=None)
    return held.Held(plain, problem, once=work.once)


def _held(work: Work, problem: Problem) -> held.Held:
    unit = work.unit
    unit_id, device_id = (unit.unit_id, unit.device_id) if unit else (None, None)
    return held.Held(work.uplink, problem, unit_id, device_id, once=work.once)
