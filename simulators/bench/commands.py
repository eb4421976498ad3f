"""The commands `iot bench ...`: each runs `simulators.bench.NAME` with a progress bar and prints its line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from typing import Any

import click

from iot_core.cli.base import Command, Group, option
from iot_core.errors import StartError
from iot_core.messages import text

__all__ = ["bench"]

_LONGEST_S = 600
_STORES = "embedded|timescaledb|DSN"


@click.group(
    "bench", cls=Group, help=text("bench.help"), examples=["iot bench ingest --seconds 30", "iot bench query --help"]
)
def bench() -> None:
    """Group the benchmarks."""


@bench.command(
    "ingest",
    cls=Command,
    help=text("bench.help_ingest"),
    examples=[
        "iot bench ingest",
        "iot bench ingest --seconds 60 --baseline",
        "iot bench ingest --rate 5000 --store timescaledb",
        "iot bench ingest --profile",
        "iot bench ingest --devices 100000 --against 1000",
    ],
)
@option("--devices", type=click.IntRange(1, 100_000), default=1_000, metavar="N", help=text("bench.opt_devices"))
@option("--seconds", type=click.IntRange(1, _LONGEST_S), default=10, metavar="N", help=text("bench.opt_seconds"))
@option("--rate", type=click.FloatRange(min=0), default=0.0, metavar="N", help=text("bench.opt_rate"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
@option("--baseline", is_flag=True, help=text("bench.opt_baseline"))
@option("--profile", is_flag=True, help=text("bench.opt_profile"))
@option("--receipts/--no-receipts", default=True, help=text("bench.opt_receipts"))
@option("--burst", type=click.IntRange(1, 1_000), default=10, metavar="N", help=text("bench.opt_burst"))
@option("--against", type=click.IntRange(1, 100_000), metavar="N", help=text("bench.opt_against"))
def ingest(**chosen: Any) -> int:
    return play("ingest", chosen)


@bench.command(
    "coap",
    cls=Command,
    help=text("bench.help_coap"),
    examples=["iot bench coap", "iot bench coap --non --seconds 30", "iot bench coap --devices 2000 --rate 1000"],
)
@option("--devices", type=click.IntRange(1, 20_000), default=500, metavar="N", help=text("bench.opt_endpoints"))
@option("--seconds", type=click.IntRange(1, _LONGEST_S), default=10, metavar="N", help=text("bench.opt_seconds"))
@option("--rate", type=click.FloatRange(min=0), default=0.0, metavar="N", help=text("bench.opt_rate"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
@option("--con/--non", "confirmable", default=None, help=text("bench.opt_confirmable"))
def coap(**chosen: Any) -> int:
    return play("coap", chosen)


@bench.command(
    "modbus",
    cls=Command,
    help=text("bench_modbus.help"),
    examples=["iot bench modbus", "iot bench modbus --seconds 60 --store timescaledb", "iot bench modbus --units 500"],
)
@option("--units", type=click.IntRange(1, 12_000), default=5_000, metavar="N", help=text("bench_modbus.opt_units"))
@option("--gateways", type=click.IntRange(1, 500), default=50, metavar="N", help=text("bench_modbus.opt_gateways"))
@option("--seconds", type=click.IntRange(11, _LONGEST_S), default=30, metavar="N", help=text("bench.opt_seconds"))
@option("--answer-ms", type=click.FloatRange(0, 500), default=5.0, metavar="N", help=text("bench_modbus.opt_answer"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
@option("--baseline/--no-baseline", default=True, help=text("bench_modbus.opt_baseline"))
@option("--profile", is_flag=True, help=text("bench.opt_profile"))
def modbus(**chosen: Any) -> int:
    return play("modbus", chosen)


@bench.command(
    "store",
    cls=Command,
    help=text("bench_store.help"),
    examples=[
        "iot bench store",
        "iot bench store --rows 20000000",
        "iot bench store --rows 100000000 --store timescaledb",
    ],
)
@option(
    "--rows",
    type=click.IntRange(100_000, 200_000_000),
    default=2_000_000,
    metavar="N",
    help=text("bench_store.opt_rows"),
)
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def store(**chosen: Any) -> int:
    return play("store", chosen)


@bench.command(
    "query",
    cls=Command,
    help=text("bench_query.help"),
    examples=["iot bench query", "iot bench query --store timescaledb --times 50"],
)
@option(
    "--devices", type=click.IntRange(600, 100_000), default=10_000, metavar="N", help=text("bench_query.opt_devices")
)
@option("--every", type=click.IntRange(1, 60), default=5, metavar="MIN", help=text("bench_query.opt_every"))
@option("--times", type=click.IntRange(5, 1_000), default=20, metavar="N", help=text("bench_query.opt_times"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def query(**chosen: Any) -> int:
    return play("query", chosen)


@bench.command(
    "size",
    cls=Command,
    help=text("bench_size.help"),
    examples=["iot bench size", "iot bench size --store timescaledb", "iot bench size --devices 500 --hours 48"],
)
@option("--devices", type=click.IntRange(1, 10_000), default=20, metavar="N", help=text("bench_size.opt_devices"))
@option("--hours", type=click.IntRange(1, 24 * 60), default=72, metavar="N", help=text("bench_size.opt_hours"))
@option("--digits", type=click.Choice(["sensor", "class"]), default="sensor", help=text("bench_size.opt_digits"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def size(**chosen: Any) -> int:
    return play("size", chosen)


@bench.command(
    "outage",
    cls=Command,
    help=text("bench_outage.help"),
    examples=["iot bench outage", "iot bench outage --minutes 10"],
)
@option("--minutes", type=click.FloatRange(0.05, 60), default=1.0, metavar="MIN", help=text("bench_outage.opt_minutes"))
@option("--rate", type=click.FloatRange(1, 10_000), default=1_000.0, metavar="N", help=text("bench_outage.opt_rate"))
@option("--devices", type=click.IntRange(1, 1_000), default=1_000, metavar="N", help=text("bench.opt_devices"))
def outage(**chosen: Any) -> int:
    return play("outage", chosen)


@bench.command(
    "start",
    cls=Command,
    help=text("bench_outage.help_start"),
    examples=["iot bench start", "iot bench start --devices 10000 --store timescaledb"],
)
@option("--devices", type=click.IntRange(1, 200_000), default=100_000, metavar="N", help=text("bench.opt_devices"))
@option("--times", type=click.IntRange(1, 20), default=3, metavar="N", help=text("bench_outage.opt_times"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def start(**chosen: Any) -> int:
    return play("start", chosen)


@bench.command(
    "registry",
    cls=Command,
    help=text("bench_registry.help"),
    examples=["iot bench registry", "iot bench registry --devices 10000 --lamps 200 --rows 0 --claims 0"],
)
@option("--devices", type=click.IntRange(100, 200_000), default=100_000, metavar="N", help=text("bench.opt_devices"))
@option("--lamps", type=click.IntRange(1, 5_000), default=1_000, metavar="N", help=text("bench_registry.opt_lamps"))
@option("--rows", type=click.IntRange(0, 100_000), default=10_000, metavar="N", help=text("bench_registry.opt_rows"))
@option("--claims", type=click.IntRange(0, 10_000), default=1_000, metavar="N", help=text("bench_registry.opt_claims"))
@option("--times", type=click.IntRange(1, 1_000), default=20, metavar="N", help=text("bench_registry.opt_times"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def registry(**chosen: Any) -> int:
    return play("registry", chosen)


@bench.command(
    "quiet",
    cls=Command,
    help=text("bench_quiet.help"),
    examples=["iot bench quiet", "iot bench quiet --devices 200 --days 2 --every 900"],
)
@option("--devices", type=click.IntRange(20, 20_000), default=1_000, metavar="N", help=text("bench.opt_devices"))
@option("--days", type=click.IntRange(1, 60), default=7, metavar="N", help=text("bench_quiet.opt_days"))
@option("--every", type=click.IntRange(1, 3_600), default=300, metavar="S", help=text("bench_quiet.opt_every"))
@option("--seed", type=int, default=7, metavar="N", help=text("bench_quiet.opt_seed"))
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def quiet(**chosen: Any) -> int:
    return play("quiet", chosen)


@bench.command(
    "alarms",
    cls=Command,
    help=text("bench_alarms.help"),
    examples=[
        "iot bench alarms",
        "iot bench alarms --part fire --part storm",
        "iot bench alarms --part kills --kills 200",
    ],
)
@option(
    "--part",
    "parts",
    type=click.Choice(["cost", "fire", "transitions", "storm", "drain", "kills"]),
    multiple=True,
    help=text("bench_alarms.opt_part"),
)
@option("--seconds", type=click.FloatRange(1, 120), default=20.0, metavar="N", help=text("bench_alarms.opt_seconds"))
@option("--storm", type=click.IntRange(50, 10_000), default=5_000, metavar="N", help=text("bench_alarms.opt_storm"))
@option("--kills", type=click.IntRange(1, 500), default=50, metavar="N", help=text("bench_alarms.opt_kills"))
@option(
    "--pending", type=click.IntRange(100, 50_000), default=10_000, metavar="N", help=text("bench_alarms.opt_pending")
)
@option(
    "--devices", type=click.IntRange(100, 50_000), default=6_000, metavar="N", help=text("bench_alarms.opt_devices")
)
@option("--store", default="embedded", metavar=_STORES, help=text("bench.opt_store"))
def alarms(**chosen: Any) -> int:
    return play("alarms", chosen)


def play(name: str, chosen: dict[str, Any]) -> int:
    """Run `simulators.bench.NAME`: its `run(Options(**chosen), say)` gives the result, whose `ok` is the exit code."""
    try:
        module = import_module(f"simulators.bench.{name}")
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from iot_core.cli.hangup import ends_as_interrupted
    from iot_core.cli.logs import log_to_stderr
    from simulators.bench.report import busy

    log_to_stderr()
    ends_as_interrupted()  # what was started must end with us, also when a supervisor's patience ends
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(text("bench.step_start"), total=1.0)

        def say(step: str, done: float) -> None:
            progress.update(bar, description=text(step), completed=min(done, 1.0))

        others = busy()
        result = asyncio.run(module.run(module.Options(**chosen), say))
    result["machine"]["busy_before"] = others
    click.echo(json.dumps(result))
    return 0 if result["ok"] else 1
