"""`iot area`: the administrative tree that devices stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import NEW_KEY
from iot_core.cli.output import line, show_one
from iot_core.cli.session import ask
from iot_core.messages import language, text

if TYPE_CHECKING:
    from rich.tree import Tree

    from iot_core.api import shapes

__all__ = ["area"]


@click.group(
    "area",
    cls=Group,
    help=text("cli.help_area"),
    examples=["iot area add hcm --name 'TP. Hồ Chí Minh' --kind province", "iot area tree"],
)
def area() -> None:
    pass


@area.command(
    "add",
    help=text("cli.help_area_add"),
    examples=[
        "iot area add hcm --name 'TP. Hồ Chí Minh' --name-en 'Ho Chi Minh City' --kind province --code 79",
        "iot area add ben-thanh --name 'Phường Bến Thành' --kind ward --parent hcm",
    ],
)
@click.argument("key", type=NEW_KEY)
@option("--name", required=True, metavar="NAME", help=text("cli.opt_area_name"))
@option("--name-en", metavar="NAME", help=text("cli.opt_area_name_en"))
@option("--kind", default="zone", metavar="KIND", help=text("cli.opt_area_kind"))
@option("--parent", metavar="KEY", help=text("cli.opt_area_parent"))
@option("--code", metavar="CODE", help=text("cli.opt_area_code"))
def add(key: str, *, name: str, name_en: str | None, kind: str, parent: str | None, code: str | None) -> None:
    from iot_core.api import shapes

    new = shapes.AreaNew(key=key, name=name, name_en=name_en, kind=kind, parent=parent, code=code)
    added = ask(lambda client: client.add_area(new))
    show_one(added, lambda: line("cli.area_added", key=added.key, name=added.name))


@area.command("tree", help=text("cli.help_area_tree"), examples=["iot area tree", "iot area tree --output json"])
def tree() -> None:
    found = ask(lambda client: client.area_tree())
    show_one(found.items, lambda: _print_tree(found.items))


def _print_tree(roots: tuple[shapes.AreaNode, ...]) -> None:
    from rich.tree import Tree

    from iot_core.cli.output import console

    if not roots:
        line("cli.area_none")
    for root in roots:
        top = Tree(_label(root))
        _grow(top, root)
        console().print(top)


def _grow(branch: Tree, node: shapes.AreaNode) -> None:
    for child in node.children:
        _grow(branch.add(_label(child)), child)


def _label(node: shapes.AreaNode) -> str:
    from rich.markup import escape

    name = (node.name_en if language() == "en" else None) or node.name
    return escape(text("cli.area_label", name=name, key=node.key, kind=node.kind, devices=node.devices_below))
