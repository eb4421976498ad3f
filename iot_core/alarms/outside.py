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

from iot_core.alarms.alarm import EventKind
from iot_core.alarms.case import Case, Happening, Occasion
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.origin import keep_message
from iot_core.alarms.rules import Change, Phase, State, Transition
from iot_core.model import AlarmRule, Comparison, Severity, Title
from iot_core.registry.centers import Center

__all__ = ["RULE", "Outside", "Taken", "take"]

RULE: Final = "outside.alarm"
_ORDER: Final = tuple(Severity)  # the most urgent first
CORE: Final = "SELECT value FROM iot.fixed_setting WHERE key = 'core_id'"
FIRST: Final = """
INSERT INTO iot.center_message (center_id, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
SOURCE: Final = """
INSERT INTO iot.outside_source (center_id, ref, via, area_id, class_key, name, latitude, longitude)
VALUES ($1, $2, $3, coalesce((SELECT id FROM iot.area WHERE key = $4), $5), $6, $7, $8, $9)
ON CONFLICT (center_id, ref) DO UPDATE SET ref = excluded.ref RETURNING id, version
"""
# What a message does not say stays as it was.
PLACE: Final = """
UPDATE iot.outside_source SET version = coalesce($2, version), via = $3,
    area_id = coalesce((SELECT id FROM iot.area WHERE key = $4), area_id), class_key = coalesce($5, class_key),
    name = coalesce($6, name), latitude = coalesce($7, latitude), longitude = coalesce($8, longitude)
WHERE id = $1
"""
CHANGE: Final = "UPDATE iot.alarm SET severity = $2, title_vi = $3, title_en = $4 WHERE id = $1"
OF_SOURCE: Final = """
SELECT id FROM iot.alarm WHERE source_kind = 'outside' AND source_id = $1 ORDER BY id DESC LIMIT 1
"""


class Kind(StrEnum):
    """What another center's message does to its alarm here."""

    RAISED = "raised"
    UPDATED = "updated"
    CLEARED = "cleared"
    NOTED = "noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """One message, understood. `ref` is the alarm's id there; `via` the cores that it came through, the first first.

    `version` counts the alarm's changes there and says more of their order than `at`, which is of several clocks.
    """

    message_id: str
    kind: Kind
    at: datetime
    ref: str
    severity: Severity
    title: Title
    metric: str | None = None
    value: float | None = None
    exercise: bool = False
    note: str | None = None
    version: int | None = None
    area: str | None = None
    class_key: str | None = None
    name: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    via: Sequence[str] = field(default=())
    runbook: Title | None = None
    body: bytes = b""
    """The message as it came, where there is one."""


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
        found = await connection.fetchrow(
            SOURCE, center.id, said.ref, list(said.via), said.area, center.area_id, said.class_key, said.name,
            said.latitude, said.longitude,
        )  # fmt: skip
        source: int = found["id"]
        key = ("outside", source, RULE)
        case = (await lock(connection, [key], [key]))[key]
        if await connection.fetchval(FIRST, center.id, said.message_id) is None:
            return Taken(await connection.fetchval(OF_SOURCE, source), "repeat")
        if _is_older(said, case, found["version"]):
            return Taken(await connection.fetchval(OF_SOURCE, source), "older")
        await connection.execute(
            PLACE, source, said.version, list(said.via), said.area, said.class_key, said.name, said.latitude,
            said.longitude,
        )  # fmt: skip
        _STEPS[said.kind](case, center, said)
        if case.open is not None and case.open.row.id and said.kind in (Kind.RAISED, Kind.UPDATED):
            await connection.execute(CHANGE, case.open.row.id, said.severity, said.title.vi, said.title.en)
        for raised in [each for each in await save(connection, [case]) if each.kind is EventKind.RAISED and said.body]:
            await keep_message(
                connection, raised.slot.row, center=center.key, message_id=said.message_id, body=said.body
            )
        return Taken(await connection.fetchval(OF_SOURCE, source))


def _is_older(said: Outside, case: Case, version: int | None) -> bool:
    if said.version is not None and version is not None:
        return said.version < version
    return said.at < case.state.last_time


def _raise(case: Case, center: Center, said: Outside) -> None:
    if case.open is not None and case.state.phase is Phase.ACTIVE:
        _update(case, center, said)
        return
    if case.open is not None:  # it is over and nobody took it; what rings anew is as urgent as it is now
        case.open.row = replace(case.open.row, severity=said.severity, title=said.title)
    rule = AlarmRule(
        key=RULE, title=said.title, severity=said.severity, comparison=Comparison.EQUALS, metric=said.metric,
        runbook=said.runbook,
    )  # fmt: skip
    state = State(phase=Phase.ACTIVE, since=said.at, last_time=said.at)
    case.move(rule, state, (Transition(Change.RAISED, said.at, said.value or 0.0),), _occasion(said))


def _update(case: Case, center: Center, said: Outside) -> None:
    if case.open is None:
        _raise(case, center, said)
        return
    before = case.open.row
    row = replace(
        before, severity=said.severity, title=said.title, metric=said.metric, value=said.value,
        version=before.version + 1,
    )  # fmt: skip
    case.state = replace(case.state, last_time=max(said.at, case.state.last_time))
    if _ORDER.index(said.severity) < _ORDER.index(before.severity):  # as an own alarm that rises: its chains begin
        rise = Happening(case.open, EventKind.SEVERITY, said.at, row, by=center.key, note=said.severity.value)
        _note(case, replace(rise, push="alarm.severity"))
    else:
        note = Happening(case.open, EventKind.COMMENTED, said.at, row, by=center.key, note=said.title.en)
        _note(case, replace(note, push="alarm.updated"))


def _clear(case: Case, _: Center, said: Outside) -> None:
    state = State(phase=Phase.NORMAL, since=said.at, last_time=said.at)
    case.move(None, state, (Transition(Change.RETURNED, said.at, said.value),), _occasion(said))


def _noted(case: Case, center: Center, said: Outside) -> None:
    """Note what people did there, which changes nothing: who took it there has not taken it here."""
    if case.open is not None:
        _note(case, Happening(case.open, EventKind.COMMENTED, said.at, case.open.row, by=center.key, note=said.note))


def _note(case: Case, happening: Happening) -> None:
    slot = happening.slot
    slot.row, slot.changed = happening.as_of, True
    case.dirty = True
    quiet = slot.row.suppressed_by is not None or slot.row.shelved_until is not None
    case.happenings.append(replace(happening, push=None) if quiet else happening)


def _occasion(said: Outside) -> Occasion:
    now = datetime.now(UTC)
    return Occasion(received_at=now, now=now, metric=said.metric, value=said.value, simulated=said.exercise)


_STEPS: Final[Mapping[Kind, Callable[[Case, Center, Outside], None]]] = {
    Kind.RAISED: _raise, Kind.UPDATED: _update, Kind.CLEARED: _clear, Kind.NOTED: _noted,
}  # fmt: skip
