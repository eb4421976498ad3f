"""`iot held replay`: run held uplinks through the path again, after a profile was mended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, is_for_people, line, print_rows, show_one
from iot_core.cli.scope import reason_option
from iot_core.cli.session import ask
from iot_core.messages import text
from iot_core.model import Reason

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["replay"]


@click.command(
    "replay",
    cls=Command,
    help=text("held_cli.help_replay"),
    examples=[
        "iot held replay --device aq-0012 --preview",
        "iot held replay --reason unknown_metric --yes",
        "iot held replay --id 4711 --id 4712",
    ],
)
@option("--device", type=DEVICE, metavar="KEY", help=text("cli.opt_held_device"))
@reason_option
@option("--id", "ids", multiple=True, type=click.IntRange(1), metavar="ID", help=text("held_cli.opt_id"))
@option("--all", "everything", is_flag=True, help=text("held_cli.opt_all"))
@option("--preview", is_flag=True, help=text("held_cli.opt_preview"))
@option("--yes", is_flag=True, help=text("held_cli.opt_yes"))
def replay(
    device: str | None, reason: str | None, *, ids: tuple[int, ...], everything: bool, preview: bool, yes: bool
) -> None:
    from iot_core.api.shapes import HeldReplay

    if not (device or reason or ids or everything):
        raise click.UsageError(text("held_cli.choose"))
    chosen = HeldReplay(device=device, reason=Reason(reason) if reason else None, ids=ids or None, all=everything)
    found = ask(lambda client: client.preview_replay(chosen))
    if preview or not found.reasons:
        show_one(found.reasons, lambda: _print_preview(found.reasons))
        return
    if is_for_people():
        _print_preview(found.reasons)
        if not yes and sys.stdin.isatty():
            click.confirm(text("held_cli.confirm"), abort=True)
    total = sum(each.uplinks for each in found.reasons)
    done = ask(lambda client: _run(client, chosen, total))
    show_one(done, lambda: line("held_cli.done", **done))


async def _run(client: Client, chosen: shapes.HeldReplay, total: int) -> dict[str, Any]:
    from contextlib import aclosing

    from iot_core.cli.progress import bar

    done = {"uplinks": 0, "stored": 0, "held": 0}
    with bar(text("held_cli.step"), total) as advance:
        async with aclosing(client.replay_held(chosen)) as steps:
            async for step in steps:
                done = {
                    "uplinks": done["uplinks"] + step.uplinks,
                    "stored": done["stored"] + step.stored,
                    "held": done["held"] + step.held,
                }
                advance(step.uplinks)
    return done


COLUMNS: list[Column[shapes.HeldCount]] = [
    Column("held_cli.col_uplinks", lambda row: row.uplinks, right=True, whole=True),
    Column("held_cli.col_reason", lambda row: row.reason, whole=True),
    Column("cli.col_why", lambda row: row.said),
]


def _print_preview(reasons: tuple[shapes.HeldCount, ...]) -> None:
    if not reasons:
        line("cli.held_none")
        return
    print_rows(reasons, COLUMNS)
    if any(each.reason == Reason.CONFLICT for each in reasons):
        line("held_cli.conflicts")
