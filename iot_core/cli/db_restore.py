"""`iot db restore`: a backup back into the database, or only tried in a scratch one."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option, found
from iot_core.cli.database import dsn_of
from iot_core.cli.output import is_for_people, line, show_one
from iot_core.cli.progress import bar
from iot_core.cli.session import state_dir
from iot_core.cli.times import local
from iot_core.errors import ConfigError, StartError
from iot_core.messages import text
from iot_core.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot_core.store.backup import Manifest

__all__ = ["restore"]


@click.command(
    "restore",
    cls=Command,
    shown=("--state", "--output"),
    help=text("backup.help_restore"),
    examples=["iot db restore iot.backup --verify", "iot db restore iot.backup --yes"],
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@option("--verify", is_flag=True, help=text("backup.opt_verify"))
@option("--yes", is_flag=True, help=text("backup.opt_yes"))
@config_option
def restore(file: Path, path: Path | None, *, verify: bool, yes: bool) -> None:
    settings = load(found(path))
    try:
        from iot_core.store.backup import manifest_of
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    manifest = manifest_of(file)
    if verify:
        asyncio.run(_verify(settings, file, manifest))
        show_one(manifest, lambda: line("backup.verified", file=file, **_said(manifest)))
        return
    if not yes:
        if not (is_for_people() and sys.stdin.isatty()):
            raise ConfigError("backup.say_yes")
        click.confirm(text("backup.confirm", made_at=local(manifest.made_at)), abort=True)
    kept = asyncio.run(_restore(settings, file, manifest))
    show_one(manifest, lambda: line("backup.restored", file=file, kept=kept, **_said(manifest)))


def _said(manifest: Manifest) -> dict[str, object]:
    return {"tables": len(manifest.tables), "rows": sum(each.rows for each in manifest.tables.values())}


async def _verify(settings: Settings, file: Path, manifest: Manifest) -> None:
    """Restore into a scratch server; a backup of TimescaleDB into a scratch database of the server that has it."""
    from iot_core.cli.logs import log_to_stderr
    from iot_core.state import locked
    from iot_core.store.backup import restore as run
    from iot_core.store.backup import scratch_database
    from iot_core.store.server import embedded

    log_to_stderr()
    async with AsyncExitStack() as stack:
        if manifest.timescaledb:
            dsn = await stack.enter_async_context(dsn_of(settings, state_dir()))
        else:
            folder = stack.enter_context(_folder())
            dsn = await stack.enter_async_context(embedded(stack.enter_context(locked(folder / "state"))))
        scratch = await stack.enter_async_context(scratch_database(dsn))
        with bar(text("backup.step_restore"), None):
            differ = await run(scratch, file, manifest)
    if differ:
        raise StartError("backup.differs", file=file, tables=", ".join(differ))


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that the server's own user can pass through, and remove it."""
    with tempfile.TemporaryDirectory(prefix="iot-verify-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def _restore(settings: Settings, file: Path, manifest: Manifest) -> str:
    from iot_core.store.backup import replacing
    from iot_core.store.backup import restore as run

    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(dsn_of(settings, state_dir()))
        new, kept = await stack.enter_async_context(replacing(dsn))
        with bar(text("backup.step_restore"), None):
            differ = await run(new, file, manifest)
        if differ:
            raise StartError("backup.differs", file=file, tables=", ".join(differ))
        return kept
