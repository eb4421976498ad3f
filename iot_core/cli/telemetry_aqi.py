"""`iot telemetry aqi`: the air quality index of a station, by the hour and by the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, note, show_rows
from iot_core.cli.scope import from_option, to_option
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["aqi"]

_STEPS = ((50, "good"), (100, "moderate"), (150, "poor"), (200, "bad"), (300, "very_bad"), (500, "hazardous"))
_STYLES = {"good": "green", "moderate": "yellow", "poor": "dark_orange", "bad": "red", "very_bad": "magenta"}


@click.command(
    "aqi",
    cls=Command,
    help=text("aqi.help"),
    examples=["iot telemetry aqi aq-0012", "iot telemetry aqi aq-0012 --by day --from 30d --output csv"],
)
@click.argument("key", type=DEVICE)
@from_option
@to_option
@option("--by", type=click.Choice(("hour", "day")), default="hour", help=text("aqi.opt_by"))
def aqi(key: str, *, start: datetime | None, end: datetime | None, by: str) -> None:
    from iot_core.api import shapes

    asked = shapes.AqiQuery(start=start, end=end, by=by)  # type: ignore[arg-type]  # click.Choice has checked it
    found = ask(lambda client: client.aqi(key, asked))
    if found.items:
        note("aqi.source", source=found.source, zone=found.zone)
    show_rows(found.items, _COLUMNS, nothing="aqi.none")


def category(value: int) -> str:
    """Name the category of an index (QĐ 1459/QĐ-TCMT, table 1)."""
    return next(name for top, name in _STEPS if value <= top)


_COLUMNS: list[Column[shapes.Aqi]] = [
    Column("cli.col_time", lambda row: local(row.time), whole=True),
    Column("aqi.col_index", lambda row: row.value, right=True, whole=True),
    Column(
        "aqi.col_category",
        lambda row: text(f"aqi.{category(row.value)}"),
        lambda row: _STYLES.get(category(row.value), "bold red"),
    ),
    Column("aqi.col_dominant", lambda row: row.dominant),
    Column("aqi.col_parts", lambda row: ", ".join(f"{key} {value}" for key, value in row.parts.items()), drop=1),
]
