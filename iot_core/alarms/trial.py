"""What a rule would have raised: over what is stored, at some devices, before anybody lives with it.

    how the rule stands at each device (with a change laid over) -> the rows at which its answer changes -> its machine

The database leaves out the rows that change nothing, so a month of a hundred devices is a few thousand rows here. Rules
that look back over a span are looked at a twelfth of it apart, formulas once an hour; the live ones every half minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

import asyncpg

from iot_core.alarms.book import RuleBook
from iot_core.alarms.computed import DERIVED, of_amount, of_span, work_out
from iot_core.alarms.episodes import Bucket, Episode, Reading, episodes, spans
from iot_core.alarms.history import named
from iot_core.alarms.judge import TOGETHER
from iot_core.alarms.rules import NEVER
from iot_core.alarms.terms import terms_of
from iot_core.alarms.times import Times
from iot_core.alarms.watch import ClassWatch, Watch, as_said, number
from iot_core.alarms.zones import still
from iot_core.derived.coincidence import Signal, confirmed
from iot_core.model import Comparison, Metric, Quality, Value

__all__ = ["Part", "Raised", "Trial", "part_of"]

_USABLE: Final = f"t.quality <= {Quality.UNCERTAIN}"
_STEPS: Final = 12
"""Looks in a span that a rule looks back over."""
_HEARTBEATS: Final = 4
"""Rows kept in the time that a group's metrics are judged together, though nothing changes in them."""
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)

# In an order that has nothing to do with where devices stand, so that the first hundred stand for all.
PART: Final = """
SELECT d.id, d.key, hashint4(d.id) AS place FROM iot.device d
WHERE d.class_key = $1 AND d.retired_at IS NULL AND ($2::integer IS NULL OR hashint4(d.id) > $2)
    AND ($3::integer[] IS NULL OR d.id = ANY($3)) ORDER BY 3 LIMIT $4
"""
# A rule over the devices of an area, or behind a gateway, wants them all.
AREAS: Final = """
WITH standing AS MATERIALIZED (
    SELECT d.id, d.key, COALESCE(g.key, a.key) AS area, hashtext(COALESCE('gateway ' || g.id, 'area ' || a.id)) AS place
    FROM iot.device d
    LEFT JOIN iot.device g ON g.id = d.gateway_id AND g.class_key = $6 AND g.retired_at IS NULL
    LEFT JOIN iot.area a ON a.id = d.area_id AND $5 IN ('', a.kind)
    WHERE d.class_key = $1 AND d.retired_at IS NULL AND (g.id IS NOT NULL OR a.id IS NOT NULL)
)
SELECT s.* FROM (
    SELECT DISTINCT place FROM standing
    WHERE ($2::integer IS NULL OR place > $2) AND ($3::integer[] IS NULL OR id = ANY($3)) ORDER BY 1 LIMIT $4
) n JOIN standing s USING (place) ORDER BY place, s.id
"""
INTERVALS: Final = """
SELECT f.device_id, f.profile, i.every FROM (
    SELECT device_id, device_id AS speaker, profile FROM iot.unit WHERE device_id = ANY($1) AND mounted_to IS NULL
    UNION ALL SELECT c.device_id, u.device_id, u.profile FROM iot.channel c JOIN iot.unit u ON u.id = c.unit_id
    WHERE c.device_id = ANY($1) AND u.mounted_to IS NULL
) f LEFT JOIN iot.configured_interval i ON i.device_id = f.speaker
"""
CHANGES: Final = """
SELECT device_id, clock, {columns} FROM (
    SELECT r.*, lag(r.code) OVER (PARTITION BY r.device_id, r.turn ORDER BY r.clock) AS before
    FROM (
        SELECT t.device_id, least(t.time, t.received_at) AS clock, {columns}, {code} AS code,
            width_bucket(least(t.time, t.received_at), $4::timestamptz[]) AS turn
        FROM (
            SELECT t.device_id, t.time, t.received_at, t.bad, {usable} FROM telemetry."{table}" t
            WHERE t.device_id = ANY($1) AND t.time >= $2 AND t.time < $3 AND {good}
        ) t WHERE {said}
    ) r
) c WHERE c.code IS DISTINCT FROM c.before ORDER BY device_id, clock
"""
BUCKETS: Final = """
SELECT t.device_id, date_bin($4, t.time, $2) AS start, count(*)::int AS readings, min(t.time) AS since,
    max(t.time) AS until, min(v.value) AS lowest, max(v.value) AS highest, sum(v.value) AS total,
    (array_agg(v.value ORDER BY t.time))[1] AS first, (array_agg(v.value ORDER BY t.time DESC))[1] AS last
FROM telemetry."{table}" t CROSS JOIN LATERAL (SELECT {value} AS value) v
WHERE t.device_id = ANY($1) AND t.time >= $2 AND t.time < $3 AND t."{metric}" IS NOT NULL AND {good}
    AND t.bad & {mask}::bigint = 0
GROUP BY 1, 2 ORDER BY 1, 2
"""
# From one row to the next, and to the end; what was heard between them counts for a metric that stays away.
GAPS: Final = """
SELECT g.device_id, g.at, g.next FROM (
    SELECT t.device_id, t.{clock} AS at,
        lead(t.{clock}, 1, $3) OVER (PARTITION BY t.device_id ORDER BY t.{clock}) AS next
    FROM telemetry."{table}" t WHERE t.device_id = ANY($1) AND t.time >= $2 AND t.time < $3 AND {said}
) g JOIN unnest($1::integer[], $4::interval[]) AS p (device_id, patience) ON p.device_id = g.device_id
WHERE g.next - g.at > p.patience AND ({alone} OR EXISTS (
    SELECT FROM telemetry."{table}" o WHERE o.device_id = g.device_id AND o.time > g.at AND o.time < g.next))
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm that would have been raised at a device, in an area or at a gateway, by its key."""

    source: str
    episode: Episode


