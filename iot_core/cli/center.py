"""`iot center`: other operations centers that send us their alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA, CENTER, NEW_KEY
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["center"]

COLUMNS: list[Column[shapes.Center]] = [
    Column("center.col_key", lambda row: row.key),
    Column("cli.col_name", lambda row: row.name),
    Column("cli.col_area", lambda row: row.area),
    Column("center.col_heard", lambda row: local(row.heard_at)),
]


@click.group(
    "center", cls=Group, help=text("center.help"), examples=["iot center add fire-dept --name 'Cảnh sát PCCC'"]
)
def center() -> None:
    pass


@center.command(
    "add",
    help=text("center.help_add"),
    examples=["iot center add fire-dept --name 'Cảnh sát PCCC'", "iot center add water --name Quawaco --area ha-long"],
)
@click.argument("key", type=NEW_KEY)
@option("--name", required=True, metavar="NAME", help=text("center.opt_name"))
@option("--area", type=AREA, metavar="KEY", help=text("center.opt_area"))
@option("--secret-file", type=click.File(), metavar="FILE", help=text("cli.opt_push_secret"))
def add(key: str, *, name: str, area: str | None, secret_file: TextIO | None) -> None:
    secret = secret_file.read().strip() if secret_file is not None else None
    added = ask(lambda client: client.add_center(key, name, area=area, secret=secret))

    def say() -> None:
        line("center.added", key=key)
        fact_lines([("cli.col_secret", added.secret)])
        line("center.next", key=key)

    show_one(added, say)


@center.command("list", help=text("center.help_list"), examples=["iot center list"])
def list_() -> None:
    found = ask(lambda client: client.centers())
    show_rows(found.items, COLUMNS, nothing="center.none")


@center.command("remove", help=text("center.help_remove"), examples=["iot center remove fire-dept"])
@click.argument("key", type=CENTER)
def remove(key: str) -> None:
    ask(lambda client: client.remove_center(key))
    show_one({"removed": key}, lambda: line("center.removed", key=key))
