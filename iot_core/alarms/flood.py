"""Floods: one incident a cause, with its alarms inside.

A cause is a rule in one part of the city: when more than LIMIT alarms of it ring within SPAN, an incident is raised, an
alarm of its own over the area; what follows joins it and is not pushed. A cause that reaches WIDE_PARTS parts and more
(the power of half a province, since there are no districts between it and its communes) is one incident of the area
around them when more than WIDE ring. Critical and latched alarms (fire) never join; one that becomes critical leaves.
What rings nobody (maintenance, a shelf, a test) is no part of a flood, and what is simulated none of a real one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import AlarmRow, EventKind
from iot_core.alarms.case import ENDS, Case, Happening, Key, Slot
from iot_core.alarms.ledger import insert, lock
from iot_core.alarms.rules import Phase, State
from iot_core.alarms.zones import HERE
from iot_core.messages import text
from iot_core.model import AlarmRule, Severity, Title

__all__ = ["LIMIT", "PREFIX", "SPAN", "WIDE", "WIDE_PARTS", "Floods", "Part", "flooded", "gather", "incident_key"]

LIMIT: Final = 20
"""Alarms of one cause that ring one by one. EEMUA 191 calls ten in ten minutes a flood for one operator."""
WIDE: Final = 100
WIDE_PARTS: Final = 5
SPAN: Final = timedelta(seconds=60)
PREFIX: Final = "incident."
_MOST: Final = 20_000

# The part of the city a device stands in: the widest area around it that is no province or city as a whole.
PARTS: Final = """
WITH RECURSIVE up AS (
    SELECT d.id AS device_id, a.id, a.parent_id, a.kind, 0 AS steps
    FROM iot.device d JOIN iot.area a ON a.id = d.area_id WHERE d.id = ANY($1)
    UNION ALL SELECT up.device_id, a.id, a.parent_id, a.kind, up.steps + 1
    FROM iot.area a JOIN up ON a.id = up.parent_id WHERE up.steps < 32
)
SELECT DISTINCT ON (device_id) device_id, id, parent_id FROM up
ORDER BY device_id, kind IN ('province', 'city', 'country'), steps DESC
"""
TITLES: Final = "SELECT id, name, COALESCE(name_en, name) AS name_en FROM iot.area WHERE id = ANY($1)"
# Those that rang before it was known to be a flood go inside, unless somebody has taken them.
ADOPT: Final = """
WITH adopted AS (
    UPDATE iot.alarm a SET incident_id = $1, version = version + 1
    WHERE a.closed_at IS NULL AND a.incident_id IS NULL AND a.rule = $2 AND a.raised_at >= $3
        AND a.acknowledged_at IS NULL AND NOT a.latched AND a.severity <> 'critical' AND a.device_id = ANY($4)
        AND a.suppressed_by IS NULL AND a.shelved_until IS NULL AND NOT a.test AND (a.simulated OR NOT $6)
    RETURNING a.id
)
INSERT INTO iot.alarm_event (alarm_id, kind, at, note)
SELECT id, 'suppressed', $5, 'incident:' || $1::bigint FROM adopted
"""


STANDING: Final = "SELECT d.id FROM iot.device d WHERE {here} AND d.retired_at IS NULL"
RELEASE: Final = """
WITH released AS (
    UPDATE iot.alarm SET incident_id = NULL, suppressed_by = NULL, version = version + 1
    WHERE incident_id = $1 AND closed_at IS NULL AND cleared_at IS NULL AND NOT id = ANY($3) RETURNING id
)
INSERT INTO iot.alarm_event (alarm_id, kind, at) SELECT id, 'unsuppressed', $2 FROM released
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the city, and the area around it: a province or city, None where the part is the widest."""

    id: int
    around: int | None


class Floods:
    """Counts what rings, by rule, and opens incidents; one for each worker."""

    def __init__(self, limit: int = LIMIT, span: timedelta = SPAN) -> None:
        self.limit = limit
        self.span = span
        self._rang: dict[tuple[str, bool], deque[tuple[datetime, int]]] = {}

    async def group(self, connection: asyncpg.Connection, cases: Iterable[Case], now: datetime) -> list[Case]:
        """Put what is raised too often into incidents, before it is written; give the incidents' own cases."""
        by_rule: dict[tuple[str, bool], list[tuple[Case, Happening]]] = {}
        for case in cases:
            for happening in case.happenings:
                row = happening.slot.row  # as it is at the end: it may have become critical
                if happening.kind is EventKind.RAISED and _may_join(row):
                    by_rule.setdefault((case.key[2], row.simulated), []).append((case, happening))
        incidents: list[Case] = []
        for (rule, simulated), raised in sorted(by_rule.items(), key=lambda each: each[0]):
            rang = self._rang.setdefault((rule, simulated), deque(maxlen=_MOST))
            while rang and rang[0][0] < now - self.span:
                rang.popleft()
            rang.extend((now, happening.as_of.device_id or 0) for _, happening in raised)
            if len(rang) > self.limit:
                incidents += await self._gather(connection, rule, raised, [device for _, device in rang], now)
        return incidents

    async def _gather(
        self,
        connection: asyncpg.Connection,
        rule: str,
        raised: Sequence[tuple[Case, Happening]],
        recent: Sequence[int],
        now: datetime,
    ) -> list[Case]:
        rows = await connection.fetch(PARTS, sorted(set(recent)))
        parts = {row["device_id"]: Part(row["id"], row["parent_id"]) for row in rows}
        causes = flooded(parts, self.limit)
        areas = sorted(set(causes.values()))
        if not areas:
            return []
        titles = {row["id"]: Title(row["name"], row["name_en"]) for row in await connection.fetch(TITLES, areas)}
        wanted = [_incident(area, rule) for area in areas]
        incidents = await lock(connection, wanted, wanted)
        for key, incident in incidents.items():
            mine = [(c, h) for c, h in raised if causes.get(h.as_of.device_id or 0) == key[1]]
            stands = incident.open.row if incident.open is not None else None
            simulated = all(h.as_of.simulated for _, h in mine)
            if not mine or (stands is not None and simulated and not stands.simulated):
                continue
            if stands is None or stands.cleared_at is not None or (stands.simulated and not simulated):
                devices = [device for device, area in causes.items() if area == key[1]]
                _open_incident(incident, titles[key[1]], mine[0][1].as_of, len(devices), now)
                assert incident.open is not None
                if not incident.open.row.id:
                    await insert(connection, [incident.open])
                since = now - self.span * 5
                await connection.execute(ADOPT, incident.open.row.id, rule, since, devices, now, simulated)
            assert incident.open is not None
            for case, _ in mine:
                _join(case, incident.open.row.id)
        return [incident for incident in incidents.values() if incident.dirty]


