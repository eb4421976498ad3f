"""Rules that are answered from what is stored: rates, changes, what is stuck, spans, formulas, silence of one metric.

Worked out anew every half minute from the rows that are there then, so what arrives late corrects it; the rule clock is
the time of the look. Two workers that look at once find the same, and the state row's lock lets one of them write.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from iot_core.alarms import water_flows
from iot_core.alarms.episodes import Amount
from iot_core.alarms.rules import State, Step, heard, overdue, read
from iot_core.alarms.watch import ClassWatch, Watch, as_said
from iot_core.derived import vn_aqi
from iot_core.model import Comparison, Quality, Rollup, Value

if TYPE_CHECKING:
    from iot_core.alarms.evaluate import Evaluator

__all__ = ["DERIVED", "Look", "looks", "of_span", "work_out"]

_ENOUGH: Final = 0.75
"""Share of the span that its readings must reach over, for a mean to be one of that span."""
_ENOUGH_RATE: Final = 0.5
"""The same of a rate, which is the same over half of it: gauges that speak every 20 minutes reach over 40 of 60."""
_DECIMALS: Final = 4
"""Of means and rates, at least; two more than the metric's own."""
_RATES: Final = frozenset({Comparison.RATE_ABOVE, Comparison.RATE_BELOW})
_HOUR: Final = timedelta(hours=1)

# First and last by measured time; of what may be used only.
SPAN: Final = """
SELECT t.device_id, d.simulated, count(*) AS readings, min(t.time) AS since, max(t.time) AS until,
    min(v.value) AS lowest, max(v.value) AS highest, avg(v.value) AS mean,
    (array_agg(v.value ORDER BY t.time))[1] AS first, (array_agg(v.value ORDER BY t.time DESC))[1] AS last
FROM telemetry."{table}" t JOIN iot.device d ON d.id = t.device_id
CROSS JOIN LATERAL (SELECT {value} AS value) v
WHERE t.time > $1 AND t.time <= $2 AND t."{metric}" IS NOT NULL AND t.quality <= {usable} AND t.bad & {mask}::bigint = 0
    AND ($3::integer[] IS NULL OR t.device_id = ANY($3)) AND NOT t.device_id = ANY($4) AND d.retired_at IS NULL
GROUP BY t.device_id, d.simulated
"""
# Who is heard, and said this metric in the last week, but not for so many of its intervals.
SAID: Final = """
SELECT d.id AS device_id, d.simulated, said.at + patience AS due, said.at + patience < $2 AS silent
FROM unnest($6::text[], $7::interval[]) AS p (profile, interval)
JOIN iot.unit u ON u.profile = p.profile AND u.mounted_to IS NULL
JOIN iot.device d ON d.id = u.device_id AND d.class_key = $1 AND d.lifecycle IN ('provisioned', 'active')
LEFT JOIN iot.configured_interval c ON c.device_id = d.id
CROSS JOIN LATERAL (SELECT COALESCE(c.every, p.interval) * $3 AS patience) q
JOIN iot.device_status s ON s.device_id = d.id AND s.last_received_at + patience >= $2
CROSS JOIN LATERAL (
    SELECT max(least(t.time, t.received_at)) AS at FROM telemetry."{table}" t
    WHERE t.device_id = d.id AND t."{metric}" IS NOT NULL AND t.time > $2 - interval '7 days'
) said
WHERE said.at IS NOT NULL AND ($4::integer[] IS NULL OR d.id = ANY($4)) AND NOT d.id = ANY($5)
"""
THERE: Final = "SELECT id, simulated, area_id FROM iot.device WHERE id = ANY($1) AND retired_at IS NULL"
HOURS: Final = """
SELECT device_id, time, {columns} FROM telemetry."{table}_1h" WHERE time >= $1 AND time < $2
    AND ($3::integer[] IS NULL OR device_id = ANY($3))
"""
Only = Sequence[int] | None
"""Some devices of a class; None: all."""
Formula = Callable[[asyncpg.Connection, ClassWatch, datetime, Only], Awaitable[dict[int, float]]]


