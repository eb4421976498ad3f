"""`iot held`: what arrived and could not be used, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import LazyGroup, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, cut, show_rows
from iot_core.cli.scope import from_option, reason_option, to_option
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text
from iot_core.model import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot_core.api import shapes

__all__ = ["glance", "held"]

GLANCE = 60

HELD_COLUMNS: list[Column[shapes.Held]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("cli.col_received", lambda row: local(row.received_at)),
    Column("cli.col_sender", lambda row: row.device or row.address),
    Column("cli.col_why", lambda row: row.said),
    Column("cli.col_detail", lambda row: row.detail, raw=True, drop=2),
    Column("cli.col_said", lambda row: glance(row.payload, row.registers), raw=True, drop=1),
]


@click.group(
    "held",
    cls=LazyGroup,
    sources={"show": "iot_core.cli.held_show:show", "replay": "iot_core.cli.held_replay:replay"},
    invoke_without_command=True,
    help=text("cli.help_held"),
    examples=[
        "iot held",
        "iot held --device aq-0012 --reason unknown_metric --from 2d",
        "iot held show 4711",
        "iot held replay --device aq-0012",
    ],
)
@option("--device", type=DEVICE, metavar="KEY", help=text("cli.opt_held_device"))
@reason_option
@from_option
@to_option
@option("--before", type=int, metavar="ID", help=text("held_cli.opt_before"))
@option("--limit", type=click.IntRange(1, 10_000), default=100, metavar="N", help=text("cli.opt_limit"))
@click.pass_context
def held(ctx: click.Context, /, **asked: Any) -> None:
    if ctx.invoked_subcommand is not None:
        return
    if asked["reason"]:
        asked["reason"] = Reason(asked["reason"])
    found = ask(lambda client: client.held(**asked))
    show_rows(found.items, HELD_COLUMNS, nothing="cli.held_none")
    if asked["before"] is None:
        cut(len(found.items), found.total)


def glance(payload: str, registers: Mapping[str, list[int]] | None) -> str:
    """Show the beginning of what was said, on one line."""
    said = " ".join(payload.split()) or ", ".join(f"{block} {words}" for block, words in (registers or {}).items())
    return said if len(said) <= GLANCE else said[: GLANCE - 1] + "…"
