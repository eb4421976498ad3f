"""`iot telemetry`: what devices say, now and before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, Stream, csv_lines, show_rows
from iot_core.cli.session import ask, chosen
from iot_core.cli.times import When, age, local
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


@click.group(
    "telemetry",
    cls=Group,
    help=text("cli.help_telemetry"),
    examples=["iot telemetry latest aq-0012", "iot telemetry get aq-0012 --from 2h", "iot telemetry watch aq-0012"],
)
def telemetry() -> None:
    pass


@telemetry.command(
    "latest",
    help=text("cli.help_telemetry_latest"),
    examples=["iot telemetry latest aq-0012", "iot telemetry latest aq-0012 --output json"],
)
@click.argument("key", type=DEVICE)
def latest(key: str) -> None:
    found = ask(lambda client: client.latest(key))
    show_rows(found.items, LATEST_COLUMNS, nothing="cli.telemetry_none_yet")


@telemetry.command(
    "get",
    help=text("cli.help_telemetry_get"),
    examples=[
        "iot telemetry get aq-0012 --from 2h",
        "iot telemetry get aq-0012 --from 2025-06-01 --to 2025-06-08 --metric pm25 --output csv > june.csv",
    ],
)
@click.argument("key", type=DEVICE)
@option("--from", "start", type=When(), metavar="WHEN", help=text("cli.opt_from"))
@option("--to", "end", type=When(), metavar="WHEN", help=text("cli.opt_to"))
@option("--metric", "metrics", multiple=True, metavar="METRIC", help=text("cli.opt_metric"))
@option("--limit", type=click.IntRange(1, 100_000), default=10_000, metavar="N", help=text("cli.opt_limit_rows"))
def get(key: str, start: datetime | None, end: datetime | None, metrics: tuple[str, ...], limit: int) -> None:
    found = ask(lambda client: client.telemetry(key, start=start, end=end, metrics=metrics, limit=limit))
    keys = list(metrics) or list(dict.fromkeys(metric for row in found.items for metric in row.values))
    if chosen().output == "csv":
        click.echo(csv_lines(HEAD + keys, (_cells(row, keys) for row in found.items)), nl=False)
        return
    show_rows(found.items, _columns(keys), nothing="cli.telemetry_none_then")


@telemetry.command(
    "watch",
    help=text("cli.help_telemetry_watch"),
    examples=["iot telemetry watch aq-0012", "iot telemetry watch aq-0012 sl-0101 --output json"],
)
@click.argument("keys", type=DEVICE, nargs=-1, required=True, metavar="KEY...")
def watch(keys: tuple[str, ...]) -> None:
    async def follow(client: Client) -> None:
        stream = Stream(["device", "time", "quality", "metric", "value", "bad"])
        async for reading in client.watch(*keys, connected=stream.begin):
            stream.say(reading, _sentence(reading), _flat(reading))

    ask(follow)


HEAD = ["time", "received_at", "quality", "bad"]


def _cells(row: shapes.Row, keys: list[str]) -> list[object]:
    """Spread a row's values over columns, as a spreadsheet takes them; times in UTC."""
    fixed = [row.time.isoformat(), row.received_at.isoformat(), row.quality.value, " ".join(row.bad)]
    return [*fixed, *(row.values.get(key, "") for key in keys)]


def _columns(keys: list[str]) -> list[Column[shapes.Row]]:
    return [
        Column("cli.col_time", lambda row: local(row.time)),
        *(_metric_column(key) for key in keys),
        Column("cli.col_quality", lambda row: word("quality", row.quality)),
    ]


def _metric_column(key: str) -> Column[shapes.Row]:
    return Column(
        key,
        lambda row: value(row.values.get(key)),
        lambda row: "red" if key in row.bad else "",
        right=True,
    )


def _sentence(reading: shapes.Reading) -> str:
    said = "  ".join(f"{key} {value(one)}{'(!)' if key in reading.bad else ''}" for key, one in reading.values.items())
    mark = "" if reading.quality == "good" else f"  ({word('quality', reading.quality)})"
    return f"{local(reading.time)}  {reading.device}  {said}{mark}"


def _flat(reading: shapes.Reading) -> list[list[object]]:
    fixed = [reading.device, reading.time.isoformat(), reading.quality.value]
    return [[*fixed, key, one, key in reading.bad] for key, one in reading.values.items()]
