"""`iot db backup`: the whole database into one file, beside a running core."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command
from iot_core.cli.config import config_option, found
from iot_core.cli.database import dsn_of
from iot_core.cli.output import line, show_one
from iot_core.cli.progress import bar
from iot_core.cli.session import state_dir
from iot_core.errors import ConfigError
from iot_core.messages import text
from iot_core.settings import Settings, load

if TYPE_CHECKING:
    from iot_core.store.backup import Manifest

__all__ = ["backup"]

_LOOK_S = 0.5


@click.command(
    "backup",
    cls=Command,
    shown=("--state", "--output"),
    help=text("backup.help_backup"),
    examples=["iot db backup /var/backups/iot.backup", "iot db backup iot.backup --config /etc/iot/iot.toml"],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def backup(file: Path, path: Path | None) -> None:
    if file.exists():
        raise ConfigError("backup.exists", file=file)
    settings = load(found(path))
    made = asyncio.run(_run(settings, file))
    rows = sum(each.rows for each in made.tables.values())
    size = file.stat().st_size
    show_one(
        made, lambda: line("backup.made", file=file, tables=len(made.tables), rows=rows, megabytes=f"{size / 1e6:.1f}")
    )


async def _run(settings: Settings, file: Path) -> Manifest:
    async with dsn_of(settings, state_dir()) as dsn:
        from iot_core.store.backup import backup as run

        with bar(text("backup.step_backup"), None) as advance:
            work = asyncio.create_task(run(dsn, file), name="backup")
            try:
                while not work.done():
                    await asyncio.wait({work}, timeout=_LOOK_S)
                    advance(0)
            finally:
                work.cancel()
            return await work
