"""Rules over a batch of observations, inside the transaction that stores it.

observations -> does any rule want a change, or is it open here?  -- no --> nothing, not one statement
                -- yes --> lock state rows -> read what is stored -> judge in time order -> alarms, events, outbox
after COMMIT -> committed(pending): the cache follows the database, never leads it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from iot_core.alarms import history, origin
from iot_core.alarms.alarm import EventKind
from iot_core.alarms.book import RuleBook
from iot_core.alarms.case import Case, Happening, Key
from iot_core.alarms.flood import Floods, gather
from iot_core.alarms.history import History
from iot_core.alarms.judge import Judging, show_value
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.rules import Phase
from iot_core.alarms.times import Times
from iot_core.alarms.watch import ClassWatch, Knowledge, Watch
from iot_core.alarms.windows import Windows, no_window
from iot_core.alarms.zones import Zone, judge_area, zones_of
from iot_core.model import AlarmRule, Observation, Quality

log = structlog.get_logger()

OPEN_STATES: Final = """
SELECT source_kind, source_id, rule FROM iot.rule_state WHERE source_kind IN ('device', 'area') AND state <> 'normal'
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """What `committed` needs: the phases that this transaction left behind, and what happened."""

    phases: Mapping[Key, Phase] = field(default_factory=dict)
    happenings: Sequence[Happening] = ()

    @property
    def raised(self) -> int:
        """How many times an alarm was raised."""
        return sum(each.kind is EventKind.RAISED for each in self.happenings)


_NOTHING: Final = Pending()
_AT_A_TIME: Final = 100
_LOGGED: Final = 10
"""Changes of one flush that have a line in the log each."""
_Touched = dict[int, set[str]]


