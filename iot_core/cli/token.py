"""`iot token`: who may ask the core, and for what."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.cli.words import person
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot_core.api import shapes

__all__ = ["ROLES", "token", "written_rights"]

ROLES = ("viewer", "technician", "operator", "admin")


def written_rights(rights: Iterable[shapes.Right]) -> str:
    """Write which roles hold where."""
    said = (f"{each.role.value} {each.area or text('user.everywhere')}" for each in rights)
    return ", ".join(said) or text("user.no_rights")


TOKEN_COLUMNS: list[Column[shapes.Token]] = [
    Column("cli.col_id", lambda row: row.id, right=True),
    Column("cli.col_name", lambda row: person(row.name)),
    Column("user.col_user", lambda row: row.user),
    Column("user.col_rights", lambda row: written_rights(row.rights)),
    Column("cli.col_created", lambda row: local(row.created_at)),
    Column("cli.col_expires", lambda row: local(row.expires_at)),
    Column("user.col_used", lambda row: local(row.used_at)),
]


@click.group(
    "token",
    cls=Group,
    help=text("cli.help_token"),
    examples=["iot token create scada --role viewer --days 90", "iot token list", "iot token revoke 7"],
)
def token() -> None:
    pass


@token.command(
    "create",
    help=text("cli.help_token_add"),
    examples=["iot token create scada --role viewer", "iot token create wall --role viewer --area hong-gai --days 30"],
)
@click.argument("name")
@option("--role", type=click.Choice(ROLES), required=True, help=text("cli.opt_token_role"))
@option("--area", "areas", multiple=True, type=AREA, metavar="KEY", help=text("user.opt_token_area"))
@option("--days", type=click.IntRange(1, 3650), default=365, metavar="N", help=text("user.opt_token_days"))
@option("--for-ever", is_flag=True, help=text("user.opt_for_ever"))
def add(name: str, *, role: str, areas: tuple[str, ...], days: int, for_ever: bool) -> None:
    from iot_core.api import shapes

    added = ask(
        lambda client: client.add_token(name, shapes.Role(role), days=None if for_ever else days, areas=areas or None)
    )
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


# What it was called before.
_before = copy(token.commands["create"])
_before.hidden = True
_before.examples = ["iot token add scada --role viewer"]  # type: ignore[attr-defined]
token.add_command(_before, "add")


def _say_added(added: shapes.TokenAdded) -> None:
    line("cli.token_added", name=added.token.name, role=added.token.role.value)
    fact_lines([("cli.col_secret", added.secret), ("cli.col_expires", local(added.token.expires_at))])
    line("cli.token_once")