def flooded(parts: Mapping[int, Part], limit: int = LIMIT, wide: int = WIDE) -> dict[int, int]:
    """Say of each device that rang (id -> its part) inside which area's incident its alarm belongs, if in any's."""
    devices = Counter(part.id for part in parts.values())
    around = Counter(part.around for part in parts.values() if part.around is not None)
    reached = Counter(part.around for part in set(parts.values()))
    found: dict[int, int] = {}
    for device, part in parts.items():
        if part.around is not None and around[part.around] > wide and reached[part.around] >= WIDE_PARTS:
            found[device] = part.around
        elif devices[part.id] > limit:
            found[device] = part.id
    return found


async def gather(
    connection: asyncpg.Connection, area: Case, rule: AlarmRule, members: Iterable[Case], now: datetime
) -> None:
    """Put the alarms of an outage's devices inside the area's; let go of those that stand when it is over."""
    slot = area.slots[-1] if area.slots else None
    if slot is None:
        return
    if slot.row.cleared_at is not None:
        here = [each.row.id for case in members for each in case.slots]
        await connection.execute(RELEASE, slot.row.id, now, here)
        return
    if not slot.row.id:
        await insert(connection, [slot])
    if any(each.kind is EventKind.RAISED for each in area.happenings):
        kind, source_id, _ = area.key
        devices = [
            row["id"] for row in await connection.fetch(STANDING.format(here=HERE[kind]), source_id, rule.behind)
        ]  # fmt: skip
        for fed in rule.rules:
            since = slot.row.raised_at - rule.over
            await connection.execute(ADOPT, slot.row.id, fed, since, devices, now, slot.row.simulated)
    for case in members:
        rows = [each.slot.row for each in case.happenings if each.kind is EventKind.RAISED]
        if any(_may_join(row) and (row.simulated or not slot.row.simulated) for row in rows):
            _join(case, slot.row.id)


def incident_key(rule: str) -> str:
    """Name the rule of a cause's incident."""
    return f"{PREFIX}{rule}"


def _may_join(row: AlarmRow) -> bool:
    return (
        row.severity is not Severity.CRITICAL
        and not row.latched
        and not row.test
        and row.suppressed_by is None
        and row.shelved_until is None
        and row.device_id is not None
        and row.incident_id is None
    )


def _incident(part: int, rule: str) -> Key:
    return ("area", part, incident_key(rule))


def _join(case: Case, incident_id: int) -> None:
    """Put a case's alarm into an incident: it is kept, shown inside, and not pushed."""
    assert case.open is not None or case.slots
    for slot in case.slots:
        if slot.changed and _may_join(slot.row):
            slot.row = replace(slot.row, incident_id=incident_id, suppressed_by=f"incident:{incident_id}")
    case.happenings = [
        replace(each, push=each.push if each.kind in ENDS else None, as_of=replace(each.as_of, incident_id=incident_id))
        if each.slot.row.incident_id == incident_id
        else each
        for each in case.happenings
    ]


def _open_incident(case: Case, part: Title, first: AlarmRow, devices: int, now: datetime) -> None:
    title = Title(
        text("flood.title", "vi", title=first.title.vi, area=part.vi),
        text("flood.title", "en", title=first.title.en, area=part.en),
    )
    row = AlarmRow(
        source_kind="area",
        source_id=case.key[1],
        device_id=None,
        rule=case.key[2],
        severity=Severity.HIGH,
        title=title,
        runbook=first.runbook,
        value=float(devices),
        simulated=first.simulated,
        raised_at=now,
        received_at=first.received_at,
    )
    again = case.open
    if again is not None:
        row = replace(again.row, raised_at=now, cleared_at=None, value=float(devices), version=again.row.version + 1)
        row = replace(row, simulated=first.simulated)
    else:
        case.open = Slot(row)
        case.slots.append(case.open)
    case.state = State(phase=Phase.ACTIVE, since=now, last_time=max(now, case.state.last_time))
    case.dirty = True
    case.happen(row, EventKind.RAISED, now, value=float(devices), push="alarm.raised")
