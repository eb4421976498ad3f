"""What a command prints: tables for people, JSON and CSV with stable keys for scripts."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from iot_core.cli.session import chosen
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

__all__ = [
    "Column",
    "Stream",
    "console",
    "csv_lines",
    "fact_lines",
    "is_for_people",
    "line",
    "plain",
    "print_rows",
    "printable",
    "show_one",
    "show_rows",
]

Row = TypeVar("Row")
SCRIPT_WIDTH = 400
"""Wide enough that no column is cut when a table goes into a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table for people: its heading's code and how a row fills it."""

    heading: str
    cell: Callable[[Row], object]
    style: Callable[[Row], str] = lambda _: ""
    right: bool = False


def is_for_people() -> bool:
    """Say whether a table was asked for."""
    return chosen().output == "table"


def show_rows(
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    *,
    nothing: str,
    data: Callable[[Row], Mapping[str, object]] | None = None,
) -> None:
    """Print rows in the form that was asked for.

    `nothing` is the code of what a person is told when there are none; `data` makes plain data of a row whose own
    fields are not for scripts.
    """
    form = chosen().output
    if form == "json":
        click.echo(_json(_plain_rows(rows, data)))
    elif form == "csv":
        click.echo(_csv(_plain_rows(rows, data)), nl=False)
    elif rows:
        print_rows(rows, columns)
    else:
        click.echo(text(nothing))


def print_rows(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
    """Print rows as a table for a person."""
    console().print(_table(rows, columns))


def show_one(value: object, people: Callable[[], None]) -> None:
    """Print one thing: `people` prints it for a person."""
    form = chosen().output
    if form == "json":
        click.echo(_json(value))
    elif form == "csv":
        click.echo(_csv([plain(value)]), nl=False)
    else:
        people()


class Stream:
    """Prints things that arrive one by one: a line of JSON each, rows of CSV under one heading, or a sentence."""

    def __init__(self, head: Sequence[str]) -> None:
        self.form = chosen().output
        if self.form == "csv":
            click.echo(csv_lines(head, ()), nl=False)

    def say(self, value: object, people: str, rows: Iterable[Sequence[object]]) -> None:
        """Print one thing; `rows` is what it is in CSV."""
        if self.form == "json":
            click.echo(json.dumps(plain(value), ensure_ascii=False))
        elif self.form == "csv":
            click.echo(csv_lines((), rows), nl=False)
        else:
            click.echo(people)


def fact_lines(facts: Iterable[tuple[str, object]]) -> None:
    """Print a heading and a value on each line, values aligned."""
    rows = [(text(heading), "-" if value is None or value == "" else printable(str(value))) for heading, value in facts]
    width = max(len(heading) for heading, _ in rows)
    for heading, value in rows:
        click.echo(f"{heading:<{width}}  {value}")


def line(code: str, /, **facts: object) -> None:
    """Say a sentence to a person; scripts get none of it."""
    if is_for_people():
        click.echo(text(code, **facts))


def note(code: str, /, **facts: object) -> None:
    """Say something to a person that is no part of the answer: on stderr."""
    if is_for_people():
        click.echo(text(code, **facts), err=True)


def plain(value: object) -> Any:
    """Turn shapes into plain data with their own field names."""
    import msgspec

    return msgspec.to_builtins(value)


def console() -> Console:
    """Make a rich console: no colours where NO_COLOR or a pipe says so, no cut columns in a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else SCRIPT_WIDTH, highlight=False, soft_wrap=False)


def _table(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(text(column.heading), justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(column.cell(row)), style=column.style(row)) for column in columns))
    return table


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        from iot_core.cli.times import local

        return local(value)
    return printable(str(value))


def printable(said: str) -> str:
    """Take control characters out: what a stranger sends must not steer the terminal of whoever looks."""
    return "".join(letter if letter.isprintable() else "·" for letter in said)


def csv_lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write CSV; without a heading when `head` is empty. What is nested is written as JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if head:
        writer.writerow(head)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _plain_rows(rows: Sequence[Row], data: Callable[[Row], Mapping[str, object]] | None) -> list[dict[str, object]]:
    return [plain(row if data is None else data(row)) for row in rows]


def _json(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=2)


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return csv_lines(keys, ([row.get(key) for key in keys] for row in rows))


def _csv_cell(cell: object) -> object:
    """Write truth and nesting as JSON does; a script should not need to know Python's words for them."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (bool, dict, list, tuple)) else cell
