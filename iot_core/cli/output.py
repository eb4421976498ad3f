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

from iot_core.cells import disarmed
from iot_core.cli.layout import GAP, Room, fit
from iot_core.cli.session import chosen
from iot_core.messages import said, text
from iot_core.settings import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

    from iot_core.errors import IotError

__all__ = [
    "Column",
    "Stream",
    "console",
    "csv_lines",
    "cut",
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
EASY = 14
"""A column of words is not made narrower than this where it has more to say."""
_EMPTY = "-"
LONGEST_WORD = 40
"""What is longer may be broken anywhere."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table for people: its heading's code and how a row fills it.

    On a narrow terminal the columns of the highest `drop` go first (0: never); a `whole` one stays on one line; a
    `raw` one holds what has no words and may be broken anywhere.
    """

    heading: str
    cell: Callable[[Row], object]
    style: Callable[[Row], str] = lambda _: ""
    right: bool = False
    drop: int = 0
    whole: bool = False
    raw: bool = False


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
    """Print rows for a person: as a table, or below each other where the screen is too narrow for one."""
    screen = console()
    said = [[text(column.heading), *(_cell(column.cell(row)) for row in rows)] for column in columns]
    widths = fit([_room(column, cells) for column, cells in zip(columns, said, strict=True)], screen.width)
    if widths:
        screen.print(_table(rows, columns, said, widths))
        return
    for number, row in enumerate(rows, 1):
        screen.print(_card(row, columns, [(cells[0], cells[number]) for cells in said]))
        if number < len(rows):
            screen.print()


def show_one(value: object, people: Callable[[], None]) -> None:
    """Print one thing: `people` prints it for a person."""
    form = chosen().output
    if form == "json":
        click.echo(_json(value))
    elif form == "csv":
        rows = plain(value)
        click.echo(_csv(rows if isinstance(rows, list) else [rows]), nl=False)
    else:
        people()


class Stream:
    """Prints things that arrive one by one: a line of JSON each, rows of CSV under one heading, or a sentence."""

    def __init__(self, head: Sequence[str]) -> None:
        self.form = chosen().output
        self._head = head

    def begin(self) -> None:
        """Say that it stands: to a person that they watch now, to a spreadsheet the heading."""
        note("cli.watching")
        if self.form == "csv":
            click.echo(csv_lines(self._head, ()), nl=False)

    def lost(self, error: IotError | None) -> None:
        """Say to a person that it does not stand any more, and that it stands again."""
        if error is None:
            note("cli.watch_back")
        else:
            note("cli.watch_lost", reason=said(error))

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


def cut(shown: int, total: int) -> None:
    """Say on stderr, to scripts too, that a list stopped at its limit."""
    if shown < total:
        click.echo(text("cli.cut", more=total - shown), err=True)


def plain(value: object) -> Any:
    """Turn shapes into plain data with their own field names."""
    import msgspec

    return msgspec.to_builtins(value)


def console() -> Console:
    """Make a rich console: neither colours nor bold where NO_COLOR or a pipe says so, no cut columns in a file."""
    from rich.console import Console

    return Console(
        width=None if sys.stdout.isatty() else SCRIPT_WIDTH,
        color_system=None if environment("NO_COLOR") else "auto",
        highlight=False,
        soft_wrap=False,
    )


def _table(
    rows: Sequence[Row], columns: Sequence[Column[Row]], said: Sequence[Sequence[str]], widths: Mapping[int, int]
) -> object:
    from rich.table import Table
    from rich.text import Text

    shown = sorted(widths)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index in shown:
        table.add_column(
            said[index][0], justify="right" if columns[index].right else "left", overflow="fold", width=widths[index]
        )
    for number, row in enumerate(rows, 1):
        table.add_row(*(Text(said[index][number], style=columns[index].style(row)) for index in shown))
    return table


def _card(row: Row, columns: Sequence[Column[Row]], said: Sequence[tuple[str, str]]) -> object:
    """Write a row as lines of heading and value, without what is not there."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for column, (heading, cell) in zip(columns, said, strict=True):
        if cell != _EMPTY:
            table.add_row(heading, Text(cell, style=column.style(row)))
    return table


def _room(column: Column[Row], cells: Sequence[str]) -> Room:
    """Measure a column's heading and cells."""
    from rich.cells import cell_len

    most = max(cell_len(cell) for cell in cells)
    if column.whole:
        return Room(most, most, column.drop)
    words = cells[:1] if column.raw else cells
    longest = max(cell_len(word) for cell in words for word in cell.split() or [""])
    return Room(min(most, max(EASY, min(longest, LONGEST_WORD))), most, column.drop, column.raw)


def _cell(value: object) -> str:
    if value is None or value == "":
        return _EMPTY
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
    """Write truth and nesting as JSON does, for a script should not need to know Python's words; and no formulas."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (bool, dict, list, tuple)) else disarmed(cell)
