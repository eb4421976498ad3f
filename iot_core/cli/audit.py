"""`iot audit` and `iot undo`: who changed what, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, show_rows
from iot_core.cli.preview import difference, say_done
from iot_core.cli.session import ask
from iot_core.cli.times import When
from iot_core.cli.words import person
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["audit", "undo"]


def _operation(row: shapes.AuditEntry) -> str:
    if row.operation is None:
        return "-"
    return str(row.operation) if row.undone_by is None else text("audit.undone", number=row.operation, by=row.undone_by)


_COLUMNS: list[Column[shapes.AuditEntry]] = [
    Column("audit.col_time", lambda row: row.at),
    Column("audit.col_by", lambda row: person(row.by)),
    Column("user.col_from", lambda row: row.address, drop=1),
    Column("audit.col_action", lambda row: f"{row.action} {row.subject}"),
    Column("audit.col_change", lambda row: difference(row.before, row.after), raw=True),
    Column("audit.col_operation", _operation, right=True, whole=True),
]


@click.command(
    "audit",
    cls=Command,
    help=text("audit.help"),
    examples=["iot audit", "iot audit lamp-0101", "iot audit --by an --since 7d", "iot audit --operation 12"],
)
@click.argument("key", type=DEVICE, metavar="[KEY]", required=False)
@option("--by", metavar="NAME", help=text("audit.opt_by"))
@option("--since", type=When(), metavar="TIME", help=text("audit.opt_since"))
@option("--operation", type=click.IntRange(1), metavar="ID", help=text("audit.opt_operation"))
@option("--limit", type=click.IntRange(1, 10_000), default=100, metavar="N", help=text("cli.opt_limit"))
def audit(key: str | None, by: str | None, since: datetime | None, operation: int | None, limit: int) -> None:
    from iot_core.api import shapes

    asked = shapes.AuditQuery(key=key, by=by, since=since, operation=operation, limit=limit)
    found = ask(lambda client: client.audit(asked))
    show_rows(found.items, _COLUMNS, nothing="audit.none")


@click.command("undo", cls=Command, help=text("audit.help_undo"), examples=["iot undo 12", "iot undo 12 13"])
@click.argument("operations", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
def undo(operations: tuple[int, ...]) -> None:
    for number in sorted(operations, reverse=True):  # what was done last is taken back first
        say_done(ask(lambda client, number=number: client.undo(number)))  # type: ignore[misc]
