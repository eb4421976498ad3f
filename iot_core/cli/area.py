"""`iot area`: the administrative tree that devices stand in."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA, NEW_KEY
from iot_core.cli.output import Column, fact_lines, line, note, print_rows, show_one, show_rows
from iot_core.cli.preview import carry_out
from iot_core.cli.session import ask, chosen
from iot_core.cli.times import When, local
from iot_core.messages import language, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.tree import Tree

    from iot_core.api import shapes

__all__ = ["area"]


ON = option("--on", "at", type=When(), metavar="TIME", help=text("area.opt_on"))
DRY_RUN = option("--dry-run", is_flag=True, help=text("change.opt_dry_run"))
YES = option("--yes", is_flag=True, help=text("change.opt_yes"))


@click.group(
    "area",
    cls=Group,
    help=text("cli.help_area"),
    examples=[
        "iot area import areas.csv --dry-run",
        "iot area tree",
        "iot area merge 06655 06685 --into 06685 --on 2025-07-01",
    ],
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
@option("--parent", type=AREA, metavar="KEY", help=text("cli.opt_area_parent"))
@option("--code", metavar="CODE", help=text("cli.opt_area_code"))
def add(key: str, *, name: str, name_en: str | None, kind: str, parent: str | None, code: str | None) -> None:
    from iot_core.api import shapes

    new = shapes.AreaNew(key=key, name=name, name_en=name_en, kind=kind, parent=parent, code=code)
    added = ask(lambda client: client.add_area(new))
    show_one(added, lambda: line("cli.area_added", key=added.key, name=added.name))


@area.command("tree", help=text("cli.help_area_tree"), examples=["iot area tree", "iot area tree --output json"])
def tree() -> None:
    found = ask(lambda client: client.area_tree())
    if chosen().output == "csv":  # parents before children, as `iot area import` reads them
        show_rows(list(_all(found.items)), [], nothing="cli.area_none", data=_flat)
    else:
        show_one(found.items, lambda: _print_tree(found.items))


@area.command("show", help=text("area.help_show"), examples=["iot area show 06685", "iot area show 193"])
@click.argument("key", type=AREA, metavar="KEY")
def show(key: str) -> None:
    found = ask(lambda client: client.area(key))
    show_one(found, lambda: _print(found))


@area.command(
    "import",
    help=text("area.help_import"),
    examples=[
        "iot area import areas.csv --dry-run",
        "iot area import areas.csv --yes",
        "iot area import wards.geojson",
    ],
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path), metavar="FILE")
@ON
@DRY_RUN
@YES
def import_(file: pathlib.Path, at: datetime | None, *, dry_run: bool, yes: bool) -> None:
    from iot_core.api import shapes
    from iot_core.cli.area_files import read

    areas, dialect, ignored = read(file)
    note("area.read", file=file, areas=len(areas), dialect=dialect)
    if ignored:
        note("lists.ignored", headings=", ".join(ignored))
    carry_out(
        lambda client, dry: client.import_areas(shapes.AreaImport(areas=areas, at=at, dry_run=dry)),
        dry_run=dry_run,
        yes=yes,
    )


@area.command(
    "rename",
    help=text("area.help_rename"),
    examples=["iot area rename 75 'Thành phố Đồng Nai' --name-en 'Dong Nai City' --on 2026-04-30"],
)
@click.argument("key", type=AREA, metavar="KEY")
@click.argument("name", metavar="NAME", required=False)
@option("--name-en", metavar="NAME", help=text("cli.opt_area_name_en"))
@ON
@DRY_RUN
def rename(key: str, name: str | None, name_en: str | None, at: datetime | None, *, dry_run: bool) -> None:
    from iot_core.api import shapes

    if name is None and name_en is None:
        raise click.UsageError(text("area.name_needed"))
    carry_out(
        lambda client, dry: client.rename_area(key, shapes.AreaRename(name=name, name_en=name_en, at=at, dry_run=dry)),
        dry_run=dry_run,
        yes=True,
    )


@area.command("move", help=text("area.help_move"), examples=["iot area move dma-7 --parent 06685", "iot area move 22"])
@click.argument("key", type=AREA, metavar="KEY")
@option("--parent", type=AREA, metavar="KEY", help=text("area.opt_parent"))
@ON
@DRY_RUN
def move(key: str, parent: str | None, at: datetime | None, *, dry_run: bool) -> None:
    from iot_core.api import shapes

    carry_out(
        lambda client, dry: client.move_area(key, shapes.AreaMove(parent=parent, at=at, dry_run=dry)),
        dry_run=dry_run,
        yes=True,
    )


@area.command(
    "merge",
    help=text("area.help_merge"),
    examples=[
        "iot area merge 06655 06685 --into 06685 --on 2025-07-01",
        "iot area merge 193 195 --into 22 --on 2025-07-01 --dry-run",
        "iot area merge a b --into c --name 'Phường C' --kind ward --parent 22",
    ],
)
@click.argument("keys", type=AREA, metavar="KEY...", nargs=-1, required=True)
@option("--into", required=True, type=AREA, metavar="KEY", help=text("area.opt_into"))
@option("--name", metavar="NAME", help=text("area.opt_into_name"))
@option("--kind", default="ward", metavar="KIND", help=text("cli.opt_area_kind"))
@option("--parent", type=AREA, metavar="KEY", help=text("cli.opt_area_parent"))
@ON
@DRY_RUN
@YES
def merge(
    keys: tuple[str, ...],
    into: str,
    name: str | None,
    *,
    kind: str,
    parent: str | None,
    at: datetime | None,
    dry_run: bool,
    yes: bool,
) -> None:
    from iot_core.api import shapes

    new = None if name is None else shapes.AreaNew(key=into, name=name, kind=kind, parent=parent)

    def body(*, dry: bool) -> shapes.AreaMerge:
        return shapes.AreaMerge(areas=keys, into=None if new else into, new=new, at=at, dry_run=dry)

    carry_out(lambda client, dry: client.merge_areas(body(dry=dry)), dry_run=dry_run, yes=yes)


@area.command("end", help=text("area.help_end"), examples=["iot area end dma-7", "iot area end dma-7 --on 2026-01-01"])
@click.argument("key", type=AREA, metavar="KEY")
@ON
@DRY_RUN
def end(key: str, at: datetime | None, *, dry_run: bool) -> None:
    from iot_core.api import shapes

    carry_out(
        lambda client, dry: client.end_area(key, shapes.AreaEnd(at=at, dry_run=dry)),
        dry_run=dry_run,
        yes=True,
    )


_VERSIONS: list[Column[shapes.AreaVersion]] = [
    Column("area.col_since", lambda row: row.since or text("area.always")),
    Column("area.col_until", lambda row: row.until or text("area.still")),
    Column("area.col_name", lambda row: row.name),
    Column("area.col_kind", lambda row: row.kind),
    Column("area.col_parent", lambda row: row.parent),
]


def _print(found: shapes.AreaDetail) -> None:
    facts: list[tuple[str, object]] = [
        ("cli.col_area", f"{found.name} ({found.key})"),
        ("area.col_name_en", found.name_en),
        ("area.col_kind", found.kind),
        ("area.col_parent", found.parent),
        ("area.col_devices", found.devices),
    ]
    if found.ended_at is not None:
        facts.append(("area.col_ended", local(found.ended_at)))
        facts.append(("area.col_into", found.into))
    fact_lines(facts)
    click.echo(f"\n{text('area.head_history')}")
    print_rows(found.history, _VERSIONS)


def _print_tree(roots: tuple[shapes.AreaNode, ...]) -> None:
    from rich.tree import Tree

    from iot_core.cli.output import console

    if not roots:
        line("cli.area_none")
    for root in roots:
        top = Tree(_label(root))
        _grow(top, root)
        console().print(top)


def _all(nodes: tuple[shapes.AreaNode, ...]) -> Iterator[shapes.AreaNode]:
    for node in nodes:
        yield node
        yield from _all(node.children)


def _flat(node: shapes.AreaNode) -> dict[str, object]:
    return {name: value for name, value in to_builtins(node).items() if name != "children"}


def _grow(branch: Tree, node: shapes.AreaNode) -> None:
    for child in node.children:
        _grow(branch.add(_label(child)), child)


def _label(node: shapes.AreaNode) -> str:
    from rich.markup import escape

    name = (node.name_en if language() == "en" else None) or node.name
    return escape(text("cli.area_label", name=name, key=node.key, kind=node.kind, devices=node.devices_below))
