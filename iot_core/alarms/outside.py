"""Alarms of another center, taken into the same life cycle: a center and its own alarm id are the source.

    POST, signed -> center -> not seen yet? -> source row -> rule state, alarm, events, outbox: one transaction

Idempotent twice: a message id counts once, and an event older than the last one of its alarm changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import AlarmRow, EventKind
from iot_core.alarms.case import Case, Happening, Occasion
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.rules import Change, Phase, State, Transition
from iot_core.model import AlarmRule, Comparison, Severity, Title
from iot_core.registry.centers import Center

__all__ = ["RULE", "Outside", "Taken", "take"]

RULE: Final = "outside.alarm"
CORE: Final = "SELECT value FROM iot.fixed_setting WHERE key = 'core_id'"
FIRST: Final = """
INSERT INTO iot.center_message (center_id, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
SOURCE: Final = """
INSERT INTO iot.outside_source (center_id, ref, via, area_id, class_key, name, latitude, longitude)
VALUES ($1, $2, $3, coalesce((SELECT id FROM iot.area WHERE key = $4), $5), $6, $7, $8, $9)
ON CONFLICT (center_id, ref) DO UPDATE SET via = excluded.via, area_id = excluded.area_id,
    class_key = excluded.class_key, name = excluded.name, latitude = excluded.latitude, longitude = excluded.longitude
RETURNING id
"""
CHANGE: Final = "UPDATE iot.alarm SET severity = $2, title_vi = $3, title_en = $4 WHERE id = $1"
OF_SOURCE: Final = """
SELECT id FROM iot.alarm WHERE source_kind = 'outside' AND source_id = $1 ORDER BY id DESC LIMIT 1
"""


class Kind(StrEnum):
    """What another center can say of its alarm."""

    RAISED = "alarm.raised"
    UPDATED = "alarm.updated"
    CLEARED = "alarm.cleared"
    ACKNOWLEDGED = "alarm.acknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """One message, understood. `ref` is the alarm's id there; `via` the cores that it came through, the first first."""

    message_id: str
    kind: Kind
    at: datetime
    ref: str
    severity: Severity
    title: Title
    metric: str | None = None
    value: float | None = None
    exercise: bool = False
    by: str | None = None
    area: str | None = None
    class_key: str | None = None
    name: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    via: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a message: the alarm here, and why nothing was changed (`repeat`, `older`, `loop`), if so."""

    alarm_id: int | None
    ignored: str | None = None


async def take(connection: asyncpg.Connection, center: Center, said: Outside) -> Taken:
    """Take one message in one transaction."""
    async with connection.transaction():
        core: str = await connection.fetchval(CORE)
        if core in said.via:
            return Taken(None, "loop")
        source: int = await connection.fetchval(
            SOURCE, center.id, said.ref, list(said.via), said.area, center.area_id, said.class_key, said.name,
            said.latitude, said.longitude,
        )  # fmt: skip
        key = ("outside", source, RULE)
        case = (await lock(connection, [key], [key]))[key]
        if await connection.fetchval(FIRST, center.id, said.message_id) is None:
            return Taken(await connection.fetchval(OF_SOURCE, source), "repeat")
        if said.at < case.state.last_time:
            return Taken(await connection.fetchval(OF_SOURCE, source), "older")
        _STEPS[said.kind](case, center, said)
        if case.open is not None and case.open.row.id and said.kind in (Kind.RAISED, Kind.UPDATED):
            await connection.execute(CHANGE, case.open.row.id, said.severity, said.title.vi, said.title.en)
        await save(connection, [case])
        return Taken(await connection.fetchval(OF_SOURCE, source))


def _raise(case: Case, center: Center, said: Outside) -> None:
    if case.open is not None and case.state.phase is Phase.ACTIVE:
        _update(case, center, said)
        return
    rule = AlarmRule(
        key=RULE, title=said.title, severity=said.severity, comparison=Comparison.EQUALS, metric=said.metric
    )
    state = State(phase=Phase.ACTIVE, since=said.at, last_time=said.at)
    case.move(rule, state, (Transition(Change.RAISED, said.at, said.value or 0.0),), _occasion(said))


def _update(case: Case, center: Center, said: Outside) -> None:
    if case.open is None:
        _raise(case, center, said)
        return
    row = replace(
        case.open.row, severity=said.severity, title=said.title, metric=said.metric, value=said.value,
        version=case.open.row.version + 1,
    )  # fmt: skip
    _note(case, row_change=row, at=said.at, by=center.key, note=said.title.en, push=Kind.UPDATED)


def _clear(case: Case, _: Center, said: Outside) -> None:
    state = State(phase=Phase.NORMAL, since=said.at, last_time=said.at)
    case.move(None, state, (Transition(Change.RETURNED, said.at, said.value),), _occasion(said))


def _acknowledged(case: Case, center: Center, said: Outside) -> None:
    """Who took it there has not taken it here: it is noted, and the alarm stays as it is."""
    if case.open is not None:
        _note(case, row_change=case.open.row, at=said.at, by=center.key, note=f"acknowledged there: {said.by or '-'}")


def _note(case: Case, *, row_change: AlarmRow, at: datetime, by: str, note: str, push: str | None = None) -> None:
    slot = case.open
    assert slot is not None
    slot.row, slot.changed = row_change, True
    case.state = replace(case.state, last_time=max(at, case.state.last_time))
    case.dirty = True
    case.happenings.append(Happening(slot, EventKind.COMMENTED, at, slot.row, by=by, note=note, push=push))


def _occasion(said: Outside) -> Occasion:
    now = datetime.now(UTC)
    return Occasion(received_at=now, now=now, metric=said.metric, value=said.value, simulated=said.exercise)


_STEPS: Final[Mapping[Kind, Callable[[Case, Center, Outside], None]]] = {
    Kind.RAISED: _raise, Kind.UPDATED: _update, Kind.CLEARED: _clear, Kind.ACKNOWLEDGED: _acknowledged,
}  # fmt: skip
