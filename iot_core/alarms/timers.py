"""What alarms do when nothing arrives: `for:` timers that fall due, silence, rules that nobody serves any more.

Timers are rows: they survive a crash. Nothing fires while ingest lags or broker or store are away, and after that,
as after our own start, every device first gets the time to speak: our outage is not the city's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import structlog

from iot_core.alarms.case import Case, Key, Occasion
from iot_core.alarms.computed import looks
from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.feeding import watch_centers
from iot_core.alarms.judge import show_value
from iot_core.alarms.ledger import lock
from iot_core.alarms.quiet import settle
from iot_core.alarms.rules import Phase, Step, fire, heard, overdue, withdraw
from iot_core.alarms.windows import quieted
from iot_core.cancelled import notice_cancellation
from iot_core.store.connection import AWAY, RETRY

log = structlog.get_logger()

_BATCH: Final = 500
_AT_ONCE: Final = 2_000
_MOST_BATCHES: Final = 20  # in one look; the next comes a second later
# One of the devices that a rule over devices ($3: their keys) counts there, or of an area's formula: the rule is as it
# stands at them.
_MEMBER: Final = """
LEFT JOIN LATERAL (
    SELECT d.id FROM iot.device d
    WHERE (r.source_kind = 'area' OR r.rule = ANY($3)) AND d.class_key = split_part(r.rule, '.', 1)
        AND ((r.source_kind = 'area' AND d.area_id = r.source_id)
            OR (r.source_kind = 'device' AND d.gateway_id = r.source_id)) AND d.retired_at IS NULL
    ORDER BY d.id LIMIT 1
) m ON true
"""
# A device that is still handing in what it kept (heard just now, of a time before the timer) speaks for itself.
DUE: Final = f"""
SELECT r.source_kind, r.source_id, r.rule, COALESCE(d.simulated, false) AS simulated, m.id AS member
FROM iot.rule_state r {_MEMBER}
LEFT JOIN iot.device d ON r.source_kind = 'device' AND d.id = r.source_id
LEFT JOIN iot.device_status s ON s.device_id = d.id
WHERE r.due_at <= $1 AND r.rule = ANY($2)
    AND NOT COALESCE(s.last_received_at > $4 AND s.last_time < r.due_at, false)
ORDER BY r.due_at LIMIT $5
"""
# Who may have fallen silent, and whose silence stands: few of a city that speaks. The rest is asked for these only.
# Each by the interval that its unit was set to, else by its model's: else a model of 30 s makes all meters of an hour
# look silent. `speaker` is the device whose unit speaks for it: a panel for its channels. Unless all are asked for
# ($7), those are left out of whom nothing new is known: all silences of their class ($8, so many: $9) stand, or
# their gateway's does. A dead district costs the core no more at each look than a living one.
QUIET: Final = """
WITH stands AS (
    SELECT source_id, count(*) AS rules, min(since) AS since FROM iot.rule_state
    WHERE source_kind = 'device' AND state = 'active' AND rule = ANY($2) GROUP BY source_id
)
SELECT f.device_id FROM (
    SELECT device_id, device_id AS speaker, profile FROM iot.unit WHERE mounted_to IS NULL
    UNION ALL SELECT c.device_id, u.device_id, u.profile FROM iot.channel c JOIN iot.unit u ON u.id = c.unit_id
    WHERE u.mounted_to IS NULL
) f
JOIN unnest($3::text[], $4::interval[]) AS p (profile, interval) ON p.profile = f.profile
LEFT JOIN iot.configured_interval c ON c.device_id = f.speaker
JOIN iot.device_status s ON s.device_id = f.device_id
    AND s.last_received_at < $1::timestamptz - COALESCE(c.every, p.interval) * $5::float8 - $6::interval
