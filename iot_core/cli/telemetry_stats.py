"""`iot telemetry stats`: aggregates of a span over one device or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.buckets import LEVELS
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, note, show_rows
from iot_core.cli.scope import area_option, class_option, from_option, to_option
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.cli.words import symbol, value
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["stats"]


@click.command(
    "stats",
    cls=Command,
    help=text("telemetry.help_stats"),
    examples=[
        "iot telemetry stats aq-0012 --from 30d",
        "iot telemetry stats --class air_quality --area ben-thanh --from 7d --metric pm25 --by device",
        "iot telemetry stats --class water_meter --from 2025-06-01 --to 2025-07-01 --by time --output csv",
        "iot telemetry stats --class streetlight --area 193 --areas then --from 2025-01-01 --to 2025-07-01",
    ],
)
@click.argument("keys", type=DEVICE, nargs=-1, metavar="[KEY]...")
@class_option
@area_option
@from_option
@to_option
@option("--metric", "metrics", multiple=True, metavar="METRIC", help=text("cli.opt_metric"))
@option("--level", type=click.Choice(LEVELS), help=text("telemetry.opt_level"))
@option("--by", type=click.Choice(("all", "device", "time")), default="all", help=text("telemetry.opt_by"))
@option("--areas", type=click.Choice(("now", "then")), default="now", help=text("telemetry.opt_areas"))
def stats(
    keys: tuple[str, ...],
    *,
    class_key: str | None,
    area: str | None,
    start: datetime | None,
    end: datetime | None,
    metrics: tuple[str, ...],
    level: str | None,
    by: str,
    areas: str,
) -> None:
    from iot_core.api import shapes

    if not (keys or class_key or area):
        raise click.UsageError(text("telemetry.which"))
    asked = shapes.StatsQuery(
        devices=",".join(keys) or None,
        class_key=class_key,
        area=area,
        start=start,
        end=end,
        metrics=",".join(metrics) or None,
        level=shapes.Level(level) if level else None,
        by=by,  # type: ignore[arg-type]  # click.Choice has checked it
        areas=areas,  # type: ignore[arg-type]  # as above
    )
    found = ask(lambda client: client.stats(asked))
    if found.items:
        span = {"start": local(found.start), "end": local(found.end)}
        note("telemetry.span_of", **span, level=found.level.value, zone=found.zone)
    show_rows(found.items, _columns(by), nothing="telemetry.stats_none")


def _columns(by: str) -> list[Column[shapes.Stat]]:
    group: dict[str, list[Column[shapes.Stat]]] = {
        "all": [Column("telemetry.col_devices", lambda row: row.devices, right=True, drop=2)],
        "device": [Column("telemetry.col_device", lambda row: row.device, whole=True)],
        "time": [
            Column("cli.col_time", lambda row: local(row.time), whole=True),
            Column("telemetry.col_devices", lambda row: row.devices, right=True, drop=2),
        ],
    }
    return [
        *group[by],
        Column("cli.col_metric", lambda row: f"{row.metric} {symbol(row.ucum)}".rstrip()),
        Column("telemetry.col_min", lambda row: value(row.min), right=True, whole=True),
        Column("telemetry.col_avg", lambda row: value(row.avg), right=True, whole=True),
        Column("telemetry.col_max", lambda row: value(row.max), right=True, whole=True),
        Column("telemetry.col_last", lambda row: value(row.last), right=True, drop=4),
        Column("telemetry.col_used", lambda row: value(row.used), right=True, drop=3),
        Column("telemetry.col_count", lambda row: row.count, right=True, drop=1),
        Column("telemetry.col_bad", lambda row: row.bad, lambda row: "red" if row.bad else "", right=True, drop=5),
    ]
