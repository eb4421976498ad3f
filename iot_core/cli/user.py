"""`iot user`: people who sign in with a password, and which roles they have where."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA, USER
from iot_core.cli.output import Column, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.cli.token import ROLES, written_rights
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["user"]


_COLUMNS: list[Column[shapes.User]] = [
    Column("cli.col_name", lambda row: row.name),
    Column("user.col_title", lambda row: row.title),
    Column("user.col_rights", lambda row: written_rights(row.rights)),
    Column("user.col_used", lambda row: local(row.used_at)),
]
_area = option("--area", "areas", multiple=True, type=AREA, metavar="KEY", help=text("user.opt_area"))
_password_file = option("--password-file", type=click.File(), metavar="FILE", help=text("user.opt_password_file"))


@click.group(
    "user",
    cls=Group,
    help=text("user.help"),
    examples=["iot user add an --role technician --area hong-gai", "iot user list", "iot user grant an viewer"],
)
def user() -> None:
    pass


@user.command(
    "add",
    help=text("user.help_add"),
    examples=[
        "iot user add an --role admin",
        "iot user add binh --title 'Trần Bình' --role technician --area hong-gai",
    ],
)
@click.argument("name")
@option("--role", type=click.Choice(ROLES), required=True, help=text("user.opt_role"))
@_area
@option("--title", default="", metavar="TEXT", help=text("user.opt_title"))
@_password_file
def add(name: str, *, role: str, areas: tuple[str, ...], title: str, password_file: TextIO | None) -> None:
    from iot_core.api import shapes

    rights = _given(role, areas)
    new = shapes.UserNew(name=name, title=title, password=_new_password(password_file), rights=rights)
    added = ask(lambda client: client.add_user(new))
    show_one(added, lambda: line("user.added", name=added.name, rights=written_rights(added.rights)))


@user.command("list", help=text("user.help_list"), examples=["iot user list", "iot user list --output json"])
def list_() -> None:
    show_rows(ask(lambda client: client.users()).items, _COLUMNS, nothing="user.none")


@user.command("grant", help=text("user.help_grant"), examples=["iot user grant an technician --area bai-chay"])
@click.argument("name", type=USER)
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@_area
def grant(name: str, role: str, areas: tuple[str, ...]) -> None:
    from iot_core.api import shapes

    _change(name, shapes.UserRights(give=_given(role, areas)))


@user.command("revoke", help=text("user.help_revoke"), examples=["iot user revoke an technician --area bai-chay"])
@click.argument("name", type=USER)
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@_area
def revoke(name: str, role: str, areas: tuple[str, ...]) -> None:
    from iot_core.api import shapes

    _change(name, shapes.UserRights(take=_given(role, areas)))


@user.command("password", help=text("user.help_password"), examples=["iot user password an", "iot user password --own"])
@click.argument("name", type=USER, metavar="[NAME]", required=False)
@option("--own", is_flag=True, help=text("user.opt_own"))
@_password_file
def password(name: str | None, *, own: bool, password_file: TextIO | None) -> None:
    if own is (name is not None):
        raise click.UsageError(text("user.whose_password"))
    if name is not None:
        new = _new_password(password_file)
        ask(lambda client: client.set_password(name, new))
    else:
        _somebody_types()
        before = click.prompt(text("user.ask_before"), hide_input=True, err=True)
        new = _new_password(password_file)
        ask(lambda client: client.set_own_password(before, new))
    show_one({"password": "set"}, lambda: line("user.password_set"))


@user.command("remove", help=text("user.help_remove"), examples=["iot user remove an"])
@click.argument("name", type=USER)
def remove(name: str) -> None:
    ask(lambda client: client.remove_user(name))
    show_one({"removed": name}, lambda: line("user.removed", name=name))


def _change(name: str, body: shapes.UserRights) -> None:
    changed = ask(lambda client: client.change_rights(name, body))
    show_one(changed, lambda: line("user.changed", name=changed.name, rights=written_rights(changed.rights)))


def _given(role: str, areas: tuple[str, ...]) -> tuple[shapes.RightNew, ...]:
    from iot_core.api import shapes

    return tuple(shapes.RightNew(role=shapes.Role(role), area=area) for area in (areas or (None,)))


def _new_password(given: TextIO | None) -> str:
    """Take a password from a file or ask for it twice; never from the command line, which others see."""
    if given is not None:
        return given.read().rstrip("\r\n")
    _somebody_types()
    return str(click.prompt(text("user.ask_password"), hide_input=True, confirmation_prompt=True, err=True))


def _somebody_types() -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(text("user.no_terminal"))
