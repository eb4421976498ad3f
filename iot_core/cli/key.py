"""`iot key`: the master keys that seal kept secrets. Works on the file and the database, whether a core runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, Group
from iot_core.cli.config import config_option
from iot_core.cli.database import on_database
from iot_core.cli.output import line, show_one
from iot_core.cli.session import state_dir
from iot_core.errors import StartError
from iot_core.messages import text

if TYPE_CHECKING:
    import asyncpg

    from iot_core.settings import Settings
    from iot_core.store.vault import Vault

__all__ = ["key"]

_SHOWN = ("--state", "--output")


@click.group("key", cls=Group, help=text("key.help"), examples=["iot key list", "iot key rotate"])
def key() -> None:
    pass


@key.command(
    "rotate",
    cls=Command,
    shown=_SHOWN,
    help=text("key.help_rotate"),
    examples=["iot key rotate", "iot key rotate --output json"],
)
@config_option
def rotate(path: Path | None) -> None:
    async def work(connection: asyncpg.Connection, settings: Settings) -> tuple[int, str]:
        from iot_core.cli.progress import bar
        from iot_core.store import reseal

        vault = _vault(settings)
        total = 0
        with bar(text("key.rotating"), None) as advance:
            async for done in reseal.rotate(connection, vault):
                advance(done - total)
                total = done
        return total, vault.current

    total, current = on_database(path, work)
    show_one({"sealed": total, "key": current}, lambda: line("key.rotated", total=total, key=current))


@key.command("list", cls=Command, shown=_SHOWN, help=text("key.help_list"), examples=["iot key list"])
@config_option
def list_(path: Path | None) -> None:
    from iot_core.cli.config import found
    from iot_core.settings import load

    vault = _vault(load(found(path)))
    keys = vault.keys
    said = {"file": str(vault.path), "current": keys.current, "keys": sorted(keys.keys)}
    show_one(said, lambda: line("key.listed", file=vault.path, current=keys.current, keys=", ".join(sorted(keys.keys))))


def _vault(settings: Settings) -> Vault:
    try:
        from iot_core.store.vault import NAME, Vault
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    vault = Vault(Path(settings.store.master_keys) if settings.store.master_keys else state_dir() / NAME)
    _ = vault.keys
    return vault
