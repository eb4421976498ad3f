"""What the rollups of a class are made of, as SQL: kept tables, and the public views over what the tier uses.

telemetry.<class>            raw                       telemetry_rollup.<class>_1h     kept hours
  |                                                    telemetry_rollup.<class>_1d     kept civil days, made of hours
  +- hour of the zone -> civil day of the zone         telemetry_rollup.<class>_used   consumption of meters an hour
                                                       telemetry.<class>_1h, _1d       the views that people use

Neither rows of quality `calibration` or `bad` nor values with their `bad` bit enter; `uncertain` counts. A metric's
`bad` here is how many values of it were marked or came in a `bad` row; its share is of these and the counted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from iot_core.store.calendar import Calendar

SCHEMA: Final = "telemetry_rollup"
_IN_ORDER: Final = "ORDER BY 1, 2, time OFFSET 0"
"""Rows come to the aggregates sorted by device, bucket and time, so that the last of an array is the last value.

One sort for all metrics: `array_agg(x ORDER BY time)` sorts again for each, and took four times as long. OFFSET 0 keeps
the planner from pulling the query up and working each mask out once for every aggregate.
https://www.postgresql.org/docs/current/functions-aggregate.html, "from a sorted subquery"
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as its rollups see it. One that was taken out of its class stays, as its column does."""

    key: str
    bit: int
    sql_type: str
    counter: bool

    @property
    def is_enum(self) -> bool:
        """Whether its numbers are names: no minimum, maximum or average makes sense."""
        return self.sql_type == "smallint"

    @property
    def number_type(self) -> str:
        """The SQL type of its minimum, maximum and last value."""
        return "smallint" if self.sql_type == "boolean" else self.sql_type

    def kept(self) -> Iterator[tuple[str, str]]:
        """Name the columns kept of it, with their types; null is none or zero."""
        if not self.is_enum:
            yield f"{self.key}_min", self.number_type
            yield f"{self.key}_max", self.number_type
            yield f"{self.key}_sum", "double precision"
        yield f"{self.key}_count", "integer"
        yield f"{self.key}_last", self.number_type
        yield f"{self.key}_bad", "integer"

    def masked(self) -> str:
        """Write its value as a number where it counts, else null."""
        value = f'"{self.key}"' if self.sql_type != "boolean" else f'"{self.key}"::integer::smallint'
        return f"CASE WHEN quality < 2 AND bad & {1 << self.bit} = 0 THEN {value} END"

    def marked(self) -> str:
        """Write whether its value is one of the bad ones."""
        return f'"{self.key}" IS NOT NULL AND (quality = 3 OR (quality < 2 AND bad & {1 << self.bit} <> 0))'


@dataclass(frozen=True, slots=True)
class Rollup:
    """The rollups of one class in one calendar; every statement about them is written here."""

    class_key: str
    metrics: tuple[Metric, ...]
    calendar: Calendar

    @property
    def raw(self) -> str:
        return f'telemetry."{self.class_key}"'

    @property
    def hours(self) -> str:
        """The kept table of hours."""
        return f'{SCHEMA}."{self.class_key}_1h"'

    @property
    def days(self) -> str:
        """The kept table of civil days."""
        return f'{SCHEMA}."{self.class_key}_1d"'

    @property
    def used(self) -> str:
        """The kept table of what cumulative meters counted in an hour."""
        return f'{SCHEMA}."{self.class_key}_used"'

    @property
    def counters(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.counter)

    @property
    def days_are_aggregated(self) -> bool:
        """Whether TimescaleDB can hold its civil days as a continuous aggregate (see Calendar.day_bucket)."""
        return self.calendar.constant_offset is not None

    def kept(self) -> list[tuple[str, str]]:
        """Name the columns of the kept tables beside `time` and `device_id`, with their types."""
        return [("rows", "bigint"), *(column for metric in self.metrics for column in metric.kept())]

    def names(self) -> list[str]:
        return [name for name, _ in self.kept()]

    def from_raw(self, where: str) -> str:
        """Write the query that makes hours of raw rows."""
        inner = ", ".join(
            f'{each.masked()} AS "{each.key}", {each.marked()} AS "{each.key}_bad"' for each in self.metrics
        )
        outer = ", ".join(_aggregate(each) for each in self.metrics)
        return (
            f"SELECT hour AS time, device_id, count(*) AS rows, {outer} FROM ("
            f"SELECT device_id, {self.calendar.hour('time')} AS hour, {inner} FROM {self.raw} WHERE {where}"
            f" {_IN_ORDER}) r GROUP BY device_id, hour"
        )

    def from_hours(self, where: str, hours: str = "") -> str:
        """Write the query that makes civil days of hours, the kept ones unless others are named."""
        outer = ", ".join(_combine(each) for each in self.metrics)
        names = ", ".join(f'"{name}"' for name in self.names())
        return (
            f"SELECT day AS time, device_id, sum(rows)::bigint AS rows, {outer} FROM ("
            f"SELECT device_id, {self.calendar.day('time')} AS day, {names} FROM {hours or self.hours} h"
            f" WHERE {where} {_IN_ORDER}) r GROUP BY device_id, day"
        )

    def aggregate_of_raw(self) -> str:
        """Write the query of a continuous aggregate of hours; what it gives equals `from_raw`."""
        parts = ", ".join(_continuous(each) for each in self.metrics)
        bucket = self.calendar.hour_bucket("time")
        return f"SELECT {bucket} AS time, device_id, count(*) AS rows, {parts} FROM {self.raw} GROUP BY 1, 2"

    def aggregate_of_hours(self, hours: str) -> str:
        """Write the query of a continuous aggregate of civil days over one of hours."""
        parts = ", ".join(_combine(each, _last_by_time) for each in self.metrics)
        bucket = self.calendar.day_bucket("time")
        return f"SELECT {bucket} AS time, device_id, sum(rows)::bigint AS rows, {parts} FROM {hours} GROUP BY 1, 2"

    def from_meters(self, devices: str) -> str:
        """Write the query for consumption an hour, from $1 to $2; `devices` is `NULL` or `$3`."""
        steps = " UNION ALL ".join(
            f"SELECT device_id, time, '{each.key}' AS metric, consumption"
            f" FROM telemetry.meter_steps('{self.class_key}', '{each.key}', {devices}, $1, $2)"
            for each in self.counters
        )
        sums = ", ".join(
            f"sum(consumption) FILTER (WHERE metric = '{each.key}') AS \"{each.key}_consumption\""
            for each in self.counters
        )
        return f"SELECT {self.calendar.hour('time')} AS time, device_id, {sums} FROM ({steps}) s GROUP BY 1, 2"

    def used_names(self) -> list[str]:
        return [f"{each.key}_consumption" for each in self.counters]

    def view_of_hours(self, source: str) -> str:
        """Write the query of telemetry.<class>_1h over hours as kept."""
        return self._view(
            source,
            lambda name: f'(SELECT u."{name}" FROM {self.used} u WHERE u.device_id = r.device_id AND u.time = r.time)',
        )

    def view_of_days(self, source: str) -> str:
        """Write the query of telemetry.<class>_1d over days as kept."""
        return self._view(
            source,
            lambda name: (
                f'(SELECT sum(u."{name}") FROM {self.used} u WHERE u.device_id = r.device_id'
                f" AND u.time >= r.time AND u.time < {self.calendar.next_day('r.time')})"
            ),
        )

    def _view(self, source: str, consumption: Callable[[str], str]) -> str:
        shown = []
        for each in self.metrics:
            name = each.key
            if not each.is_enum:
                shown += [f'r."{name}_min"', f'r."{name}_max"', f'r."{name}_sum" / r."{name}_count" AS "{name}_avg"']
            counted, bad = f'COALESCE(r."{name}_count", 0)', f'COALESCE(r."{name}_bad", 0)'
            shown += [
                f'{counted}::bigint AS "{name}_count"',
                f'r."{name}_last"',
                f'{bad}::double precision / NULLIF({counted} + {bad}, 0) AS "{name}_bad_share"',
            ]
            if each.counter:
                shown.append(f'{consumption(f"{name}_consumption")} AS "{name}_consumption"')
        return f"SELECT r.time, r.device_id, r.rows, {', '.join(shown)} FROM {source} r"


def _aggregate(each: Metric) -> str:
    name = each.key
    parts = []
    if not each.is_enum:
        parts += [
            f'min("{name}") AS "{name}_min"',
            f'max("{name}") AS "{name}_max"',
            f'sum("{name}"::double precision) AS "{name}_sum"',
        ]
    parts += [
        f'NULLIF(count("{name}"), 0)::integer AS "{name}_count"',
        f'{_last(name)} AS "{name}_last"',
        f'NULLIF(count(*) FILTER (WHERE "{name}_bad"), 0)::integer AS "{name}_bad"',
    ]
    return ", ".join(parts)


def _continuous(each: Metric) -> str:
    name, value = each.key, each.masked()
    parts = []
    if not each.is_enum:
        parts += [
            f'min({value}) AS "{name}_min"',
            f'max({value}) AS "{name}_max"',
            f'sum(({value})::double precision) AS "{name}_sum"',
        ]
    parts += [
        f'NULLIF(count({value}), 0)::integer AS "{name}_count"',
        f'last({value}, time) FILTER (WHERE ({value}) IS NOT NULL) AS "{name}_last"',
        f'NULLIF(count(*) FILTER (WHERE {each.marked()}), 0)::integer AS "{name}_bad"',
    ]
    return ", ".join(parts)


def _combine(each: Metric, last: Callable[[str], str] | None = None) -> str:
    name = each.key
    parts = []
    if not each.is_enum:
        parts += [
            f'min("{name}_min") AS "{name}_min"',
            f'max("{name}_max") AS "{name}_max"',
            f'sum("{name}_sum") AS "{name}_sum"',
        ]
    parts += [
        f'sum("{name}_count")::integer AS "{name}_count"',
        f'{(last or _last)(f"{name}_last")} AS "{name}_last"',
        f'sum("{name}_bad")::integer AS "{name}_bad"',
    ]
    return ", ".join(parts)


def _last(column: str) -> str:
    """Write the last value of a column in the order its rows come in."""
    return f'(array_agg("{column}") FILTER (WHERE "{column}" IS NOT NULL))[count("{column}")]'


def _last_by_time(column: str) -> str:
    """Write the same with TimescaleDB's aggregate, which a continuous one can be made of."""
    return f'last("{column}", time) FILTER (WHERE "{column}" IS NOT NULL)'
