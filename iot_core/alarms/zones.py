"""Rules over the devices of one area, or behind one gateway: cross-zoning of fire detectors, a street without light.

A device's rule holds, or ceased to at most `over` ago -> it counts; so many different devices -> the area's rule holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from iot_core.alarms.case import Case, Key, Occasion
from iot_core.alarms.rules import NEVER, Phase, read
from iot_core.alarms.times import Times
from iot_core.alarms.watch import Watch
from iot_core.alarms.windows import Windows, quieted
from iot_core.derived.coincidence import Signal, confirmed
from iot_core.model import AlarmRule, Severity

__all__ = ["HERE", "Source", "Zone", "judge_area", "still", "zones_of"]

Source = tuple[str, int]
"""Whose alarm a rule over devices is: an area's, or (`device`) a gateway's."""
ZONES: Final = """
WITH mine AS (SELECT id, class_key, area_id, gateway_id FROM iot.device WHERE id = ANY($1)),
standing AS (
    SELECT area_id, class_key, count(*) AS devices FROM iot.device
    WHERE area_id IN (SELECT area_id FROM mine) AND retired_at IS NULL GROUP BY area_id, class_key
)
SELECT m.id, m.area_id, COALESCE(s.devices, 0) AS devices, COALESCE(a.kind, '') AS kind, g.id AS gateway_id,
    COALESCE(g.class_key, '') AS gateway_class
FROM mine m LEFT JOIN iot.area a ON a.id = m.area_id
LEFT JOIN iot.device g ON g.id = m.gateway_id AND g.retired_at IS NULL
LEFT JOIN standing s ON s.area_id = m.area_id AND s.class_key = m.class_key
WHERE m.area_id IS NOT NULL OR g.id IS NOT NULL
"""
HERE: Final = {
    "area": """d.area_id = $1 AND NOT EXISTS (
        SELECT FROM iot.device g WHERE g.id = d.gateway_id AND g.class_key = $2 AND g.retired_at IS NULL)""",
    "device": "d.gateway_id = $1 AND $2::text <> ''",
}
"""Which devices (d) a source ($1) stands for; $2: the class of gateways that stand for what is behind them."""
SIGNALS: Final = """
SELECT s.source_id, s.rule, s.state, s.since FROM iot.rule_state s JOIN iot.device d ON d.id = s.source_id
WHERE s.source_kind = 'device' AND {here} AND s.rule = ANY($3)
    AND (s.state = 'active' OR (s.state = 'normal' AND s.since >= $4 AND EXISTS (
        SELECT FROM iot.alarm a WHERE a.device_id = s.source_id AND a.rule = s.rule
            AND (a.returned_at = s.since OR a.cleared_at = s.since))))
"""


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a device stands, how many of its class stand there, and what gateway it is behind."""

    area_id: int | None
    devices: int
    kind: str
    gateway_id: int | None = None
    gateway_class: str = ""

    def source(self, watch: Watch) -> Source | None:
        """Say whose alarm it is when a rule over devices counts this one; None: it does not."""
        if self.gateway_id is not None and self.gateway_class == watch.rule.behind:
            return "device", self.gateway_id
        if self.area_id is not None and watch.rule.area_kind in {"", self.kind}:
            return "area", self.area_id
        return None

    def alone(self, watches: Iterable[Watch]) -> Severity | None:
        """Give the severity of a single device's alarm where others could confirm it."""
        for watch in watches:
            if watch.rule.alone is not None and self.devices >= watch.rule.least and self.source(watch) is not None:
                return watch.rule.alone
        return None


_FACTS: Final = ("area_id", "devices", "kind", "gateway_id", "gateway_class")


async def zones_of(connection: asyncpg.Connection, devices: Sequence[int]) -> dict[int, Zone]:
    """Find where devices stand; those without an area and a gateway are left out."""
    rows = await connection.fetch(ZONES, list(devices)) if devices else []
    return {each["id"]: Zone(**{name: each[name] for name in _FACTS}) for each in rows}


async def judge_area(  # noqa: PLR0917 - the rule, its state, what it counts, when
    connection: asyncpg.Connection,
    watch: Watch,
    case: Case,
    members: Mapping[Key, Case],
    times: Times,
    window: Windows,
    now: datetime,
) -> None:
    """Judge a source's rule from the states of its devices' rules; `members`: those this transaction has locked."""
    rule = watch.rule
    clock = max((each.state.since for each in members.values()), default=NEVER)
    known = {
        (row["source_id"], row["rule"]): Signal(row["source_id"], row["since"], None)
        if row["state"] == Phase.ACTIVE
        else Signal(row["source_id"], row["since"], row["since"])
        for row in await connection.fetch(
            SIGNALS.format(here=HERE[case.key[0]]), case.key[1], rule.behind, list(rule.rules), clock - rule.over
        )
    }
    for (_, device_id, name), member in members.items():
        known.pop((device_id, name), None)
        if name in rule.rules and (signal := _signal(device_id, member)) is not None:
            known[device_id, name] = signal
    at = confirmed(known.values(), rule.least, rule.over, fresh=rule.fresh)
    holds = at is not None if case.state.phase is not Phase.ACTIVE else still(rule, case.state.since, known.values())
    clock = max(clock, at or clock)
    if case.state.phase is not Phase.ACTIVE and not times.open(rule.hours, clock):
        return
    state, transitions = read(watch.compiled, case.state, clock, holds)
    newest = max(members, key=lambda key: members[key].state.since)
    happened = members[newest].happenings
    received = max((each.as_of.received_at for each in happened), default=now)
    simulated = any(each.as_of.simulated for each in happened)
    last = happened[-1].as_of if happened else None
    quiet, test = (last.suppressed_by, last.test) if last is not None else (None, False)
    if case.key[0] == "device":  # the gateway's own work
        quiet, test = quieted(window, case.key[1], clock)
    occasion = Occasion(
        received_at=received, now=now, device_id=newest[1], simulated=simulated,
        metric=last.metric if last is not None else None,
        value=float(len({each.source for each in known.values()})),
        suppressed_by=quiet, test=test,
    )  # fmt: skip
    case.move(rule, state, transitions, occasion)


def still(rule: AlarmRule, since: datetime, signals: Iterable[Signal]) -> bool:
    """Say whether an area's rule goes on: one device's does; of an outage, enough of those that it began with."""
    standing = {
        each.source for each in signals if each.until is None and (not rule.fresh or each.since >= since - rule.over)
    }
    return len(standing) >= (rule.least if rule.fresh else 1)


def _signal(device_id: int, member: Case) -> Signal | None:
    state, before = member.state, member.before
    if state.phase is Phase.ACTIVE:
        return Signal(device_id, state.since, None)
    if before.phase is Phase.ACTIVE:
        return Signal(device_id, before.since, state.since)
    if member.happenings:  # raised and over within this batch
        return Signal(device_id, state.since, state.since)
    return None
