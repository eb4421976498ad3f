"""What the tables knew before a batch: how far each metric had been judged, and which rows the batch repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.alarms.watch import ClassWatch, Watch
from iot_core.model import Metric, MetricType, Observation, Quality, Value

WHOLE_ROW: Final = ""
"""In place of a metric: any row of the device counts."""
_WIDER: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest value of a metric: measured when, on the rule clock when, what."""

    time: datetime
    clock: datetime
    value: Value


@dataclass(frozen=True, slots=True)
class History:
    """Per device: the rule clock of the newest usable reading of a metric, and the rows at the batch's own times."""

    last: Mapping[tuple[int, str], datetime] = field(default_factory=dict)
    rows: Mapping[tuple[int, datetime], asyncpg.Record] = field(default_factory=dict)

    def clock(self, observation: Observation) -> datetime:
        """Give the rule clock of a reading; a redelivered one keeps the arrival time of its first delivery."""
        row = self.rows.get((observation.device_id, observation.time))
        arrived = observation.received_at if row is None else min(row["received_at"], observation.received_at)
        return min(observation.time, arrived)

    def value(self, observation: Observation, metric: str) -> Value | None:
        """Give what is stored already for a metric at the observation's device and time."""
        row = self.rows.get((observation.device_id, observation.time))
        found: Value | None = None if row is None else row[metric]
        return found


async def before(
    connection: asyncpg.Connection,
    class_key: str,
    masks: Mapping[str, int],
    observations: Mapping[int, Sequence[Observation]],
) -> History:
    """Read, from one class's table, what was known of these devices. `masks`: metric -> its bit in `bad`."""
    clocks = {id_: min(min(each.time, each.received_at) for each in group) for id_, group in observations.items()}
    times = [(id_, each.time) for id_, group in observations.items() for each in group]
    newest = await connection.fetch(
        _newest(class_key, masks), list(clocks), list(clocks.values()), min(clocks.values()) - _WIDER
    )
    only = [time for _, time in times]
    rows = await connection.fetch(
        _same(class_key, masks), [id_ for id_, _ in times], only, min(only) - _WIDER, max(only) + _WIDER
    )
    return History(
        {
            (row["device_id"], metric): row[f"at_{index}"]
            for row in newest
            for index, metric in enumerate((WHOLE_ROW, *masks))
            if row[f"at_{index}"] is not None
        },
        {(row["device_id"], row["time"]): row for row in rows},
    )


async def value_since(connection: asyncpg.Connection, watch: Watch, device_id: int, since: datetime) -> Value | None:
    """Find the newest usable value of a rule's metric since a time."""
    assert watch.metric is not None
    metric = watch.metric.key
    found: Value | None = await connection.fetchval(
        f'SELECT "{metric}" FROM telemetry."{watch.class_key}" WHERE device_id = $1 AND time >= $2'
        f' AND "{metric}" IS NOT NULL AND quality <= {Quality.UNCERTAIN} AND bad & {watch.mask}::bigint = 0'
        " ORDER BY time DESC LIMIT 1",
        device_id,
        since,
    )
    return found


async def values_before(  # noqa: PLR0917 - whose, of what, since when
    connection: asyncpg.Connection, watched: ClassWatch, watch: Watch, device_id: int, first: datetime, span: timedelta
) -> dict[str, Newest]:
    """Find the newest usable value of each metric of a rule that is stored, as far back as `span` before `first`."""
    columns = ", ".join(
        f'(array_agg("{metric}" ORDER BY time DESC) FILTER (WHERE {said}))[1] AS value_{index},'
        f" (array_agg(least(time, received_at) ORDER BY time DESC) FILTER (WHERE {said}))[1] AS clock_{index},"
        f" max(time) FILTER (WHERE {said}) AS time_{index}"
        for index, (metric, mask) in enumerate(watch.masks.items())
        for said in [f'"{metric}" IS NOT NULL AND bad & {mask}::bigint = 0']
    )
    row = await connection.fetchrow(
        f'SELECT {columns} FROM telemetry."{watch.class_key}"'
        f" WHERE device_id = $1 AND time >= $2 AND quality <= {Quality.UNCERTAIN}",
        device_id,
        first - span,
    )
    found: dict[str, Newest] = {}
    for index, key in enumerate(watch.masks):
        metric = watched.device_class.metric(key)
        if row is not None and row[f"time_{index}"] is not None and metric is not None:
            value = named(metric, row[f"value_{index}"])
            found[key] = Newest(row[f"time_{index}"], row[f"clock_{index}"], value)
    return found


def named(metric: Metric, stored: Value) -> Value:
    """Give a stored value as readings have it: the name of an enum's number, the decimals that were stored."""
    if isinstance(stored, float):
        return round(stored, metric.precision) if metric.type is MetricType.FLOAT else stored
    names = {number: name for name, number in metric.members.items()}
    return names.get(int(stored), stored) if names else stored


def _newest(class_key: str, masks: Mapping[str, int]) -> str:
    """Look at rows from the batch's oldest clock on: what is older cannot make a reading late."""
    clock = "max(least(t.time, t.received_at))"
    columns = [f"{clock} AS at_0"]
    columns += [
        f'{clock} FILTER (WHERE t."{metric}" IS NOT NULL AND t.bad & {mask}::bigint = 0) AS at_{index}'
        for index, (metric, mask) in enumerate(masks.items(), 1)
    ]
    return (
        f"SELECT t.device_id, {', '.join(columns)} FROM unnest($1::integer[], $2::timestamptz[]) AS d (id, since)"
        f' JOIN telemetry."{class_key}" t ON t.device_id = d.id AND t.time >= d.since AND t.time >= $3'
        f" WHERE t.quality <= {Quality.UNCERTAIN} GROUP BY t.device_id"
    )


def _same(class_key: str, masks: Mapping[str, int]) -> str:
    columns = "".join(f', t."{metric}"' for metric in masks)
    return (
        f"SELECT t.device_id, t.time, t.received_at{columns}"
        " FROM unnest($1::integer[], $2::timestamptz[]) AS k (id, time)"
        f' JOIN telemetry."{class_key}" t ON t.device_id = k.id AND t.time = k.time AND t.time > $3 AND t.time < $4'
    )
