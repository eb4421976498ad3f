"""`iot device read`: what a device says when it is asked now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, line, note, print_rows, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.telemetry import LATEST_COLUMNS
from iot_core.cli.times import local
from iot_core.cli.words import value_with_unit, word
from iot_core.messages import text, title

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["read"]

NOW_COLUMNS: list[Column[shapes.Now]] = [
    Column("cli.col_metric", lambda row: row.metric),
    Column("cli.col_value", value_with_unit, lambda row: "red" if row.bad else "", right=True),
    Column("cli.col_title", lambda row: title(row.title)),
    Column("cli.col_quality", lambda row: text("cli.implausible") if row.bad else word("quality", "good")),
]


@click.command(
    "read",
    cls=Command,
    help=text("asking.help_read"),
    examples=["iot device read wm-0102 --now", "iot device read wm-0102 --now --output json"],
)
@click.argument("key", type=DEVICE)
@option("--now", is_flag=True, help=text("asking.opt_now"))
def read(key: str, *, now: bool) -> None:
    if not now:
        found = ask(lambda client: client.latest(key))
        show_rows(found.items, LATEST_COLUMNS, nothing="cli.telemetry_none_yet")
        return
    asked, took = ask(lambda client: _read_now(client, key))

    def people() -> None:
        line("asking.answered", key=key, time=local(asked.time), took=took)
        if asked.items:
            print_rows(asked.items, NOW_COLUMNS)
        else:
            line("asking.nothing")
        if asked.held:
            note("asking.held", reasons=", ".join(text(f"held.{reason}") for reason in asked.held))
        if not asked.stored:
            note("asking.not_stored")

    show_one(asked, people)


async def _read_now(client: Client, key: str) -> tuple[shapes.AskedNow, int]:
    """Ask, and give the milliseconds that it took beside the answer."""
    began = time.monotonic()
    return await client.read_now(key), round(1000 * (time.monotonic() - began))
