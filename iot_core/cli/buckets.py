"""Hours and days as tables and CSV, and gaps as lines between rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, TypeVar

import click

from iot_core.cli.output import Column, csv_lines, note, show_rows
from iot_core.cli.session import chosen
from iot_core.cli.times import local, span
from iot_core.cli.words import value
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iot_core.api import shapes

__all__ = ["LEVELS", "is_row", "show_buckets", "time_or_gap", "with_gaps"]

LEVELS = ("raw", "1h", "1d")
PARTS = ("min", "max", "avg", "last", "count", "bad", "used")

Timed = TypeVar("Timed", bound="shapes.Row | shapes.Bucket")


def is_row(row: Timed | shapes.Gap) -> TypeGuard[Timed]:
    """Say whether it is a row, not a gap between rows."""
    return hasattr(row, "time")


def with_gaps(rows: Sequence[Timed], gaps: Sequence[shapes.Gap]) -> list[Timed | shapes.Gap]:
    """Put gaps between the rows where a person reads; scripts get the rows alone."""
    if chosen().output != "table" or not rows:
        return list(rows)
    return sorted((*rows, *gaps), key=lambda each: each.time if is_row(each) else each.start)


def time_or_gap(row: Timed | shapes.Gap) -> str:
    """Write a row's time, or how long nothing was stored."""
    if is_row(row):
        return local(row.time)
    assert not hasattr(row, "time")
    return text("telemetry.gap", span=span(row.end - row.start), until=local(row.end))


def show_buckets(found: shapes.Telemetry, metrics: Sequence[str]) -> None:
    """Print hours or days in the form that was asked for."""
    keys = list(metrics) or list(dict.fromkeys(metric for each in found.buckets for metric in each.values))
    if chosen().output == "csv":
        head = ["time", *(f"{key}_{part}" for key in keys for part in PARTS)]
        click.echo(csv_lines(head, (_cells(each, keys) for each in found.buckets)), nl=False)
        return
    if found.buckets:
        note(f"telemetry.level_{found.level.value}", zone=found.zone)
    columns: list[Column[shapes.Bucket | shapes.Gap]] = [
        Column("cli.col_time", time_or_gap),
        *(Column(key, _said(key), right=True) for key in keys),
    ]
    show_rows(with_gaps(found.buckets, found.gaps), columns, nothing="cli.telemetry_none_then")


def _said(key: str) -> Callable[[shapes.Bucket | shapes.Gap], str]:
    def cell(row: shapes.Bucket | shapes.Gap) -> str:
        one = row.values.get(key) if is_row(row) else None
        return "" if one is None else _spread(one)

    return cell


def _spread(one: shapes.Spread) -> str:
    """Write a metric over a bucket: average and bounds, or its last value where these mean nothing."""
    if one.avg is None:
        return value(one.last)
    return f"{value(one.avg)} ({value(one.min)}..{value(one.max)})"


def _cells(bucket: shapes.Bucket, keys: Sequence[str]) -> list[object]:
    cells: list[object] = [bucket.time.isoformat()]
    for key in keys:
        one = bucket.values.get(key)
        cells += ["" if one is None or (found := getattr(one, part)) is None else found for part in PARTS]
    return cells