JOIN iot.device d ON d.id = f.device_id
JOIN unnest($8::text[], $9::integer[]) AS n (class_key, rules) ON n.class_key = d.class_key
LEFT JOIN stands ON stands.source_id = d.id
LEFT JOIN stands gateway ON gateway.source_id = d.gateway_id
WHERE $7 OR (COALESCE(stands.rules, 0) < n.rules AND (gateway.since < s.last_received_at) IS NOT FALSE)
UNION SELECT stands.source_id FROM stands LEFT JOIN iot.device_status s ON s.device_id = stands.source_id
WHERE $7 OR s.last_received_at > stands.since - interval '10 seconds'
"""
# One row for each of these whose silence and state disagree. `own` is when it falls silent by itself, `due` also counts
# the grace after our own absence; a silent gateway answers for the devices behind it, but not for one that was heard
# after it fell silent: that one has another way, and its own silence would never be told. Of a gateway that has said
# nothing since the device's next word was due nobody knows yet whether it lives: the device waits for it to speak or to
# fall silent too, as long again as it was waited for.
SILENCE: Final = """
SELECT w.*, COALESCE(CASE WHEN g.silent_since IS NOT NULL THEN g.silent_since >= w.last_received_at
    ELSE g.last_received_at < w.last_received_at + w.every AND $1 <= w.own + (w.own - w.last_received_at)
END, false) AS behind
FROM (
    SELECT d.id, d.gateway_id, d.simulated, p.rule, s.last_received_at, max(COALESCE(c.every, p.interval)) AS every,
        COALESCE(r.state, 'normal') = 'active' AS active,
        max(GREATEST(s.last_received_at, f.mounted_from) + q.patience) AS own,
        max(GREATEST(s.last_received_at, f.mounted_from) + q.patience) < $1
            AND max($2::timestamptz + q.grace) < $1 AS overdue,
        GREATEST(max(GREATEST(s.last_received_at, f.mounted_from) + q.patience), max($2::timestamptz + q.grace)) AS due
    FROM (
        SELECT device_id, device_id AS speaker, profile, mounted_from FROM iot.unit
        WHERE device_id = ANY($11::integer[]) AND mounted_to IS NULL
        UNION ALL SELECT c.device_id, u.device_id, u.profile, u.mounted_from
        FROM iot.channel c JOIN iot.unit u ON u.id = c.unit_id
        WHERE c.device_id = ANY($11) AND u.mounted_to IS NULL
    ) f
    JOIN iot.device d ON d.id = f.device_id AND d.lifecycle IN ('provisioned', 'active')
    JOIN unnest($3::text[], $4::text[], $5::text[], $6::interval[], $7::float8[], $8::interval[])
        AS p (rule, class_key, profile, interval, times, delay)
        ON p.profile = f.profile AND p.class_key = d.class_key
    LEFT JOIN unnest($12::integer[], $13::text[], $14::float8[], $15::interval[]) AS o (device_id, rule, times, delay)
        ON o.device_id = d.id AND o.rule = p.rule
    LEFT JOIN iot.configured_interval c ON c.device_id = f.speaker
    CROSS JOIN LATERAL (
        SELECT COALESCE(c.every, p.interval) * COALESCE(o.times, p.times) + COALESCE(o.delay, p.delay) AS patience,
            GREATEST($9::interval, COALESCE(c.every, p.interval) * $10::float8) AS grace
    ) q
    JOIN iot.device_status s ON s.device_id = d.id AND s.last_received_at IS NOT NULL
    LEFT JOIN iot.rule_state r ON r.source_kind = 'device' AND r.source_id = d.id AND r.rule = p.rule
    GROUP BY d.id, d.gateway_id, d.simulated, p.rule, s.last_received_at, r.state
) w
LEFT JOIN LATERAL (
    SELECT s.last_received_at, (
        SELECT max(r.since) FROM iot.rule_state r
        WHERE r.source_kind = 'device' AND r.source_id = d.id AND r.state = 'active' AND r.rule = ANY($3::text[])
    ) AS silent_since
    FROM iot.device d LEFT JOIN iot.device_status s ON s.device_id = d.id AND d.lifecycle IN ('provisioned', 'active')
    WHERE d.id = w.gateway_id
) g ON true
WHERE CASE WHEN w.active THEN w.own >= $1 ELSE w.overdue END ORDER BY w.gateway_id IS NOT NULL, w.id
"""
# Open states that no reading will ever change: the device is gone, does other work, or the rule is no more.
ORPHANS: Final = """
SELECT r.source_kind, r.source_id, r.rule, COALESCE(d.simulated, false) AS simulated,
    CASE WHEN d.id IS NULL OR d.lifecycle = 'retired' THEN 'retired' WHEN NOT r.rule = ANY($1) THEN 'rule'
        ELSE 'maintenance' END AS ended
FROM iot.rule_state r
LEFT JOIN iot.device d ON d.id = r.source_id
WHERE r.source_kind = 'device' AND r.state <> 'normal' AND (
    d.id IS NULL OR d.lifecycle = 'retired' OR NOT r.rule = ANY($1)
    OR (r.rule = ANY($2) AND d.lifecycle NOT IN ('provisioned', 'active')))
