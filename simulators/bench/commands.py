"""The command `iot bench`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click

from iot_core.cli.base import Command, Group, option
from iot_core.errors import StartError
from iot_core.messages import text

__all__ = ["bench"]

Say = Callable[[str, float], None]

_LONGEST_S = 600


@click.group("bench", cls=Group, help=text("bench.help"))
def bench() -> None:
    """Group the benchmarks."""


@bench.command(
    "ingest",
    cls=Command,
    help=text("bench.help_ingest"),
    examples=["iot bench ingest", "iot bench ingest --seconds 60 --baseline", "iot bench ingest --rate 5000"],
)
@option("--devices", type=click.IntRange(1, 20_000), default=1_000, metavar="N", help=text("bench.opt_devices"))
@option("--seconds", type=click.IntRange(1, _LONGEST_S), default=10, metavar="N", help=text("bench.opt_seconds"))
@option("--rate", type=click.FloatRange(min=0), default=0.0, metavar="N", help=text("bench.opt_rate"))
@option("--dsn", default="", metavar="DSN", help=text("bench.opt_dsn"))
@option("--baseline", is_flag=True, help=text("bench.opt_baseline"))
def ingest(devices: int, seconds: int, rate: float, dsn: str, *, baseline: bool) -> int:
    try:
        from simulators.bench.ingest import Options, run
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc

    options = Options(devices=devices, seconds=seconds, rate=rate, dsn=dsn, baseline=baseline)
    return _ended(lambda say: run(options, say))


@bench.command(
    "coap",
    cls=Command,
    help=text("bench.help_coap"),
    examples=["iot bench coap", "iot bench coap --non --seconds 30", "iot bench coap --devices 2000 --rate 1000"],
)
@option("--devices", type=click.IntRange(1, 20_000), default=500, metavar="N", help=text("bench.opt_endpoints"))
@option("--seconds", type=click.IntRange(1, _LONGEST_S), default=10, metavar="N", help=text("bench.opt_seconds"))
@option("--rate", type=click.FloatRange(min=0), default=0.0, metavar="N", help=text("bench.opt_rate"))
@option("--dsn", default="", metavar="DSN", help=text("bench.opt_dsn"))
@option("--con/--non", "confirmable", default=None, help=text("bench.opt_confirmable"))
def coap(devices: int, seconds: int, rate: float, dsn: str, confirmable: bool | None) -> int:
    try:
        from simulators.bench.coap import Options, run
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc

    options = Options(devices=devices, seconds=seconds, rate=rate, dsn=dsn, confirmable=confirmable)
    return _ended(lambda say: run(options, say))


def _ended(run: Callable[[Say], Coroutine[Any, Any, dict[str, Any]]]) -> int:
    """Run a benchmark behind a progress bar and print its result; 1 unless all was stored once, and fast enough."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(text("bench.step_start"), total=1.0)

        def say(step: str, done: float) -> None:
            progress.update(bar, description=text(f"bench.step_{step}"), completed=done)

        result = asyncio.run(run(say))
    click.echo(json.dumps(result))
    return 0 if result.get("ok", result["lost"] == result["duplicate"] == 0) else 1
