"""`iot db tidy`: the indexes of closed weeks made anew where their pages are half full."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option
from iot_core.cli.database import on_database
from iot_core.cli.db_info import size
from iot_core.cli.keys import CLASS
from iot_core.cli.output import Column, line, show_rows
from iot_core.cli.session import state_dir
from iot_core.messages import text

if TYPE_CHECKING:
    import asyncpg

    from iot_core.settings import Settings
    from iot_core.store.tidy import Tidied

__all__ = ["tidy"]

KEPT = 1
"""Exit code where an index stayed as it was."""


@click.command(
    "tidy",
    cls=Command,
    shown=("--state", "--output"),
    help=text("tidy.help"),
    examples=["iot db tidy", "iot db tidy --class water_meter --output json"],
)
@config_option
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("db.opt_class"))
def tidy(path: Path | None, class_key: str | None) -> None:
    async def work(connection: asyncpg.Connection, settings: Settings) -> list[Tidied]:
        return await _tidy(connection, settings, class_key)

    done = on_database(path, work)
    show_rows(done, _COLUMNS, nothing="tidy.nothing", data=_data)
    kept = [each for each in done if each.kept]
    if done:
        line("tidy.done", saved=size(sum(each.index.bytes - each.bytes for each in done)), kept=len(kept))
    if kept:
        click.get_current_context().exit(KEPT)


async def _tidy(connection: asyncpg.Connection, settings: Settings, class_key: str | None) -> list[Tidied]:
    from iot_core.cli.progress import bar
    from iot_core.errors import NotFoundError
    from iot_core.store import tidy as indexes
    from iot_core.store.info import free_bytes
    from iot_core.store.tables import stored_rollups
    from iot_core.store.tier import find_tier

    rollups = await stored_rollups(connection)
    if class_key is not None and class_key not in rollups:
        raise NotFoundError("db.no_class", device_class=class_key, known=", ".join(rollups))
    tier = (await find_tier(connection)).tier
    now = datetime.now(UTC)
    chosen = [rollup for key, rollup in rollups.items() if class_key in (None, key)]
    total = sum([len(await indexes.loose(connection, rollup, tier, now)) for rollup in chosen])
    done = []
    with bar(text("tidy.step"), total) as advance:
        for rollup in chosen:
            async for each in indexes.tidy(
                connection, rollup, tier, now, free=lambda: free_bytes(settings, state_dir())
            ):
                done.append(each)
                advance(1)
    return done


def _data(each: Tidied) -> dict[str, Any]:
    return {
        "device_class": each.index.class_key,
        "first": each.index.piece.first,
        "index": each.index.name,
        "bytes_before": each.index.bytes,
        "bytes": each.bytes,
        "kept": each.kept,
    }


_COLUMNS: list[Column[Tidied]] = [
    Column("db.col_class", lambda each: each.index.class_key),
    Column("tidy.col_week", lambda each: each.index.piece.first),
    Column("tidy.col_before", lambda each: size(each.index.bytes), right=True),
    Column("tidy.col_after", lambda each: size(each.bytes), right=True),
    Column("tidy.col_kept", lambda each: text(f"tidy.kept.{each.kept}") if each.kept else ""),
]