class Evaluator:
    """Judges batches. Owns the cache of (device, rule) that are pending or active; one for each worker.

    `window` tells whether a device is under maintenance or test at a time.
    """

    def __init__(self, profiles: Knowledge) -> None:
        self.profiles = profiles
        self.book = RuleBook(profiles)
        self.floods = Floods()
        self.times = Times()
        self.window: Windows = no_window
        self.worked_out: dict[tuple[str, str], tuple[datetime, Mapping[int, float]]] = {}
        """Class and formula -> when it was worked out, and what for each device (alarms/computed.py)."""
        self._open: _Touched = {}
        self._open_areas: _Touched = {}

    @property
    def classes(self) -> Mapping[str, ClassWatch]:
        """The rules of each class, without what is changed for some of its devices."""
        return self.book.classes

    async def load(self, connection: asyncpg.Connection) -> None:
        """Read the bits of the metrics, the rules that people changed, and which rules are open."""
        await self.book.load(connection)
        await self.times.load(connection)
        await self.refresh(connection)

    async def refresh(self, connection: asyncpg.Connection) -> None:
        """Learn what other workers opened. Adds only: one that closed meanwhile costs a look, not an alarm."""
        for row in await connection.fetch(OPEN_STATES):
            self._cache(row["source_kind"]).setdefault(row["source_id"], set()).add(row["rule"])

    def watch(self, rule: str, device_id: int | None = None) -> Watch | None:
        """Find a rule by its full key, as it is for a device; None when it does not hold there any more."""
        return self.book.watch(rule, device_id)

    def silences(self) -> list[Watch]:
        """Give the rules that are about hearing nothing."""
        return [watch for watch in self.book.all() if watch.is_silence]

    def forms_of_silence(self) -> list[AlarmRule]:
        """Give these rules in every form that they have somewhere."""
        return [
            watch.rule for watched, _ in self.book.variants() for watch in watched.watches.values() if watch.is_silence
        ]

    def silences_at(self, device_id: int) -> list[AlarmRule]:
        """Give how long a device may be silent, where its rules are its own."""
        watched = self.book.own.get(device_id)
        return [watch.rule for watch in watched.watches.values() if watch.is_silence] if watched is not None else []

    def rules(self) -> list[str]:
        """Give the full keys of all rules."""
        return self.book.keys()

    def over_devices(self) -> list[str]:
        """Give the full keys of the rules over several devices."""
        return [watch.rule.key for watch in self.book.all() if watch.rule.rules]

    async def evaluate(
        self, connection: asyncpg.Connection, observations: Sequence[Observation], *, now: datetime
    ) -> Pending:
        """Judge a batch before it is merged. Serialization and deadlock errors are the caller's to retry."""
        touched, wanted = self._touched(observations)
        if not touched:
            return _NOTHING
        zones = await zones_of(connection, self._feeding(touched))
        looked, made = self._areas(zones, touched, wanted)
        cases = await lock(connection, [*_keys(touched), *looked], [*_keys(wanted), *made])
        groups = _by_device(observations, {source for kind, source, _ in cases if kind == "device"})
        known = await self._history(connection, groups)
        for number, ((kind, device_id, rule), case) in enumerate(cases.items(), 1):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # a storm is judged in one transaction, and others are not kept waiting by it
            group, watch = groups.get(device_id), self.watch(rule, device_id)
            if kind != "device" or not group or watch is None or watch.class_key != group[0].class_key:
                continue
            if watch.rule.rules:  # of a gateway: counted below
                continue
            if watch.class_key in known and not watch.is_computed:
                watched = self.book.at(device_id, watch.class_key)
                zone = zones.get(device_id)
                await Judging(
                    connection=connection,
                    watched=watched,
                    watch=watch,
                    case=case,
                    stored=known[watch.class_key],
                    now=now,
                    window=self.window,
                    times=self.times,
                    alone=zone.alone(watched.feeds.get(rule, ())) if zone is not None else None,
                ).judge(group)
                await show_value(connection, watch, case)
        await self.judge_areas(connection, cases, zones, now)
        return await self.write(connection, cases, now)

    async def write(self, connection: asyncpg.Connection, cases: Mapping[Key, Case], now: datetime) -> Pending:
        """Group floods, then write what changed; give what `committed` needs."""
        incidents = await self.floods.group(connection, cases.values(), now)
        every = [*cases.values(), *incidents]
        return self.pending(every, await save(connection, every))

    async def keep_uplinks(
        self, connection: asyncpg.Connection, pending: Pending, uplinks: Callable[[], origin.Uplinks], now: datetime
    ) -> None:
        """Keep the uplinks that raised alarms with them, before COMMIT."""
        if pending.happenings:
            await origin.keep(connection, pending.happenings, uplinks, now)

    def pending(self, cases: Iterable[Case], happenings: Sequence[Happening]) -> Pending:
        """Gather what `committed` needs."""
        return Pending({case.key: case.state.phase for case in cases}, happenings)

    def committed(self, pending: Pending) -> None:
        """Follow the database, after COMMIT."""
        for (kind, source_id, rule), phase in pending.phases.items():
            cache = self._cache(kind)
            if phase is not Phase.NORMAL:
                cache.setdefault(source_id, set()).add(rule)
            elif rules := cache.get(source_id):
                rules.discard(rule)
                if not rules:
                    del cache[source_id]
        for each in pending.happenings[:_LOGGED]:
            row = each.as_of
            log.info("alarm.changed", to=each.kind.value, rule=row.rule, source=f"{row.source_kind}:{row.source_id}")
        if len(pending.happenings) > _LOGGED:  # a storm is in the alarms' own history, line by line
            log.info("alarms.changed", more=len(pending.happenings) - _LOGGED)

    def open_at(self, device_id: int) -> frozenset[str]:
        """Name the rules that the cache holds pending or active at a device."""
        return frozenset(self._open.get(device_id, ()))

    def open_in(self, area_id: int) -> frozenset[str]:
        """Name the rules that the cache holds pending or active in an area."""
        return frozenset(self._open_areas.get(area_id, ()))

    def open_rules(self) -> Iterable[tuple[int, str]]:
        """Go through the devices and rules that the cache holds pending or active."""
        return [(device_id, rule) for device_id, rules in self._open.items() for rule in rules]

    def _cache(self, kind: str) -> _Touched:
        return self._open_areas if kind == "area" else self._open

    def _touched(  # noqa: C901 - the hot loop: a call saved is a microsecond saved
        self, observations: Sequence[Observation]
    ) -> tuple[_Touched, _Touched]:
        """Find the rules to look at, and of those the ones that want a change. A few look-ups an observation."""
        touched: _Touched = {}
        wanted: _Touched = {}
        classes, own, open_ = self.book.classes, self.book.own, self._open
        for observation in observations:
            device_id = observation.device_id
            watched = own.get(device_id) or classes.get(observation.class_key)
            if watched is None:
                continue
            if device_id in open_:
                touched.setdefault(device_id, set()).update(open_[device_id])
            if observation.quality >= Quality.CALIBRATION:
                continue
            values, bad = observation.values, observation.bad
            for metric, mask, raises, rule in watched.levels:
                value = values.get(metric)
                if (
                    value is not None
                    and not bad & mask
                    and raises(value)
                    and (rule not in watched.hours or self._in_hours(watched.hours[rule], observation))
                ):
                    wanted.setdefault(device_id, set()).add(rule)
            for metrics, _, asked, rule in watched.groups:
                if (
                    not metrics.isdisjoint(values)
                    and asked(values) is not False
                    and (rule not in watched.hours or self._in_hours(watched.hours[rule], observation))
                ):
                    wanted.setdefault(device_id, set()).add(rule)
            if bad and watched.implausible is not None:
                wanted.setdefault(device_id, set()).add(watched.implausible)
        for device_id, rules in wanted.items():
            touched.setdefault(device_id, set()).update(rules)
        return touched, wanted

    def _in_hours(self, hours: str, observation: Observation) -> bool:
        """Say whether a rule that is normal may ring for an observation: a lamp that burns by night costs no lock."""
        return self.times.open(hours, min(observation.time, observation.received_at))

    def _feeding(self, touched: _Touched) -> list[int]:
        """Give the devices whose touched rules count in a rule over several devices."""
        fed = self.book.fed
        return [device_id for device_id, rules in touched.items() if not fed.isdisjoint(rules)] if fed else []

    def _areas(self, zones: Mapping[int, Zone], touched: _Touched, wanted: _Touched) -> tuple[list[Key], list[Key]]:
        """Give the areas' rules to look at, and of those the ones whose state rows must be there."""
        looked: set[Key] = set()
        made: set[Key] = set()
        for device_id, zone in zones.items():
            for rule in touched[device_id]:
                for watch in self.book.feeds(rule, device_id):
                    source = zone.source(watch)
                    if source is None:
                        continue
                    key = (*source, watch.rule.key)
                    if rule in wanted.get(device_id, ()):
                        made.add(key)
                    elif watch.rule.key in self._cache(source[0]).get(source[1], ()):
                        looked.add(key)
        return sorted(looked | made), sorted(made)

    async def zones(self, connection: asyncpg.Connection, keys: Iterable[Key]) -> dict[int, Zone]:
        """Find where devices stand one of whose rules (the keys) counts in a rule over several devices."""
        fed = self.book.fed
        return await zones_of(connection, [source for kind, source, rule in keys if kind == "device" and rule in fed])

    def areas_of(self, zones: Mapping[int, Zone], keys: Iterable[Key]) -> set[Key]:
        """Give the rules over several devices in which rules of devices (the keys) count."""
        return {
            (*source, watch.rule.key)
            for kind, device_id, rule in keys
            if kind == "device" and (zone := zones.get(device_id)) is not None
            for watch in self.book.feeds(rule, device_id)
            if (source := zone.source(watch)) is not None
        }

    async def judge_areas(
        self, connection: asyncpg.Connection, cases: Mapping[Key, Case], zones: Mapping[int, Zone], now: datetime
    ) -> None:
        """Judge the rules over several devices of which one has changed; all of them are locked."""
        counted: dict[Key, dict[Key, Case]] = {}
        watches: dict[Key, Watch] = {}
        for key, member in cases.items():
            zone = zones.get(key[1]) if key[0] == "device" and member.dirty else None
            for watch in self.book.feeds(key[2], key[1]) if zone is not None else ():
                source = zone.source(watch) if zone is not None else None
                if source is not None:
                    name = (*source, watch.rule.key)
                    counted.setdefault(name, {})[key] = member
                    watches.setdefault(name, watch)  # as it stands at its devices: alike at all of an area
        for name, members in sorted(counted.items()):
            if (case := cases.get(name)) is not None:
                watch = watches[name]
                await judge_area(connection, watch, case, members, self.times, self.window, now)
                if watch.rule.fresh:
                    await gather(connection, case, watch.rule, members.values(), now)

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


def _by_device(observations: Sequence[Observation], devices: set[int]) -> dict[int, list[Observation]]:
    groups: dict[int, list[Observation]] = {}
    for observation in observations:
        if observation.device_id in devices:
            groups.setdefault(observation.device_id, []).append(observation)
    return groups


def _keys(touched: _Touched) -> list[Key]:
    return [("device", device_id, rule) for device_id, rules in touched.items() for rule in rules]