LIMIT $3
"""
# Open states of areas and gateways, with one device there; none, or no device's rule that it counts holds any more.
OVER_DEVICES: Final = f"""
SELECT r.source_kind, r.source_id, r.rule, false AS simulated, m.id AS member,
    NOT r.rule = ANY($1) OR EXISTS (
        SELECT FROM unnest($1::text[], $2::text[]) AS f (rule, fed)
        JOIN iot.rule_state a ON a.source_kind = 'device' AND a.rule = f.fed AND a.state = 'active'
        JOIN iot.device d ON d.id = a.source_id
            AND CASE WHEN r.source_kind = 'area' THEN d.area_id ELSE d.gateway_id END = r.source_id
        WHERE f.rule = r.rule) AS holds
FROM iot.rule_state r {_MEMBER}
WHERE r.state <> 'normal' AND NOT starts_with(r.rule, 'incident.')
    AND (r.source_kind = 'area' OR (r.source_kind = 'device' AND r.rule = ANY($3)))
"""
MARK_SILENT: Final = "UPDATE iot.device_status SET silent_since = $2 WHERE device_id = $1"

Clock = Callable[[], datetime]
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the clocks are looked at, and how long we wait after our own absence.

    `everyone`: those too of whose silence nothing new is known, as after a rule or an interval was changed.
    A device gets `grace_intervals` of its own intervals, at least `grace`; a `for:` timer gets `grace`. `settle` is
    how long after its last message a device counts as handing in what it kept.
    """

    timers: timedelta = timedelta(seconds=1)
    silence: timedelta = timedelta(seconds=5)
    everyone: timedelta = timedelta(seconds=60)
    computed: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(seconds=30)
    grace_intervals: float = 2.0
    settle: timedelta = timedelta(seconds=5)


DEFAULT_PACE: Final = Pace()


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def run_timers(
    pool: asyncpg.Pool,
    evaluator: Evaluator,
    healthy: Callable[[], bool],
    *,
    clock: Clock = _utc_now,
    pace: Pace = DEFAULT_PACE,
) -> None:
    """Fire timers and watch for silence until cancelled. `healthy` is False while ingest lags or a part is away."""
    timers = Timers(pool, evaluator, clock, pace)
    async with asyncio.TaskGroup() as group:  # what reads many days must not hold up a fire's timer
        group.create_task(_again(lambda: timers.look(healthy=healthy()), timers.away, pace), name="alarm timers")
        group.create_task(_again(timers.compute, timers.put_off, pace), name="alarm computed")


async def _again(work: Callable[[], Awaitable[None]], failed: Callable[[BaseException], None], pace: Pace) -> None:
    while True:
        try:
            await work()
        except (*AWAY, *RETRY) as exc:
            notice_cancellation()
            failed(exc)
        await asyncio.sleep(pace.timers.total_seconds())


