"""`iot held show`: one held uplink whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command
from iot_core.cli.output import fact_lines, line, printable, show_one
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["show"]

MOST = 4_000
"""Characters of a payload that a person is shown; scripts get all."""


@click.command(
    "show",
    cls=Command,
    help=text("held_cli.help_show"),
    examples=["iot held show 4711", "iot held show 4711 --output json"],
)
@click.argument("number", type=click.IntRange(1), metavar="ID")
def show(number: int) -> None:
    found = ask(lambda client: client.held_one(number))
    show_one(found, lambda: _print(found))


def _print(found: shapes.HeldDetail) -> None:
    fact_lines(
        [
            ("cli.col_why", found.said),
            ("cli.col_detail", found.detail),
            ("held_cli.part", None if found.part is None else str(found.part)),
            ("cli.col_received", local(found.received_at)),
            ("cli.col_sender", found.device or found.address),
            ("held_cli.address", found.address),
            ("held_cli.topic", found.topic),
            ("held_cli.others", ", ".join(map(str, found.others))),
        ]
    )
    said = "\n".join(printable(row) for row in found.payload.splitlines()) or str(found.registers or "")
    click.echo(f"\n{said[:MOST]}{'…' if len(said) > MOST else ''}\n")
    line("held_cli.show_next", id=found.id)
