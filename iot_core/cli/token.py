"""`iot token`: who may ask the core, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["token"]

ROLES = ("viewer", "technician", "operator", "admin")

TOKEN_COLUMNS: list[Column[shapes.Token]] = [
    Column("cli.col_id", lambda row: row.id, right=True),
    Column("cli.col_name", lambda row: row.name),
    Column("cli.col_role", lambda row: row.role.value),
    Column("cli.col_created", lambda row: local(row.created_at)),
    Column("cli.col_expires", lambda row: local(row.expires_at)),
]


@click.group(
    "token",
    cls=Group,
    help=text("cli.help_token"),
    examples=["iot token add 'Nguyễn Văn An' --role technician --days 90", "iot token list", "iot token revoke 7"],
)
def token() -> None:
    pass


@token.command("add", help=text("cli.help_token_add"), examples=["iot token add scada --role viewer --days 365"])
@click.argument("name")
@option("--role", type=click.Choice(ROLES), required=True, help=text("cli.opt_token_role"))
@option("--days", type=click.IntRange(1, 3650), metavar="N", help=text("cli.opt_token_days"))
def add(name: str, *, role: str, days: int | None) -> None:
    from iot_core.api import shapes

    added = ask(lambda client: client.add_token(name, shapes.Role(role), days=days))
    show_one(added, lambda: _say_added(added))


@token.command("list", help=text("cli.help_token_list"), examples=["iot token list", "iot token list --output json"])
def list_() -> None:
    found = ask(lambda client: client.tokens())
    show_rows(found.items, TOKEN_COLUMNS, nothing="cli.token_none")


@token.command("revoke", help=text("cli.help_token_revoke"), examples=["iot token revoke 7"])
@click.argument("token_id", metavar="ID", type=int)
def revoke(token_id: int) -> None:
    ask(lambda client: client.revoke_token(token_id))
    show_one({"revoked": token_id}, lambda: line("cli.token_revoked", id=token_id))


def _say_added(added: shapes.TokenAdded) -> None:
    line("cli.token_added", name=added.token.name, role=added.token.role.value)
    fact_lines([("cli.col_secret", added.secret), ("cli.col_expires", local(added.token.expires_at))])
    line("cli.token_once")
