"""Commands that a later reading shows done: the first reading after the sending that says what was wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from iot_core.model import CommandType, Metric, MetricType, Value, is_metric_key
from iot_core.registry.commands import Open, Step, open_by_reading

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

    from iot_core.model import DeviceClass

__all__ = ["shown", "wanted"]

_SINGLE: Final = 1e-6
"""What a value loses in a column of single precision."""
# Measured and received after the sending: what a device still had queued shows nothing.
_READING: Final = """
SELECT asked.id, reading.time, {columns} FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[])
    AS asked (id, device_id, sent_at)
CROSS JOIN LATERAL (
    SELECT time, {columns} FROM telemetry.{table} t
    WHERE t.device_id = asked.device_id AND t.time > asked.sent_at AND t.received_at > asked.sent_at AND t.quality < 2
        AND {said}
    ORDER BY t.time DESC LIMIT 1
) reading
"""


def wanted(
    kind: CommandType, device_class: DeviceClass, params: Mapping[str, Value]
) -> dict[str, tuple[float, float]] | None:
    """Say which reading shows a command done: metric -> lowest and highest; None where none does."""
    found: dict[str, tuple[float, float]] = {}
    for key, param in kind.done.items():
        metric = device_class.metric(key)
        if metric is None:
            return None
        number = _number(metric, params[param])
        slack = 0.0 if metric.type in {MetricType.BOOL, MetricType.ENUM} else _slack(metric, kind.tolerance, number)
        found[key] = (number - slack, number + slack)
    return found or None


def _number(metric: Metric, value: Value) -> float:
    return float(metric.members[value]) if isinstance(value, str) else float(value)


def _slack(metric: Metric, tolerance: float, number: float) -> float:
    rounding = 0.5 * 10.0**-metric.precision if metric.type is MetricType.FLOAT else 0.0
    return tolerance + rounding + _SINGLE * abs(number)


async def shown(connection: asyncpg.Connection) -> list[Step]:
    """Find open commands that readings show done by now."""
    alike: dict[tuple[str, tuple[str, ...]], list[Open]] = defaultdict(list)
    for each in await open_by_reading(connection):
        alike[each.class_key, tuple(sorted(each.wanted))].append(each)
    steps: list[Step] = []
    for (class_key, metrics), commands in alike.items():
        steps += await _steps(connection, class_key, metrics, commands)
    return steps


async def _steps(
    connection: asyncpg.Connection, class_key: str, metrics: tuple[str, ...], commands: list[Open]
) -> list[Step]:
    if not all(is_metric_key(name) for name in (class_key, *metrics)):  # they stand in a statement
        return []
    columns = ", ".join(f'"{name}"' for name in metrics)
    said = " AND ".join(f'"{name}" IS NOT NULL' for name in metrics)
    statement = _READING.format(columns=columns, table=f'"{class_key}"', said=said)
    rows = await connection.fetch(
        statement,
        [each.id for each in commands], [each.device_id for each in commands], [each.sent_at for each in commands],
    )  # fmt: skip
    by_id = {each.id: each for each in commands}
    return [
        _step(row["id"], row["time"])
        for row in rows
        if all(low <= float(row[name]) <= high for name, (low, high) in by_id[row["id"]].wanted.items())
    ]


def _step(command_id: int, time: datetime) -> Step:
    return Step(id=command_id, state="succeeded", at=time, problem={"code": "command.shown", "facts": {}})