@dataclass(frozen=True, slots=True)
class Part:
    """Some devices to try a rule at; `place` is where the next part begins. `areas`: area or gateway -> its devices."""

    devices: Mapping[int, str]
    areas: Mapping[str, Sequence[int]]
    place: int | None

    def without(self, devices: Container[int]) -> Part:
        """Leave out what an asker may not see."""
        return Part(
            {number: key for number, key in self.devices.items() if number not in devices},
            {area: [each for each in there if each not in devices] for area, there in self.areas.items()},
            self.place,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A rule of a book tried over `since` to `until`. Read through the connection of one asker, nothing is written."""

    connection: asyncpg.Connection
    book: RuleBook
    times: Times
    rule: str
    since: datetime
    until: datetime

    async def at(self, part: Part) -> list[Raised]:
        """Give what the rule would have raised at these devices, the newest first."""
        alike = _alike(self.book, self.rule, part.devices)
        if alike and alike[0][1].rule.comparison is Comparison.DEVICES:
            found = await self._in_areas(part)
        else:
            found = [
                Raised(part.devices[device_id], episode)
                for watched, watch, devices in alike
                for device_id, episode in await self._of(watched, watch, devices)
            ]
        return sorted(found, key=lambda each: each.episode.raised_at, reverse=True)

    async def _of(self, watched: ClassWatch, watch: Watch, devices: Sequence[int]) -> list[tuple[int, Episode]]:
        if watch.rule.comparison is Comparison.SILENT:
            return await self._silences(watch, devices)
        found = []
        async for device_id, readings in self._readings(watched, watch, devices):
            # A long history is seconds of work, and ingest and push live in this loop.
            said = await asyncio.to_thread(_listed, watch, readings, self.until, self.times)
            found += [(device_id, episode) for episode in said]
        return found

    async def _readings(
        self, watched: ClassWatch, watch: Watch, devices: Sequence[int]
    ) -> AsyncIterator[tuple[int, Iterable[Reading]]]:
        if watch.rule.derived is not None:
            found = await self._derived(watched, watch.rule.derived, devices)
            for device_id, said in found.items():
                yield device_id, said
            return
        if watch.is_computed:
            width = max(watch.rule.over / _STEPS, timedelta(seconds=1))
            for device_id, rows in _by_device(await self._buckets(watch, devices, width)):
                yield device_id, _of_spans(watch, rows, width)
            return
        rows = await self._changes(watched, watch, devices)
        for device_id, group in _by_device(rows):
            yield device_id, _said(watched, watch, group)

    async def _changes(self, watched: ClassWatch, watch: Watch, devices: Sequence[int]) -> list[asyncpg.Record]:
        metrics = _metrics(watched, watch)
        usable = ", ".join(
            f'CASE WHEN t.bad & {watched.masks[each.key]}::bigint = 0 THEN t."{each.key}" END AS "{each.key}"'
            for each in metrics
        ) or "t.bad AS said"  # fmt: skip
        columns = ", ".join(f'"{each.key}"' for each in metrics) or "said"
        sql = CHANGES.format(
            table=watch.class_key, columns=columns, usable=usable, good=_USABLE, code=_code(watch, metrics),
            said=" OR ".join(f't."{each.key}" IS NOT NULL' for each in metrics) or "true",
        )  # fmt: skip
        turns = await asyncio.to_thread(self._turns, watch.rule.hours) if watch.rule.hours else []
        rows: list[asyncpg.Record] = await self.connection.fetch(sql, list(devices), self.since, self.until, turns)
        return rows

    def _turns(self, hours: str) -> list[datetime]:
        """Give the minutes at which a rule may ring again, or no more: what holds then is judged anew."""
        at, before, found = self.since.replace(second=0, microsecond=0), False, []
        while at < self.until:
            if (now := self.times.open(hours, at)) is not before:
                found.append(at)
                before = now
            at += _MINUTE
        return found

    async def _buckets(self, watch: Watch, devices: Sequence[int], width: timedelta) -> list[asyncpg.Record]:
        metric = watch.metric
        assert metric is not None
        value = as_said(metric, f't."{metric.key}"')
        sql = BUCKETS.format(table=watch.class_key, metric=metric.key, value=value, good=_USABLE, mask=watch.mask)
        rows: list[asyncpg.Record] = await self.connection.fetch(sql, list(devices), self.since, self.until, width)
        return rows

    async def _derived(self, watched: ClassWatch, formula: str, devices: Sequence[int]) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {device_id: [] for device_id in devices}
        at = self.since
        while at <= self.until and formula in DERIVED:
            for device_id, value in (await work_out(self.connection, formula, watched, at, list(devices))).items():
                found[device_id].append(Reading(at, value, value))
            at += _HOUR
        return found

    async def _silences(self, watch: Watch, devices: Sequence[int]) -> list[tuple[int, Episode]]:
        rule = watch.rule
        intervals = {profile.model: profile.interval for profile in self.book.profiles.all()}
        patience = {
            row["device_id"]: (row["every"] or intervals[row["profile"]]) * float(rule.threshold) + rule.on_delay
            for row in await self.connection.fetch(INTERVALS, list(devices))
            if row["profile"] in intervals
        }
        metric = watch.metric
        sql = GAPS.format(
            table=watch.class_key,
            clock="received_at" if metric is None else "time",
            said="true" if metric is None else f't."{metric.key}" IS NOT NULL',
            alone="true" if metric is None else "false",
        )
        rows = await self.connection.fetch(sql, list(patience), self.since, self.until, list(patience.values()))
        found = []
        for row in rows:
            raised_at = row["at"] + patience[row["device_id"]]
            if self.times.open(rule.hours, raised_at):
                cleared_at = row["next"] if row["next"] < self.until else None
                found.append((row["device_id"], Episode(raised_at, cleared_at, rule.severity)))
        return found

    async def _in_areas(self, part: Part) -> list[Raised]:
        found: list[Raised] = []
        for area, devices in part.areas.items():
            watch = self.book.watch(self.rule, devices[0]) if devices else None
            if watch is None:  # off there
                continue
            signals: list[Signal] = []
            for rule in watch.rule.rules:
                for watched, fed, alike in _alike(self.book, rule, dict.fromkeys(devices, "")):
                    signals += [
                        Signal(device_id, each.raised_at, each.cleared_at)
                        for device_id, each in await self._of(watched, fed, alike)
                    ]
            said = _of_area(watch, signals)
            found += [Raised(area, each) for each in episodes(watch.compiled, said, self.until, self.times.open)]
        return found


async def part_of(
    connection: asyncpg.Connection, watch: Watch, only: Sequence[int] | None, after: int | None, most: int
) -> Part:
    """Choose the next devices (areas, for a rule over devices) to try a rule at; `only` these, None: all."""
    by_area = watch.rule.comparison is Comparison.DEVICES
    asked = (watch.class_key, after, only, most)
    if by_area:
        rows = await connection.fetch(AREAS, *asked, watch.rule.area_kind, watch.rule.behind)
    else:
        rows = await connection.fetch(PART, *asked)
    areas: dict[str, list[int]] = {}
    for row in rows if by_area else ():
        areas.setdefault(row["area"], []).append(row["id"])
    devices = {row["id"]: row["key"] for row in rows}
    return Part(devices, areas, rows[-1]["place"] if len({row["place"] for row in rows}) == most else None)


def _alike(book: RuleBook, rule: str, devices: Iterable[int]) -> list[tuple[ClassWatch, Watch, list[int]]]:
    """Group devices by how a rule stands at them; those where it does not hold are left out."""
    found: dict[int, tuple[ClassWatch, Watch, list[int]]] = {}
    for device_id in devices:
        watched = book.own.get(device_id) or book.classes[rule.partition(".")[0]]
        watch = watched.watches.get(rule)
        if watch is not None:
            found.setdefault(id(watch), (watched, watch, []))[2].append(device_id)
    return list(found.values())


def _listed(watch: Watch, readings: Iterable[Reading], until: datetime, times: Times) -> list[Episode]:
    return list(episodes(watch.compiled, readings, until, times.open))


def _by_device(rows: Iterable[asyncpg.Record]) -> Iterator[tuple[int, list[asyncpg.Record]]]:
    for device_id, group in groupby(rows, key=lambda row: row["device_id"]):
        yield device_id, list(group)


def _metrics(watched: ClassWatch, watch: Watch) -> list[Metric]:
    keys = list(watch.masks) if watch.asked is not None else [watch.metric.key] if watch.metric is not None else []
    return [metric for key in keys if (metric := watched.device_class.metric(key)) is not None]


def _said(watched: ClassWatch, watch: Watch, rows: Iterable[Mapping[str, Any]]) -> Iterator[Reading]:
    """Read what the rows of one device say to a rule of levels, of several metrics, or of plausibility."""
    if watch.asked is not None:
        yield from _said_together(watched, watch, rows)
        return
    for row in rows:
        if watch.metric is None:
            yield Reading(row["clock"], row["said"] != 0)
        else:
            value = named(watch.metric, row[watch.metric.key])
            yield Reading(row["clock"], value, number(watch.metric, value))


def _said_together(watched: ClassWatch, watch: Watch, rows: Iterable[Mapping[str, Any]]) -> Iterator[Reading]:
    assert watch.asked is not None
    span = watch.rule.over or TOGETHER
    oldest_kept = span + span / _HEARTBEATS  # rows that change nothing are left out in between
    metrics = _metrics(watched, watch)
    latest: dict[str, tuple[datetime, Value]] = {}
    for row in rows:
        fresh = {each.key: named(each, row[each.key]) for each in metrics if row[each.key] is not None}
        latest.update((key, (row["clock"], value)) for key, value in fresh.items())
        holds = watch.asked({key: value for key, (at, value) in latest.items() if at >= row["clock"] - oldest_kept})
        if holds is not None:
            first = next(each for each in metrics if each.key in fresh)
            yield Reading(row["clock"], holds, number(first, fresh[first.key]))


def _of_spans(watch: Watch, rows: Iterable[Mapping[str, Any]], width: timedelta) -> Iterator[Reading]:
    names = [field.name for field in fields(Bucket)]
    buckets = (Bucket(*[row[name] for name in names]) for row in rows)
    for at, amount in spans(buckets, watch.rule.over, width):
        value = of_span(watch, amount)
        if value is not None:
            yield Reading(at, value, of_amount(value, amount))


def _of_area(watch: Watch, signals: Sequence[Signal]) -> Iterator[Reading]:
    """Say at each change of a device's rule whether the area's rule holds, as `zones.judge_area` would."""
    times = sorted({at for each in signals for at in (each.since, each.until) if at is not None})
    holding, began = False, NEVER
    for at in times:
        known = [
            Signal(each.source, each.since, each.until if each.until is not None and each.until <= at else None)
            for each in signals
            if each.since <= at and (each.until is None or each.until >= at - watch.rule.over)
        ]
        if holding:
            holding = still(watch.rule, began, known)
        else:
            holding = confirmed(known, watch.rule.least, watch.rule.over, fresh=watch.rule.fresh) is not None
            began = at if holding else began
        yield Reading(at, holding, float(len({each.source for each in known})))


def _code(watch: Watch, metrics: Sequence[Metric]) -> str:
    """Write an expression that is the same for two rows at which the rule's answer is the same."""
    if watch.asked is None and watch.metric is None:
        return "t.said <> 0"
    if watch.asked is None:
        return _level_code(watch, metrics[0])
    parts = [
        f"COALESCE(({_answer(term.comparison, metric, term.threshold, term.members)})::int, -1)"
        for term in terms_of(watch.rule.terms)
        for metric in metrics
        if metric.key == term.metric
    ]
    seconds = (watch.rule.over or TOGETHER).total_seconds() / _HEARTBEATS
    return f"ARRAY[{', '.join(parts)}, floor(extract(epoch FROM t.time) / {seconds})::bigint % 1000000]::bigint[]"


def _level_code(watch: Watch, metric: Metric) -> str:
    rule = watch.rule
    if rule.comparison not in {Comparison.ABOVE, Comparison.BELOW}:
        return f"({_answer(rule.comparison, metric, rule.threshold, rule.members)})::int"
    level, falling = float(rule.threshold), rule.comparison is Comparison.BELOW
    returns = level + rule.hysteresis if falling else level - rule.hysteresis
    value = as_said(metric, f't."{metric.key}"')
    beyond = [f"({value} {'<' if falling else '>'} {each!r})::int" for each in (level, returns)]
    steps = [f"({value} {'<=' if falling else '>='} {float(at)!r})::int" for at, _ in rule.steps]
    return " + ".join(beyond + steps)


def _answer(comparison: Comparison, metric: Metric, limit: Value, members: frozenset[Value]) -> str:
    value = as_said(metric, f't."{metric.key}"')
    if comparison in {Comparison.ABOVE, Comparison.BELOW}:
        return f"{value} {'>' if comparison is Comparison.ABOVE else '<'} {float(limit)!r}"
    among = sorted({number(metric, each) for each in (members or {limit})})
    return f"{value} IN ({', '.join(map(repr, among))})"
