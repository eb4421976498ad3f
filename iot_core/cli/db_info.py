"""`iot db info`: tier, relations, sizes, growth, and how long the disk lasts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option
from iot_core.cli.database import on_database
from iot_core.cli.output import Column, fact_lines, print_rows, show_one
from iot_core.cli.session import state_dir
from iot_core.messages import text

if TYPE_CHECKING:
    import asyncpg

    from iot_core.settings import Settings
    from iot_core.store.info import ClassInfo, Info

__all__ = ["info"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@click.command(
    "info",
    cls=Command,
    shown=("--state", "--output"),
    help=text("db.help_info"),
    examples=["iot db info", "iot db info --output json", "iot db info --disk-free 200"],
)
@config_option
@option("--disk-free", "free_gb", type=click.FloatRange(min=0), metavar="GB", help=text("db.opt_disk_free"))
def info(path: Path | None, free_gb: float | None) -> None:
    async def read(connection: asyncpg.Connection, settings: Settings) -> Info:
        from iot_core.store.info import read_info
        from iot_core.store.tables import stored_rollups
        from iot_core.store.tier import find_tier

        rollups = await stored_rollups(connection)
        return await read_info(
            connection,
            await find_tier(connection),
            rollups.values(),
            settings.retention,
            now=datetime.now(UTC),
            disk_free=_free(free_gb, settings),
        )

    found = on_database(path, read)
    show_one(found, lambda: _print(found))


def _free(given: float | None, settings: Settings) -> int | None:
    """Give the free bytes: what was said, else those of the embedded database's disk."""
    from iot_core.store.info import free_bytes

    return free_bytes(settings, state_dir()) if given is None else int(given * 1e9)


def _print(found: Info) -> None:
    version = found.server.partition(" ")[0]
    extension = f" + TimescaleDB {found.timescaledb}" if found.timescaledb else ""
    if found.days_until_full is not None:
        full = text("db.days", days=found.days_until_full)
    else:
        full = text("db.not_within_ten_years" if found.disk_free_bytes is not None else "db.disk_not_seen")
    fact_lines(
        [
            ("db.fact_tier", f"{text(f'db.tier.{found.tier}')} (PostgreSQL {version}{extension})"),
            ("db.fact_zone", found.timezone),
            ("db.fact_size", size(found.database_bytes)),
            ("db.fact_growth", text("db.a_day", size=size(found.bytes_per_day))),
            ("db.fact_free", "-" if found.disk_free_bytes is None else size(found.disk_free_bytes)),
            ("db.fact_full", full),
        ]
    )
    click.echo()
    said = [each for each in found.classes if each.rows] or found.classes
    print_rows(said, _COLUMNS)
    click.echo()
    click.echo(text("db.relations"))


def size(number: float) -> str:
    """Write a number of bytes for people."""
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def _each(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


_COLUMNS: list[Column[ClassInfo]] = [
    Column("db.col_class", lambda each: each.device_class),
    Column("db.col_rows", lambda each: f"{each.rows:,}", right=True, drop=3),
    Column("db.col_raw", lambda each: size(each.raw_bytes), right=True, whole=True),
    Column("db.col_rollups", lambda each: size(each.rollup_bytes), right=True, whole=True, drop=4),
    Column("db.col_reading", lambda each: _each(each.bytes_per_reading), right=True, drop=5),
    Column("db.col_compressed", lambda each: _each(each.compressed_bytes_per_reading), right=True, drop=6),
    Column("db.col_since", lambda each: each.oldest, drop=2),
    Column("db.col_kept", lambda each: text("db.days", days=each.raw_days), right=True, whole=True),
    Column(
        "db.col_a_day", lambda each: size(each.raw_bytes_per_day + each.rollup_bytes_per_day), right=True, whole=True
    ),
    Column("db.col_year_more", lambda each: size(each.bytes_of_one_more_year), right=True, whole=True),
]
