"""`iot up`: the core in the foreground, until a signal ends it in order."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option, found
from iot_core.cli.hangup import on_hangup
from iot_core.cli.session import state_dir
from iot_core.errors import StartError
from iot_core.messages import text
from iot_core.settings import default_state_dir, load, with_ports

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from iot_core.settings import Settings
    from iot_core.state import StateDir

__all__ = ["until_signalled", "up"]

_ENDING = (signal.SIGTERM, signal.SIGINT)
_COLLECT_AFTER = 10_000
"""More often costs time, more seldom memory: each flush leaves its packed rows in a cycle (asyncpg's COPY)."""
LAST_PORT = 65_533
"""Three ports are taken from the base on."""


@click.command(
    "up",
    cls=Command,
    shown=("--state",),
    help=text("cli.help_up"),
    examples=["iot up", "iot up --state ~/city --port-base 18080", "iot up --config /etc/iot/iot.toml"],
)
@config_option
@option("--port-base", type=click.IntRange(1, LAST_PORT), metavar="N", help=text("cli.opt_port_base"))
def up(path: Path | None, port_base: int | None) -> None:
    file = found(path)
    settings = load(file)
    if port_base is not None:
        settings = with_ports(settings, port_base)
    if file is not None:
        click.echo(text("cli.config_from", file=file))
    _serve(settings, state_dir())


def _serve(settings: Settings, state: Path) -> None:
    """Start what serves; the client-only install has none of it."""
    try:
        import iot_core.app
        import iot_core.state
        from iot_core.cli.logs import log_to_stderr
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    log_to_stderr()
    with iot_core.state.locked(state) as directory:
        asyncio.run(until_signalled(_run(settings, directory)))


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or SIGTERM or Ctrl-C asks: the first cancels it in order, the second ends the process.

    A terminal that goes asks too, however often it says so.
    What the process started itself (database, broker) lives in sessions of its own: the next start adopts it.
    """
    task = asyncio.create_task(work, name="iot up")
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def on_signal(number: int) -> None:
        asked.append(number)
        for each in _ENDING:  # from here on without the loop, which may be waiting for something that hangs
            loop.remove_signal_handler(each)
            signal.signal(each, lambda again, _: os._exit(128 + again))
        task.cancel()
        with suppress(OSError):  # a terminal that is gone
            click.echo(text("cli.up_ending"))

    for number in _ENDING:
        loop.add_signal_handler(number, on_signal, number)
    on_hangup(loop, lambda: None if asked else on_signal(signal.SIGHUP))
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise


async def _run(settings: Settings, directory: StateDir) -> None:
    from iot_core.app import running_core

    async with running_core(settings, directory, say=click.echo) as core:
        if await core.pool.fetchval("SELECT NOT EXISTS (SELECT FROM iot.device)"):
            _first_steps(directory.path)
        _spare_the_collector()
        await core.wait()


def _spare_the_collector() -> None:
    """Let the garbage collector look at less, and less often.

    What is there now (programs, profiles, the registry) stays. A batch in flight is 100,000 objects that end by their
    reference counts, without it; with Python's own threshold of 700 it walked them 57 times in a batch of 5,000.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def _first_steps(state: Path) -> None:
    """Say what to type next, in a second terminal, on a core that knows no device yet."""
    where = "" if state == default_state_dir() else f" --state {shlex.quote(str(state))}"
    click.echo(text("cli.up_empty"))
    for command in (
        f"iot{where} area add ben-thanh --name 'Phường Bến Thành' --kind ward",
        f"iot{where} device add den-001 --profile native-streetlight --area ben-thanh --lat 10.7721 --lon 106.6983",
        f"iot{where} telemetry watch den-001",
    ):
        click.echo(f"  {command}")
