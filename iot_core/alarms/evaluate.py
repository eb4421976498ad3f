"""Rules over a batch of observations, inside the transaction that stores it.

observations -> does any rule want a change, or is it open here?  -- no --> nothing, not one statement
                -- yes --> lock state rows -> read what is stored -> judge in time order -> alarms, events, outbox
after COMMIT -> committed(pending): the cache follows the database, never leads it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from iot_core.alarms import history
from iot_core.alarms.alarm import EventKind
from iot_core.alarms.case import Case, Happening, Key
from iot_core.alarms.history import History
from iot_core.alarms.judge import Judging, show_value
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.rules import Phase
from iot_core.alarms.watch import ClassWatch, Knowledge, Watch, watch_class
from iot_core.model import Observation, Quality

log = structlog.get_logger()

OPEN_STATES: Final = """
SELECT source_id, rule FROM iot.rule_state WHERE source_kind = 'device' AND state <> 'normal'
"""
BITS: Final = "SELECT class_key, key, bit FROM iot.metric"


@dataclass(frozen=True, slots=True)
class Pending:
    """What `committed` needs: the phases that this transaction left behind, and what happened."""

    phases: Mapping[tuple[int, str], Phase] = field(default_factory=dict)
    happenings: Sequence[Happening] = ()

    @property
    def raised(self) -> int:
        """How many times an alarm was raised."""
        return sum(each.kind is EventKind.RAISED for each in self.happenings)


_NOTHING: Final = Pending()
_Touched = dict[int, set[str]]


class Evaluator:
    """Judges batches. Owns the cache of (device, rule) that are pending or active; one for each worker."""

    def __init__(self, profiles: Knowledge) -> None:
        self.profiles = profiles
        self.classes: dict[str, ClassWatch] = {}
        self._watches: dict[str, Watch] = {}
        self._open: _Touched = {}
        self._build({})

    async def load(self, connection: asyncpg.Connection) -> None:
        """Read the bits of the metrics and which rules are open."""
        self._build({(row["class_key"], row["key"]): row["bit"] for row in await connection.fetch(BITS)})
        await self.refresh(connection)

    async def refresh(self, connection: asyncpg.Connection) -> None:
        """Learn what other workers opened. Adds only: one that closed meanwhile costs a look, not an alarm."""
        for row in await connection.fetch(OPEN_STATES):
            self._open.setdefault(row["source_id"], set()).add(row["rule"])

    def watch(self, rule: str) -> Watch | None:
        """Find a rule by its full key; None when no class has it any more."""
        return self._watches.get(rule)

    def silences(self) -> list[Watch]:
        """Give the rules that are about hearing nothing."""
        return [watch for watch in self._watches.values() if watch.is_silence]

    def rules(self) -> list[str]:
        """Give the full keys of all rules."""
        return list(self._watches)

    async def evaluate(
        self, connection: asyncpg.Connection, observations: Sequence[Observation], *, now: datetime
    ) -> Pending:
        """Judge a batch before it is merged. Serialization and deadlock errors are the caller's to retry."""
        touched, wanted = self._touched(observations)
        if not touched:
            return _NOTHING
        cases = await lock(connection, _keys(touched), _keys(wanted))
        groups = _by_device(observations, {source for _, source, _ in cases})
        known = await self._history(connection, groups)
        for (_, device_id, rule), case in cases.items():
            group, watch = groups.get(device_id), self._watches.get(rule)
            if group and watch is not None and watch.class_key in known and watch.class_key == group[0].class_key:
                await Judging(
                    connection=connection,
                    watched=self.classes[watch.class_key],
                    watch=watch,
                    case=case,
                    stored=known[watch.class_key],
                    now=now,
                ).judge(group)
                await show_value(connection, watch, case)
        return self.pending(cases.values(), await save(connection, cases.values()))

    def pending(self, cases: Iterable[Case], happenings: Sequence[Happening]) -> Pending:
        """Gather what `committed` needs."""
        return Pending({(case.key[1], case.key[2]): case.state.phase for case in cases}, happenings)

    def committed(self, pending: Pending) -> None:
        """Follow the database, after COMMIT."""
        for (device_id, rule), phase in pending.phases.items():
            if phase is not Phase.NORMAL:
                self._open.setdefault(device_id, set()).add(rule)
            elif rules := self._open.get(device_id):
                rules.discard(rule)
                if not rules:
                    del self._open[device_id]
        for each in pending.happenings:
            row = each.as_of
            log.info("alarm.changed", to=each.kind.value, rule=row.rule, source=f"{row.source_kind}:{row.source_id}")

    def _touched(self, observations: Sequence[Observation]) -> tuple[_Touched, _Touched]:
        """Find the rules to look at, and of those the ones that want a change. A few look-ups an observation."""
        touched: _Touched = {}
        wanted: _Touched = {}
        classes, open_ = self.classes, self._open
        for observation in observations:
            watched = classes.get(observation.class_key)
            if watched is None:
                continue
            device_id = observation.device_id
            if device_id in open_:
                touched.setdefault(device_id, set()).update(open_[device_id])
            if observation.quality >= Quality.CALIBRATION:
                continue
            values, bad = observation.values, observation.bad
            for metric, mask, raises, rule in watched.levels:
                value = values.get(metric)
                if value is not None and not bad & mask and raises(value):
                    wanted.setdefault(device_id, set()).add(rule)
            if bad and watched.implausible is not None:
                wanted.setdefault(device_id, set()).add(watched.implausible)
        for device_id, rules in wanted.items():
            touched.setdefault(device_id, set()).update(rules)
        return touched, wanted

    async def _history(
        self, connection: asyncpg.Connection, groups: Mapping[int, Sequence[Observation]]
    ) -> dict[str, History]:
        by_class: dict[str, dict[int, Sequence[Observation]]] = {}
        for device_id, group in groups.items():
            by_class.setdefault(group[0].class_key, {})[device_id] = group
        return {
            class_key: await history.before(connection, class_key, self.classes[class_key].masks, members)
            for class_key, members in sorted(by_class.items())
            if class_key in self.classes
        }

    def _build(self, bits: Mapping[tuple[str, str], int]) -> None:
        self.classes = {key: watch_class(device_class, bits) for key, device_class in self.profiles.classes.items()}
        self._watches = {key: watch for each in self.classes.values() for key, watch in each.watches.items()}


def _by_device(observations: Sequence[Observation], devices: set[int]) -> dict[int, list[Observation]]:
    groups: dict[int, list[Observation]] = {}
    for observation in observations:
        if observation.device_id in devices:
            groups.setdefault(observation.device_id, []).append(observation)
    return groups


def _keys(touched: _Touched) -> list[Key]:
    return [("device", device_id, rule) for device_id, rules in touched.items() for rule in rules]
