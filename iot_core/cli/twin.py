"""`iot twin`: what devices should be set to, what they say they are, and what differs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Group, option
from iot_core.cli.device_command import param
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, fact_lines, line, print_rows, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.cli.words import moment, value, written
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["twin"]

_STYLE = {"in_sync": "green", "pending": "yellow", "refused": "red", "drifted": "bold red"}


def _cell(value_: Any) -> str:
    """Write what a key is set to; of a schedule only what it is, because its moments stand below the table."""
    kept = _moments(value_)
    if kept is None:
        return value(value_)
    return text("twin.schedule", key=str(value_.get("key", "-")), moments=len(kept))


def _moments(value_: Any) -> list[tuple[str, str]] | None:
    """Give time and command of each moment of a schedule as a device keeps it; None for any other value."""
    try:
        return [
            (local(datetime.fromisoformat(point["time"])), written(point["name"], point["params"]))
            for point in value_["points"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError):  # a device may report anything
        return None


KEYS: list[Column[shapes.TwinKey]] = [
    Column("twin.col_key", lambda row: row.key),
    Column("twin.col_desired", lambda row: _cell(row.desired), right=True),
    Column("twin.col_reported", lambda row: _cell(row.reported), right=True),
    Column("cli.col_state", lambda row: text(f"twin.is_{row.sync}"), lambda row: _STYLE[row.sync]),
    Column("twin.col_why", lambda row: row.refused, drop=1),
]


MOMENTS: list[Column[tuple[str, str]]] = [
    Column("schedule.col_time", lambda row: row[0], whole=True),
    Column("schedule.col_what", lambda row: row[1]),
]


def _differing(found: shapes.Twin) -> str:
    return ", ".join(f"{row.key}: {text(f'twin.is_{row.sync}')}" for row in found.keys if row.sync != "in_sync")


COLUMNS: list[Column[shapes.Twin]] = [
    Column("cli.col_device", lambda row: row.device),
    Column("twin.col_version", lambda row: f"{row.reported_version}/{row.version}", right=True),
    Column("twin.col_differs", _differing),
    Column("twin.col_reported_at", lambda row: local(row.reported_at), drop=1),
]


@click.group(
    "twin",
    cls=Group,
    help=text("twin.help"),
    examples=["iot twin show sl-0101", "iot twin set sl-0101 interval=60", "iot twin list"],
)
def twin() -> None:
    pass


@twin.command("show", help=text("twin.help_show"), examples=["iot twin show sl-0101", "iot twin show lc-1 --check"])
@click.argument("key", type=DEVICE)
@option("--check", is_flag=True, help=text("twin.opt_check"))
def show(key: str, *, check: bool) -> None:
    found = ask(lambda client: client.check_twin(key) if check else client.twin(key))
    show_one(found, lambda: _print(found))


@twin.command(
    "set",
    help=text("twin.help_set"),
    examples=[
        "iot twin set sl-0101 interval=60",
        "iot twin set sl-0101 interval=none",
        "iot twin set lc-1 contactor=true",
    ],
)
@click.argument("key", type=DEVICE)
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@option("--version", "version", type=int, metavar="N", help=text("twin.opt_version"))
def set_(key: str, changes: tuple[str, ...], version: int | None) -> None:
    given = {name: None if said == "none" else said for name, said in map(param, changes)}
    if not given:
        raise RequestError("twin.nothing")
    found = ask(lambda client: client.change_twin(key, given, version=version))
    show_one(found, lambda: _print(found))


@twin.command("list", help=text("twin.help_list"), examples=["iot twin list", "iot twin list --all --output csv"])
@option("--all", "all_", is_flag=True, help=text("twin.opt_all"))
@option("--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help=text("cli.opt_limit"))
def list_(*, all_: bool, limit: int) -> None:
    found = ask(lambda client: client.twins(all_=all_, limit=limit))
    show_rows(found.items, COLUMNS, nothing="twin.none_all" if all_ else "twin.none")


def _print(found: shapes.Twin) -> None:
    fact_lines(
        [
            ("cli.col_device", found.device),
            ("twin.col_version", f"{found.reported_version}/{found.version}"),
            ("twin.col_changed", f"{moment(found.changed_at)}  {found.changed_by or ''}".strip()),
            ("twin.col_reported_at", moment(found.reported_at)),
        ]
    )
    if found.keys:
        print_rows(found.keys, KEYS)
        for row in found.keys:
            if moments := _moments(row.desired):
                click.echo()
                line("twin.head_schedule", key=row.key)
                print_rows(moments, MOMENTS)
    else:
        line("twin.nothing_desired", device=found.device)