@dataclass(frozen=True, slots=True)
class Look:
    """What one rule finds at one device: whether it wants a step, and which. `area_id`: of a formula of an area."""

    device_id: int
    rule: str
    simulated: bool
    value: float | None
    step: Callable[[State], Step]
    area_id: int | None = None

    @property
    def source(self) -> tuple[str, int]:
        """Say whose alarm it is."""
        return ("device", self.device_id) if self.area_id is None else ("area", self.area_id)


async def looks(connection: asyncpg.Connection, evaluator: Evaluator, now: datetime) -> list[Look]:
    """Work out all such rules; give those that would change something."""
    found: list[Look] = []
    named = [list(evaluator.book.own), []]
    for watched, devices in evaluator.book.variants():
        for watch in watched.watches.values():
            if watch.is_computed:
                only = sorted(devices) if devices is not None else None
                beside = named[0] if devices is None else []
                found += await _of(connection, evaluator, watched, watch, _Scope(only, beside, now))
    return found


@dataclass(frozen=True, slots=True)
class _Scope:
    only: list[int] | None
    beside: list[int]
    now: datetime


async def _of(
    connection: asyncpg.Connection, evaluator: Evaluator, watched: ClassWatch, watch: Watch, scope: _Scope
) -> list[Look]:
    rule = watch.rule
    if rule.comparison is Comparison.SILENT:
        return await _silent(connection, evaluator, watch, scope)
    if rule.derived is not None:
        return await _of_formula(connection, evaluator, watched, watch, scope)
    return [
        Look(device_id, rule.key, simulated, number, _stepper(watch, scope.now, value))
        for device_id, simulated, value, number in await _spans(connection, watch, scope)
        if _has_step(watch, value, is_open=rule.key in evaluator.open_at(device_id))
    ]


async def _of_formula(
    connection: asyncpg.Connection, evaluator: Evaluator, watched: ClassWatch, watch: Watch, scope: _Scope
) -> list[Look]:
    formula, rule = watch.rule.derived or "", watch.rule.key
    values = await _derived(connection, evaluator, watched, formula, scope.now)
    beside = set(scope.beside)
    mine = [
        each for each in (values if scope.only is None else scope.only) if each in values and each not in beside
    ]  # fmt: skip
    of_areas = formula in _OF_AREAS
    differ = mine if of_areas else [
        each for each in mine if _has_step(watch, values[each], is_open=rule in evaluator.open_at(each))
    ]  # fmt: skip
    found: list[Look] = []
    for row in await connection.fetch(THERE, differ) if differ else []:
        value, area_id = values[row["id"]], row["area_id"] if of_areas else None
        is_open = rule in (evaluator.open_at(row["id"]) if area_id is None else evaluator.open_in(area_id))
        if _has_step(watch, value, is_open=is_open):
            found.append(
                Look(row["id"], rule, row["simulated"], shown(value), _stepper(watch, scope.now, value), area_id)
            )  # fmt: skip
    return found


def _has_step(watch: Watch, value: Value, *, is_open: bool) -> bool:
    """Say whether a value may change a rule's state: also while it is open, where it can rise, or leave and be back."""
    raises = watch.compiled.raises(value)
    return raises is not is_open or (raises and bool(watch.rule.off_delay or watch.rule.steps))


async def _derived(
    connection: asyncpg.Connection, evaluator: Evaluator, watched: ClassWatch, formula: str, now: datetime
) -> Mapping[int, float]:
    """Work a formula out, or give what was found a short while ago: all read many hours."""
    if formula not in DERIVED:
        return {}
    key = (watched.device_class.key, formula)
    at, found = evaluator.worked_out.get(key, (None, {}))
    if at is None or not at <= now < at + _KEPT:
        found = await work_out(connection, formula, watched, now, None)
        evaluator.worked_out[key] = (now, found)
    return found


