"""`iot bench quiet`: what the default rules raise in a healthy city, where nothing is wrong.

A week of the simulated city's physics, each device at its profile's pace, checked as ingest checks and stored; then
each default rule tried over it (iot_core/alarms/trial.py, which tests hold against the rules as they judge live).
Silence is not tried: rows are thinner than devices speak, and no device of a healthy city falls silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.alarms.book import RuleBook
from iot_core.alarms.times import Times
from iot_core.alarms.trial import Raised, Trial, part_of
from iot_core.ingest.check import Checker
from iot_core.model import Comparison, Observation, Quality, Sample, Severity
from iot_core.opened import OpenedStore, open_store
from iot_core.profiles import Profiles, load
from iot_core.settings import Settings
from iot_core.store import due
from iot_core.store.connection import open_pool
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.refresh import Refresh
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tier import Tier
from simulators.bench import Say
from simulators.bench.filling import hour_ago
from simulators.bench.report import report
from simulators.bench.stage import EMBEDDED, database, scratch
from simulators.fleet import Planned, plan

MOST_A_DAY: Final = 10.0
_PART: Final = 200
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: devices, days, the fewest seconds between two rows of a device, the city's seed."""

    devices: int = 1_000
    days: int = 7
    every: int = 300
    seed: int = 7
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Store a healthy week and try every default rule; `ok`: at most ten alarms a day, none of them critical."""
    profiles, settings = load(), Settings()
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        pool = await stack.enter_async_context(open_pool(dsn, settings.store))
        store = await open_store(pool, settings, profiles)
        until = hour_ago()
        since = until - options.days * _DAY
        city = plan(profiles, devices=options.devices, seed=options.seed)
        async with pool.acquire() as connection:
            ids = await _register(connection, city, since)
            rows = await _fill(connection, store, city, ids, _Week(since, until, options.every), say)
            tried, raised = await _try(connection, profiles, since, until, say)
        server = store.found.server
    by_rule = Counter(rule for rule, _ in raised)
    by_severity = Counter(each.episode.severity for _, each in raised)
    a_day = len(raised) / options.days
    return report(
        "quiet", options, ok=a_day <= MOST_A_DAY and not by_severity[Severity.CRITICAL],
        versions={"postgresql": server.partition(" ")[0]}, rows=rows,
        rules_tried=tried, alarms=len(raised),
        alarms_a_day=round(a_day, 2), critical=by_severity[Severity.CRITICAL],
        by_rule=dict(by_rule.most_common()), by_severity={each.value: by_severity[each] for each in Severity},
    )  # fmt: skip


class _Week(msgspec.Struct, frozen=True):
    since: datetime
    until: datetime
    every: int

    def times(self, planned: Planned) -> Iterator[datetime]:
        """Give the times at which a device speaks."""
        step = max(planned.voice.profile.interval, self.every * _SECOND)
        at = self.since
        while at < self.until:
            yield at
            at += step


async def _register(connection: asyncpg.Connection, city: Sequence[Planned], since: datetime) -> dict[str, int]:
    """Register the city without secrets: nobody signs in."""
    places = sorted({each.building or each.ward for each in city})
    await connection.executemany("INSERT INTO iot.area (key, name) VALUES ($1, $1)", [(each,) for each in places])
    ids: dict[str, int] = {}
    for each in city:
        ids[each.key] = await connection.fetchval(
            "INSERT INTO iot.device (key, name, class_key, lifecycle, simulated, latitude, longitude, area_id)"
            " VALUES ($1, $2, $3, 'active', true, $4, $5, (SELECT id FROM iot.area WHERE key = $6)) RETURNING id",
            each.key, each.name, each.class_key, each.latitude, each.longitude, each.building or each.ward,
        )  # fmt: skip
    await connection.executemany(
        "INSERT INTO iot.unit (device_id, profile, address, mounted_from) VALUES ($1, $2, $3, $4)",
        [(ids[each.key], each.model, f"bench:{each.key}", since - _DAY) for each in city],
    )
    return ids


async def _fill(  # noqa: PLR0917 - whose rows, where, when
    connection: asyncpg.Connection,
    store: OpenedStore,
    city: Sequence[Planned],
    ids: Mapping[str, int],
    week: _Week,
    say: Say,
) -> int:
    """Store what each device says in the week, and the rollups over it."""
    weeks = sorted({week_of(week.since + number * _DAY) for number in range(-1, (week.until - week.since).days + 2)})
    if store.found.tier is Tier.PLAIN:
        for key in {each.class_key for each in city}:
            await ensure_partitions(connection, key, weeks)
    rows = 0
    for number, planned in enumerate(city, 1):
        table = store.tables[planned.class_key]
        said = list(_observations(Checker(table), planned, ids[planned.key], week))
        async with connection.transaction():
            await TelemetryTable(table).merge(connection, said)
        rows += len(said)
        say("bench_quiet.step_fill", number / len(city))
    for key in sorted({each.class_key for each in city}):
        await due.note(connection, [(key, week.since, week.until, "")])
    await Refresh(store.rollups, store.found.tier).once(connection)
    return rows


def _observations(checker: Checker, planned: Planned, device_id: int, week: _Week) -> Iterator[Observation]:
    told = frozenset(planned.voice.profile.metrics)
    for at in week.times(planned):
        values = {key: value for key, value in planned.physics.at(at).items() if key in told}
        kept, bad, problems = checker.values(Sample(values=values))
        assert not problems, (planned.key, problems)
        yield Observation(
            device_id=device_id, unit_id=0, class_key=planned.class_key, time=at, received_at=at + _SECOND, values=kept,
            quality=Quality.GOOD, bad=bad, simulated=True,
        )  # fmt: skip


async def _try(
    connection: asyncpg.Connection, profiles: Profiles, since: datetime, until: datetime, say: Say
) -> tuple[int, list[tuple[str, Raised]]]:
    """Try every default rule at every device; give how many rules, and what each raised."""
    book, times = RuleBook(profiles), Times()
    await book.load(connection)
    await times.load(connection)
    watches = [watch for watch in book.all() if watch.rule.comparison is not Comparison.SILENT]
    found: list[tuple[str, Raised]] = []
    for number, watch in enumerate(watches, 1):
        rule = watch.rule.key
        trial = Trial(connection=connection, book=book, times=times, rule=rule, since=since, until=until)
        after: int | None = None
        while True:
            part = await part_of(connection, watch, None, after, _PART)
            found += [(rule, each) for each in await trial.at(part)]
            after = part.place
            if after is None:
                break
        say("bench_quiet.step_try", number / len(watches))
    return len(watches), found
