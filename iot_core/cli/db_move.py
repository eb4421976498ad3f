"""`iot db move`: everything into another database, up a tier or to another server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option
from iot_core.cli.database import on_database
from iot_core.cli.output import line, show_one
from iot_core.errors import ConfigError
from iot_core.messages import text
from iot_core.settings import environment

if TYPE_CHECKING:
    import asyncpg

    from iot_core.settings import Settings

__all__ = ["move"]


@click.command(
    "move",
    cls=Command,
    shown=("--state", "--output"),
    help=text("db.help_move"),
    examples=[
        "IOT_MOVE_TO=postgresql://city:...@127.0.0.1/city iot db move",
        "iot db move --to postgresql:///city?host=/run/postgresql",
        "iot db move --in-place",
    ],
)
@config_option
@option("--to", metavar="DSN", help=text("db.opt_to"))
@option("--in-place", is_flag=True, help=text("db.opt_in_place"))
def move(path: Path | None, to: str | None, in_place: bool) -> None:
    if in_place:
        converted = on_database(path, _convert)
        show_one(converted, lambda: line("db.convert_done", **converted))
        return
    dsn = to or environment("IOT_MOVE_TO")
    if not dsn:
        raise ConfigError("db.move_where")

    async def work(source: asyncpg.Connection, settings: Settings) -> dict[str, Any]:
        return await _move(source, settings, dsn)

    done = on_database(path, work)
    show_one(done, lambda: _print(done))


async def _convert(connection: asyncpg.Connection, settings: Settings) -> dict[str, Any]:
    from iot_core.cli.progress import bar
    from iot_core.profiles import load as load_profiles
    from iot_core.store.convert import convert
    from iot_core.store.migrate import migrate

    await migrate(connection)
    profiles = load_profiles(Path(settings.profiles) if settings.profiles else None)
    known = [row[0] for row in await connection.fetch("SELECT DISTINCT class_key FROM iot.metric ORDER BY 1")]
    if unknown := sorted(set(known) - set(profiles.classes)):
        raise ConfigError("db.move_no_class", classes=", ".join(unknown))
    done = {"partitions": 0, "rows": 0}
    with bar(text("db.moving"), None) as advance:

        def told(_: str, rows: int) -> None:
            done["partitions"] += 1
            done["rows"] += rows
            advance(1)

        found = await convert(connection, [profiles.classes[key] for key in known], told=told)
    return {"to": str(found.tier), **done}


async def _move(source: asyncpg.Connection, settings: Settings, dsn: str) -> dict[str, Any]:
    from iot_core.cli.progress import bar
    from iot_core.profiles import load as load_profiles
    from iot_core.store import move as moves
    from iot_core.store.connection import open_one
    from iot_core.store.migrate import migrate
    from iot_core.store.tables import ensure_tables, fix_zone, stored_rollups
    from iot_core.store.tier import find_tier

    await migrate(source)
    rollups = await stored_rollups(source)
    profiles = load_profiles(Path(settings.profiles) if settings.profiles else None)
    classes = [profiles.classes[key] for key in rollups if key in profiles.classes]
    if unknown := sorted(set(rollups) - set(profiles.classes)):
        raise ConfigError("db.move_no_class", classes=", ".join(unknown))
    async with open_one(dsn) as target:
        await migrate(target)
        await moves.check_target(source, target)
        zone = await source.fetchval("SELECT value FROM iot.fixed_setting WHERE key = 'timezone'")
        await fix_zone(target, zone or settings.timezone)
        tiers = ((await find_tier(source)).tier, (await find_tier(target)).tier)
        pieces = await moves.copy_registry(source, target)
        await ensure_tables(target, classes, tiers[1])
        weeks = await moves.weeks_to_copy(source, rollups)
        with bar(text("db.moving"), sum(map(len, weeks.values())) + len(rollups)) as advance:
            for key, rollup in rollups.items():
                for week in weeks[key]:
                    pieces.append(await moves.copy_week(source, target, rollup, week, tiers[1]))
                    advance(1)
                pieces += await moves.copy_rollups(source, target, rollup, tiers)
                advance(1)
    rows = [piece for piece in pieces if piece.first is not None]
    return {
        "from": str(tiers[0]),
        "to": str(tiers[1]),
        "rows": sum(piece.rows for piece in rows),
        "weeks": len(rows),
        "weeks_copied": sum(piece.copied for piece in rows),
        "tables": {piece.relation.replace('"', ""): piece.rows for piece in pieces if piece.first is None},
        "equal": True,
    }


def _print(done: dict[str, Any]) -> None:
    line("db.move_done", rows=f"{done['rows']:,}", weeks=done["weeks"], copied=done["weeks_copied"])
    line("db.move_next")