@dataclass(slots=True)
class Timers:
    """One look after another at everything that is due. `watching_since` restarts after every absence."""

    pool: asyncpg.Pool
    evaluator: Evaluator
    clock: Clock
    pace: Pace = DEFAULT_PACE
    watching_since: datetime | None = None
    _silence_at: datetime | None = field(default=None, init=False)
    _everyone_at: datetime | None = field(default=None, init=False)
    _computed_at: datetime | None = field(default=None, init=False)
    _refreshed_at: datetime | None = field(default=None, init=False)

    def away(self, exc: BaseException) -> None:
        """Note that the store did not answer; everyone gets the grace time again."""
        if self.watching_since is not None and not isinstance(exc, RETRY):
            log.warning("alarm.timers_paused", reason=type(exc).__name__)
            self.watching_since = None

    async def look(self, *, healthy: bool) -> None:
        """Do what is due now."""
        now = self.clock()
        if not healthy:
            if self.watching_since is not None:
                log.warning("alarm.timers_paused", reason="ingest lags")
            self.watching_since = None
            return
        if self.watching_since is None:
            async with self.pool.acquire() as connection:
                await self.evaluator.refresh(connection)
            self.watching_since = now
            log.info("alarm.timers_running")
        if now >= self.watching_since + self.pace.grace:
            await self.fire_due(now)
        if self._silence_at is None or now >= self._silence_at:
            self._silence_at = now + self.pace.silence
            await self.watch_silence(now)
            await self.withdraw_orphans(now)
            await settle(self.pool, self.evaluator, now)
            await watch_centers(self.pool, now, self.watching_since)
        if self._refreshed_at is None or now >= self._refreshed_at:
            self._refreshed_at = now + self.pace.computed
            async with self.pool.acquire() as connection:
                await self.evaluator.refresh(connection)

    async def compute(self) -> None:
        """Step the rules that are answered from what is stored, when it is time to and nothing is away."""
        now = self.clock()
        if self.watching_since is not None and (self._computed_at is None or now >= self._computed_at):
            self._computed_at = now + self.pace.computed
            await self.judge_computed(now)

    def put_off(self, exc: BaseException) -> None:
        """Note that they could not be worked out; they are the next time."""
        log.warning("alarm.computed_put_off", reason=type(exc).__name__)

    async def fire_due(self, now: datetime) -> None:
        """Activate pending rules whose time has come."""
        for _ in range(_MOST_BATCHES):
            over = self.evaluator.over_devices()
            rows = await self.pool.fetch(DUE, now, self.evaluator.rules(), over, now - self.pace.settle, _BATCH)
            await self._step(rows, lambda case, _: fire(case.state, now), now)
            if len(rows) < _BATCH:
                return

    async def watch_silence(self, now: datetime) -> None:
        """Raise the silence of devices that are overdue, gateways first; clear it of those that were heard."""
        everyone = self._everyone_at is None or now >= self._everyone_at
        found = await self._disagreeing(now, everyone=everyone)
        if everyone:
            self._everyone_at = now + self.pace.everyone
        alone, behind = (
            [row for row in found if (row["gateway_id"] is not None) is behind_gateways]
            for behind_gateways in (False, True)
        )
        await self._silence_batches(alone, now)
        if alone and behind:  # a gateway that fell silent just now answers for them
            behind = [row for row in await self._disagreeing(now, everyone=everyone) if row["gateway_id"] is not None]
        await self._silence_batches(behind, now)

    async def judge_computed(self, now: datetime) -> None:
        """Step the rules that are answered from what is stored."""
        async with self.pool.acquire() as connection:
            found = await looks(connection, self.evaluator, now)
        keyed = [
            {"source_kind": kind, "source_id": source_id, "rule": look.rule, "simulated": look.simulated,
             "value": look.value, "look": look, "device_id": look.device_id}
            for look in found
            for kind, source_id in [look.source]
        ]  # fmt: skip
        for start in range(0, len(keyed), _BATCH):
            await self._step(keyed[start : start + _BATCH], lambda case, row: row["look"].step(case.state), now)

    async def _silence_batches(self, rows: Sequence[asyncpg.Record], now: datetime) -> None:
        for start in range(0, len(rows), _BATCH):
            await self._silence_batch(rows[start : start + _BATCH], now)

    async def _silence_batch(self, rows: Sequence[asyncpg.Record], now: datetime) -> None:
        keyed = [
            {"source_kind": "device", "source_id": row["id"], **row}
            for row in rows
            if row["active"] or not (row["behind"] or self.evaluator.watch(row["rule"], row["id"]) is None)
        ]

        def step(case: Case, row: _Row) -> Step:
            if row["active"]:
                return heard(case.state, row["last_received_at"])
            return overdue(case.state, row["due"], now)

        await self._step(keyed, step, now, _mark_silent)

    async def withdraw_orphans(self, now: datetime) -> None:
        """Return states to normal that no reading will change any more."""
        silences = [watch.rule.key for watch in self.evaluator.silences()]
        rows = await self.pool.fetch(ORPHANS, self.evaluator.rules(), silences, _BATCH)
        counted = [(watch.rule.key, fed) for watch in self.evaluator.book.all() for fed in watch.rule.rules]
        over = await self.pool.fetch(OVER_DEVICES, *_turned(counted, 2), self.evaluator.over_devices())
        areas = [
            row for row in over
            if row["member"] is None or not row["holds"] or self.evaluator.watch(row["rule"], row["member"]) is None
        ]  # fmt: skip

        async def mark(connection: asyncpg.Connection, cases: Sequence[Case]) -> None:
            await _mark_silent(connection, [case for case in cases if case.key[2] in silences])

        off = [
            {"source_kind": "device", "source_id": device_id, "rule": rule, "simulated": False, "ended": "rule"}
            for device_id, rule in self.evaluator.open_rules()
            if self.evaluator.watch(rule, device_id) is None
        ]
        await self._step([*rows, *areas[:_BATCH], *off[:_BATCH]], lambda case, _: withdraw(case.state, now), now, mark)

    async def _disagreeing(self, now: datetime, *, everyone: bool) -> list[asyncpg.Record]:
        silences, profiles = self.evaluator.silences(), self.evaluator.profiles.all()
        if not silences or not profiles:
            return []
        forms = self.evaluator.forms_of_silence()
        times, delay = min(float(rule.threshold) for rule in forms), min(rule.on_delay for rule in forms)
        quiet = await self.pool.fetch(
            QUIET, now, [each.rule.key for each in silences],
            [each.model for each in profiles], [each.interval for each in profiles], times, delay,
            everyone, *_turned([*Counter(each.class_key for each in silences).items()], 2),
        )  # fmt: skip
        ids = [row["device_id"] for row in quiet]
        if not ids:
            return []
        watched = [
            (
                watch.rule.key, watch.class_key, profile.model, profile.interval, float(watch.rule.threshold),
                watch.rule.on_delay,
            )
            for watch in silences
            for profile in profiles
        ]  # fmt: skip
        found: list[asyncpg.Record] = []
        for start in range(0, len(ids), _AT_ONCE):  # the loop has other work between them
            some = ids[start : start + _AT_ONCE]
            own = [
                (each, rule.key, float(rule.threshold), rule.on_delay)
                for each in some
                for rule in self.evaluator.silences_at(each)
            ]
            found += await self.pool.fetch(
                SILENCE, now, self.watching_since, *_turned(watched, 6), self.pace.grace, self.pace.grace_intervals,
                some, *_turned(own, 4),
            )  # fmt: skip
        return found

    async def _step(
        self,
        rows: Sequence[_Row],
        step: Callable[[Case, _Row], Step],
        now: datetime,
        also: Callable[[asyncpg.Connection, Sequence[Case]], Awaitable[None]] | None = None,
    ) -> None:
        """Lock these states, take one step each, write what changed; the cache follows after COMMIT."""
        by_key: dict[Key, _Row] = {(row["source_kind"], row["source_id"], row["rule"]): row for row in rows}
        if not by_key:
            return
        async with self.pool.acquire() as connection:
            async with connection.transaction():
                zones = await self.evaluator.zones(connection, by_key)
                keys = {*by_key, *self.evaluator.areas_of(zones, by_key)}  # rules over devices count timers too
                cases = await lock(connection, keys, keys)
                for key, case in cases.items():
                    if key in by_key:
                        await self._take(connection, case, by_key[key], step, now)
                await self.evaluator.judge_areas(connection, cases, zones, now)
                pending = await self.evaluator.write(connection, cases, now)
                if also is not None:
                    await also(connection, [case for case in cases.values() if case.dirty])
            self.evaluator.committed(pending)

    async def _take(
        self, connection: asyncpg.Connection, case: Case, row: _Row, step: Callable[[Case, _Row], Step], now: datetime
    ) -> None:
        state, transitions = step(case, row)
        kind, source_id, name = case.key
        device_id = source_id if kind == "device" else row.get("device_id")
        watch = self.evaluator.watch(name, row.get("member") or device_id)
        rule = watch.rule if watch is not None else None
        at = transitions[-1].at if transitions else now
        may_ring = rule is None or self.evaluator.times.open(rule.hours, at)
        if not may_ring and case.state.phase is not Phase.ACTIVE:
            state, transitions = withdraw(case.state, at)
        quiet, test = quieted(self.evaluator.window, source_id, at) if kind == "device" else (None, False)
        value = row.get("value")
        severity = watch.compiled.severity(value) if watch is not None and value is not None else None
        occasion = Occasion(
            received_at=now, now=now, simulated=row["simulated"], suppressed_by=quiet, test=test, value=value,
            severity=severity, ended=row.get("ended"),
        )  # fmt: skip
        case.move(rule, state, transitions, occasion)
        if severity is not None and case.state.phase is Phase.ACTIVE:
            case.rise(severity, at, occasion)
        await show_value(connection, watch, case)


async def _mark_silent(connection: asyncpg.Connection, cases: Sequence[Case]) -> None:
    """Keep the device's status in step with its silence."""
    silent = [(case.key[1], case.state.since if case.state.phase is Phase.ACTIVE else None) for case in cases]
    if silent:
        await connection.executemany(MARK_SILENT, silent)


def _turned(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Turn rows into columns, as `unnest` takes them."""
    return [[row[column] for row in rows] for column in range(width)]
