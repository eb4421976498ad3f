"""`iot telemetry`: what devices say, now and before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import LazyGroup, option
from iot_core.cli.buckets import LEVELS, is_row, show_buckets, time_or_gap, with_gaps
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, Stream, csv_lines, note, show_rows
from iot_core.cli.scope import area_option, class_option, from_option, to_option
from iot_core.cli.session import ask, chosen
from iot_core.cli.times import age, local, zone_name
from iot_core.cli.words import value, value_with_unit, word
from iot_core.messages import text, title

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["LATEST_COLUMNS", "telemetry"]

LATEST_COLUMNS: list[Column[shapes.Latest]] = [
    Column("cli.col_metric", lambda row: row.metric),
    Column("cli.col_value", value_with_unit, lambda row: "red" if row.bad else "", right=True),
    Column("cli.col_title", lambda row: title(row.title)),
    Column("cli.col_time", lambda row: local(row.time), whole=True, drop=1),
    Column("cli.col_age", lambda row: age(row.time)),
    Column("cli.col_quality", lambda row: text("cli.implausible") if row.bad else word("quality", row.quality)),
]

MANY_COLUMNS: list[Column[shapes.LatestOfMany]] = [
    Column("telemetry.col_device", lambda row: row.device, whole=True),
    Column("cli.col_time", lambda row: local(row.time), whole=True, drop=1),
    Column("cli.col_age", lambda row: age(row.time)),
    Column("telemetry.col_values", lambda row: _all_values(row)),  # noqa: PLW0108 - defined below
    Column("cli.col_quality", lambda row: word("quality", row.quality)),
]


def _all_values(row: shapes.LatestOfMany) -> str:
    said = [f"{key} {value(one)}{'(!)' if key in row.bad else ''}" for key, one in row.values.items()]
    said += [f"{each.metric} {value(each.value)}{'(!)' if each.bad else ''}" for each in row.earlier]
    return "  ".join(said)


@click.group(
    "telemetry",
    cls=LazyGroup,
    sources={
        "stats": "iot_core.cli.telemetry_stats:stats",
        "aqi": "iot_core.cli.telemetry_aqi:aqi",
        "completeness": "iot_core.cli.telemetry_completeness:completeness",
        "export": "iot_core.cli.telemetry_export:export",
        "import": "iot_core.cli.telemetry_import:load",
    },
    help=text("cli.help_telemetry"),
    examples=["iot telemetry latest aq-0012", "iot telemetry get aq-0012 --from 30d", "iot telemetry watch aq-0012"],
)
def telemetry() -> None:
    pass


@telemetry.command(
    "latest",
    help=text("cli.help_telemetry_latest"),
    examples=[
        "iot telemetry latest aq-0012",
        "iot telemetry latest --area ben-thanh",
        "iot telemetry latest --class water_meter --output json",
    ],
)
@click.argument("key", type=DEVICE, required=False)
@class_option
@area_option
def latest(key: str | None, class_key: str | None, area: str | None) -> None:
    if key is not None:
        one = key
        found = ask(lambda client: client.latest(one))
        show_rows(found.items, LATEST_COLUMNS, nothing="cli.telemetry_none_yet")
        return
    if class_key is None and area is None:
        raise click.UsageError(text("telemetry.which"))
    many = ask(lambda client: client.newest(class_key=class_key, area=area))
    show_rows(many.items, MANY_COLUMNS, nothing="telemetry.none_many")


@telemetry.command(
    "get",
    help=text("cli.help_telemetry_get"),
    examples=[
        "iot telemetry get aq-0012 --from 2h",
        "iot telemetry get aq-0012 --from 30d --metric pm25",
        "iot telemetry get aq-0012 --from 2025-06-01 --to 2025-06-08 --level raw --output csv > june.csv",
    ],
)
@click.argument("key", type=DEVICE)
@from_option
@to_option
@option("--metric", "metrics", multiple=True, metavar="METRIC", help=text("cli.opt_metric"))
@option("--level", type=click.Choice(LEVELS), help=text("telemetry.opt_level"))
@option("--limit", type=click.IntRange(1, 100_000), default=10_000, metavar="N", help=text("cli.opt_limit_rows"))
def get(
    key: str,
    *,
    start: datetime | None,
    end: datetime | None,
    metrics: tuple[str, ...],
    level: str | None,
    limit: int,
) -> None:
    from iot_core.api.shapes import Level

    asked = Level(level) if level else None
    found = ask(lambda client: client.telemetry(key, start=start, end=end, metrics=metrics, level=asked, limit=limit))
    if found.level is Level.RAW:
        _show_raw(found, metrics)
    else:
        show_buckets(found, metrics)
    if found.cut:
        click.echo(text("telemetry.cut", shown=len(found.items), key=key), err=True)


def _show_raw(found: shapes.Telemetry, metrics: tuple[str, ...]) -> None:
    keys = list(metrics) or list(dict.fromkeys(metric for row in found.items for metric in row.values))
    if chosen().output == "csv":
        click.echo(csv_lines(HEAD + keys, (_cells(row, keys) for row in found.items)), nl=False)
        return
    if found.items:
        note("telemetry.level_raw", zone=zone_name())
    show_rows(with_gaps(found.items, found.gaps), _columns(keys), nothing="cli.telemetry_none_then")


@telemetry.command(
    "watch",
    help=text("cli.help_telemetry_watch"),
    examples=["iot telemetry watch aq-0012", "iot telemetry watch aq-0012 sl-0101 --output json"],
)
@click.argument("keys", type=DEVICE, nargs=-1, required=True, metavar="KEY...")
def watch(keys: tuple[str, ...]) -> None:
    async def follow(client: Client) -> None:
        stream = Stream(["device", "time", "quality", "metric", "value", "bad"])
        async for reading in client.watch(*keys, connected=stream.begin, lost=stream.lost):
            stream.say(reading, _sentence(reading), _flat(reading))

    ask(follow)


HEAD = ["time", "received_at", "quality", "bad"]


def _cells(row: shapes.Row, keys: list[str]) -> list[object]:
    """Spread a row's values over columns, as a spreadsheet takes them; times in UTC."""
    fixed = [row.time.isoformat(), row.received_at.isoformat(), row.quality.value, " ".join(row.bad)]
    return [*fixed, *(row.values.get(key, "") for key in keys)]


def _columns(keys: list[str]) -> list[Column[shapes.Row | shapes.Gap]]:
    return [
        Column("cli.col_time", time_or_gap),
        *(_metric_column(key) for key in keys),
        Column("cli.col_quality", lambda row: word("quality", row.quality) if is_row(row) else ""),
    ]


def _metric_column(key: str) -> Column[shapes.Row | shapes.Gap]:
    return Column(
        key,
        lambda row: _marked(row, key) if is_row(row) else "",
        lambda row: "red" if is_row(row) and key in row.bad else "",
        right=True,
    )


def _marked(row: shapes.Row, key: str) -> str:
    """Say a value, with a mark on an implausible one that needs no colour."""
    return f"{value(row.values.get(key))}{'(!)' if key in row.bad else ''}"


def _sentence(reading: shapes.Reading) -> str:
    said = "  ".join(f"{key} {_marked(reading, key)}" for key in reading.values)
    mark = "" if reading.quality == "good" else f"  ({word('quality', reading.quality)})"
    return f"{local(reading.time)}  {reading.device}  {said}{mark}"


def _flat(reading: shapes.Reading) -> list[list[object]]:
    fixed = [reading.device, reading.time.isoformat(), reading.quality.value]
    return [[*fixed, key, one, key in reading.bad] for key, one in reading.values.items()]