async def work_out(
    connection: asyncpg.Connection, formula: str, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """Work a formula out with the seven digits that four bytes keep."""
    found = await DERIVED[formula](connection, watched, now, only)
    return {device_id: float(f"{value:.7g}") for device_id, value in found.items()}


def _stepper(watch: Watch, now: datetime, value: Value) -> Callable[[State], Step]:
    return lambda state: read(watch.compiled, state, now, value)


def shown(value: Value) -> float | None:
    """Give the number that an alarm carries."""
    return None if isinstance(value, str) else float(value)


def of_amount(value: Value, amount: Amount) -> float | None:
    """Give the number that an alarm carries: of what is stuck or changed, where it stands."""
    return amount.last if isinstance(value, bool) else shown(value)


async def _spans(
    connection: asyncpg.Connection, watch: Watch, scope: _Scope
) -> list[tuple[int, bool, Value, float | None]]:
    """Give each device with its answer, and the number that an alarm of it carries."""
    metric = watch.metric
    assert metric is not None
    sql = SPAN.format(
        table=watch.class_key, metric=metric.key, value=as_said(metric, f't."{metric.key}"'),
        usable=int(Quality.UNCERTAIN), mask=watch.mask,
    )  # fmt: skip
    rows = await connection.fetch(sql, scope.now - watch.rule.over, scope.now, scope.only, scope.beside)
    found: list[tuple[int, bool, Value, float | None]] = []
    for row in rows:
        amount = _amount(row)
        if (value := of_span(watch, amount)) is not None:
            found.append((row["device_id"], row["simulated"], value, of_amount(value, amount)))
    return found


def _amount(row: asyncpg.Record) -> Amount:
    return Amount(**{field.name: row[field.name] for field in fields(Amount)})


def of_span(watch: Watch, amount: Amount) -> Value | None:
    """Answer a rule from what the readings of its span amount to; None when they reach over too little of it."""
    value = _answer(watch, amount)
    decimals = watch.metric.precision if watch.metric is not None else 0
    # A mean of three times 0.1 is 0.1, which is not above 0.1.
    return round(value, max(_DECIMALS, decimals + 2)) if isinstance(value, float) else value


def _answer(watch: Watch, amount: Amount) -> Value | None:
    rule = watch.rule
    reach = amount.until - amount.since
    if rule.comparison is Comparison.CHANGED:
        return amount.lowest != amount.highest
    if reach < rule.over * (_ENOUGH_RATE if rule.comparison in _RATES else _ENOUGH) or amount.readings < 2:
        return None
    if rule.comparison is Comparison.STUCK:
        return amount.lowest == amount.highest
    if rule.comparison in _RATES:
        return (amount.last - amount.first) / (reach / _HOUR)
    value = _rolled_up(rule.rollup, amount)
    if rule.times is not None:
        return amount.last / value if value else None
    return value


def _rolled_up(rollup: Rollup | None, amount: Amount) -> float:
    if rollup is Rollup.INCREASE:
        return amount.last - amount.first
    return {Rollup.LOWEST: amount.lowest, Rollup.HIGHEST: amount.highest}.get(rollup or Rollup.MEAN, amount.mean)


async def _silent(connection: asyncpg.Connection, evaluator: Evaluator, watch: Watch, scope: _Scope) -> list[Look]:
    assert watch.metric is not None
    profiles = list(evaluator.profiles.all())
    rows = await connection.fetch(
        SAID.format(table=watch.class_key, metric=watch.metric.key),
        watch.class_key, scope.now, float(watch.rule.threshold), scope.only, scope.beside,
        [each.model for each in profiles], [each.interval for each in profiles],
    )  # fmt: skip
    return [
        Look(row["device_id"], watch.rule.key, row["simulated"], None, _silence_step(row, scope.now))
        for row in rows
        if row["silent"] is not (watch.rule.key in evaluator.open_at(row["device_id"]))
    ]


def _silence_step(row: asyncpg.Record, now: datetime) -> Callable[[State], Step]:
    if row["silent"]:
        return lambda state: overdue(state, row["due"], now)
    return lambda state: heard(state, now)


async def _aqi_hourly(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """VN_AQI of the last whole hour, by nowcast (iot_core/derived/vn_aqi.py)."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    found: dict[int, float] = {}
    for device_id, hours in (await _pollutants(connection, watched, hour - 12 * _HOUR, hour, only)).items():
        back = [hour - age * _HOUR for age in range(1, vn_aqi.NOWCAST_HOURS + 1)]
        said = {key: [hours.get(at, {}).get(key) for at in back] for key in _POLLUTANTS}
        one = vn_aqi.hourly(said)
        if one is not None:
            found[device_id] = float(one.value)
    return found


async def _aqi_daily(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """VN_AQI of the last whole civil day of Vietnam's clocks (UTC+7, without summer time)."""
    end = (now + 7 * _HOUR).replace(hour=0, minute=0, second=0, microsecond=0) - 7 * _HOUR
    start = end - 24 * _HOUR
    found: dict[int, float] = {}
    for device_id, hours in (await _pollutants(connection, watched, start - 7 * _HOUR, end, only)).items():
        day = {key: [hours.get(start + n * _HOUR, {}).get(key) for n in range(24)] for key in _POLLUTANTS}
        day["o3"] = [hours.get(start + n * _HOUR, {}).get("o3") for n in range(-7, 24)]
        one = vn_aqi.daily(day)
        if one is not None:
            found[device_id] = float(one.value)
    return found


async def _pollutants(
    connection: asyncpg.Connection, watched: ClassWatch, start: datetime, end: datetime, only: Only
) -> dict[int, dict[datetime, dict[str, float]]]:
    """Give the hourly means of what an index is made of, by the pollutant's name."""
    found = await _hours(connection, watched, start, end, tuple(f"{metric}_avg" for metric in _POLLUTANTS), only=only)
    return {
        device_id: {
            at: {name.removesuffix("_avg"): value for name, value in hour.items()} for at, hour in hours.items()
        }
        for device_id, hours in found.items()
    }


async def _hours(
    connection: asyncpg.Connection,
    watched: ClassWatch,
    start: datetime,
    end: datetime,
    columns: Sequence[str],
    *,
    only: Only,
) -> dict[int, dict[datetime, dict[str, float]]]:
    """Read these columns of the class's hours, as far as it has the metrics."""
    metrics = {metric.key for metric in watched.device_class.metrics}
    there = [column for column in columns if column.rpartition("_")[0] in metrics]
    if not there:
        return {}
    named = ", ".join(f'"{column}"' for column in there)
    rows = await connection.fetch(HOURS.format(columns=named, table=watched.device_class.key), start, end, only)
    found: dict[int, dict[datetime, dict[str, float]]] = {}
    for row in rows:
        said = {column: row[column] for column in there if row[column] is not None}
        found.setdefault(row["device_id"], {})[row["time"]] = said
    return found


_POLLUTANTS: Final = (*vn_aqi.PARTICLES, *vn_aqi.GASES, "o3")
DERIVED: Final[Mapping[str, Formula]] = {
    "vn_aqi_hourly": _aqi_hourly,
    "vn_aqi_daily": _aqi_daily,
    "continuous_flow": water_flows.continuous_flow,
    "burst_flow": water_flows.burst_flow,
    "night_flow_ratio": water_flows.night_flow_ratio,
    "dma_night_flow": water_flows.dma_night_flow,
}
"""Formulas that a rule can name."""
_OF_AREAS: Final = frozenset({"dma_night_flow"})
"""Formulas of an area, which a device in it stands for: its alarm is the area's."""
_KEPT: Final = timedelta(minutes=10)
"""How long a result of whole hours holds: what late readings correct may be that old."""
