"""Rules over the devices of one area: cross-zoning of fire detectors, so many pumps down at once.

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
from iot_core.derived.coincidence import Signal, confirmed
from iot_core.model import AlarmRule, Severity

__all__ = ["Zone", "judge_area", "still", "zones_of"]

ZONES: Final = """
SELECT d.id, d.area_id, a.kind, (
    SELECT count(*) FROM iot.device o
    WHERE o.area_id = d.area_id AND o.class_key = d.class_key AND o.retired_at IS NULL
) AS devices
FROM iot.device d JOIN iot.area a ON a.id = d.area_id WHERE d.id = ANY($1)
"""
SIGNALS: Final = """
SELECT s.source_id, s.rule, s.state, s.since FROM iot.rule_state s JOIN iot.device d ON d.id = s.source_id
WHERE s.source_kind = 'device' AND d.area_id = $1 AND s.rule = ANY($2)
    AND (s.state = 'active' OR (s.state = 'normal' AND s.since >= $3 AND EXISTS (
        SELECT FROM iot.alarm a WHERE a.device_id = s.source_id AND a.rule = s.rule
            AND (a.returned_at = s.since OR a.cleared_at = s.since))))
"""


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a device stands, and how many of its class stand there."""

    area_id: int
    devices: int
    kind: str

    def counts(self, watch: Watch) -> bool:
        """Say whether a rule over devices looks at areas like this one."""
        return watch.rule.area_kind in {"", self.kind}

    def alone(self, watches: Iterable[Watch]) -> Severity | None:
        """Give the severity of a single device's alarm where others could confirm it."""
        for watch in watches:
            if watch.rule.alone is not None and self.devices >= watch.rule.least and self.counts(watch):
                return watch.rule.alone
        return None


async def zones_of(connection: asyncpg.Connection, devices: Sequence[int]) -> dict[int, Zone]:
    """Find the areas of devices; those without an area are left out."""
    rows = await connection.fetch(ZONES, list(devices)) if devices else []
    return {row["id"]: Zone(row["area_id"], row["devices"], row["kind"]) for row in rows}


async def judge_area(  # noqa: PLR0917 - the rule, its state, what it counts, when
    connection: asyncpg.Connection,
    watch: Watch,
    case: Case,
    members: Mapping[Key, Case],
    times: Times,
    now: datetime,
) -> None:
    """Judge an area's rule from the states of its devices' rules; `members`: those this transaction has locked."""
    rule = watch.rule
    clock = max((each.state.since for each in members.values()), default=NEVER)
    known = {
        (row["source_id"], row["rule"]): Signal(row["source_id"], row["since"], None)
        if row["state"] == Phase.ACTIVE
        else Signal(row["source_id"], row["since"], row["since"])
        for row in await connection.fetch(SIGNALS, case.key[1], list(rule.rules), clock - rule.over)
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
    occasion = Occasion(
        received_at=received, now=now, device_id=newest[1], simulated=simulated,
        metric=last.metric if last is not None else None,
        value=float(len({each.source for each in known.values()})),
        suppressed_by=last.suppressed_by if last is not None else None, test=last is not None and last.test,
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
