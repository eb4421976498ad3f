"""`iot inbox` and `iot held`: what arrived and could not be used, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, cut, line, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import age, local
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot_core.api import shapes

__all__ = ["held", "inbox"]

GLANCE = 60

SENDER_COLUMNS: list[Column[shapes.Sender]] = [
    Column("cli.col_address", lambda row: row.address),
    Column("cli.col_messages", lambda row: row.messages, right=True, whole=True),
    Column("cli.col_first", lambda row: local(row.first_at), drop=2),
    Column("cli.col_last", lambda row: age(row.last_at)),
    Column("cli.col_last_said", lambda row: glance(row.payload, row.registers), raw=True, drop=1),
]
HELD_COLUMNS: list[Column[shapes.Held]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("cli.col_received", lambda row: local(row.received_at)),
    Column("cli.col_sender", lambda row: row.device or row.address),
    Column("cli.col_why", lambda row: row.said),
    Column("cli.col_detail", lambda row: row.detail, raw=True, drop=2),
    Column("cli.col_said", lambda row: glance(row.payload, row.registers), raw=True, drop=1),
]


@click.command("inbox", cls=Command, help=text("cli.help_inbox"), examples=["iot inbox", "iot inbox --output json"])
def inbox() -> None:
    found = ask(lambda client: client.inbox())
    show_rows(found.items, SENDER_COLUMNS, nothing="cli.inbox_none")
    if found.items:
        line("cli.inbox_next", address=found.items[0].address)


@click.command(
    "held", cls=Command, help=text("cli.help_held"), examples=["iot held", "iot held --device aq-0012 --limit 5"]
)
@option("--device", type=DEVICE, metavar="KEY", help=text("cli.opt_held_device"))
@option("--limit", type=click.IntRange(1, 10_000), default=100, metavar="N", help=text("cli.opt_limit"))
def held(device: str | None, limit: int) -> None:
    found = ask(lambda client: client.held(device=device, limit=limit))
    show_rows(found.items, HELD_COLUMNS, nothing="cli.held_none")
    cut(len(found.items), found.total)


def glance(payload: str, registers: Mapping[str, list[int]] | None) -> str:
    """Show the beginning of what was said, on one line."""
    said = " ".join(payload.split()) or ", ".join(f"{block} {words}" for block, words in (registers or {}).items())
    return said if len(said) <= GLANCE else said[: GLANCE - 1] + "…"
