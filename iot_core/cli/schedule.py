"""`iot schedule`: commands at local times, by clock and sun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import NEW_KEY, SCHEDULE
from iot_core.cli.output import Column, fact_lines, line, print_rows, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.spans import Span
from iot_core.cli.times import local
from iot_core.cli.words import written
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import timedelta

    from iot_core.api import shapes

__all__ = ["schedule"]


def _written(moment: shapes.ScheduleMoment) -> str:
    return written(moment.name, moment.params)


def _next(row: shapes.Schedule) -> str:
    return f"{local(row.coming[0].at)}  {_written(row.coming[0])}" if row.coming else "-"


COLUMNS: list[Column[shapes.Schedule]] = [
    Column("cli.col_name", lambda row: row.key),
    Column("schedule.col_where", lambda row: row.selector),
    Column("schedule.col_devices", lambda row: row.devices, right=True),
    Column("schedule.col_stored", lambda row: row.stored_on, right=True, drop=1),
    Column("schedule.col_next", _next),
]
MOMENTS: list[Column[shapes.ScheduleMoment]] = [
    Column("schedule.col_time", lambda row: local(row.at), whole=True),
    Column("schedule.col_what", _written),
]


@click.group(
    "schedule",
    cls=Group,
    help=text("schedule.help"),
    examples=[
        "iot schedule add evening --where class=streetlight 'dusk-15m dim level=100' 'dawn+10m dim level=0'",
        "iot schedule preview evening --days 3",
        "iot schedule override evening 'dim level=100' --for 4h",
    ],
)
def schedule() -> None:
    pass


@schedule.command(
    "add",
    help=text("schedule.help_add"),
    examples=[
        "iot schedule add evening --where class=streetlight 'dusk-15m dim level=100' 'dawn+10m dim level=0'",
        "iot schedule add bridge --where label=bridge 'workday 22:00 dim level=50' 'holiday sunset dim level=100'",
    ],
)
@click.argument("key", type=NEW_KEY)
@click.argument("points", nargs=-1, required=True, metavar="POINT...")
@option("--where", required=True, metavar="SELECTOR", help=text("schedule.opt_where"))
def add(key: str, points: tuple[str, ...], where: str) -> None:
    found = ask(lambda client: client.add_schedule(key, where, points))
    show_one(found, lambda: _print(found))


@schedule.command("list", help=text("schedule.help_list"), examples=["iot schedule list"])
def list_() -> None:
    found = ask(lambda client: client.schedules())
    show_rows(found.items, COLUMNS, nothing="schedule.none")


@schedule.command("show", help=text("schedule.help_show"), examples=["iot schedule show evening"])
@click.argument("key", type=SCHEDULE)
def show(key: str) -> None:
    found = ask(lambda client: client.schedule(key))
    show_one(found, lambda: _print(found))


@schedule.command("preview", help=text("schedule.help_preview"), examples=["iot schedule preview evening --days 7"])
@click.argument("key", type=SCHEDULE)
@option("--days", type=click.IntRange(1, 366), default=2, metavar="N", help=text("schedule.opt_days"))
def preview(key: str, days: int) -> None:
    found = ask(lambda client: client.schedule(key, days=days))
    show_rows(found.coming, MOMENTS, nothing="schedule.nothing_coming")


@schedule.command(
    "override",
    help=text("schedule.help_override"),
    examples=["iot schedule override evening 'dim level=100' --for 4h", "iot schedule override evening --end"],
)
@click.argument("key", type=SCHEDULE)
@click.argument("command", required=False)
@option("--for", "span", type=Span("1s", "31d"), metavar="SPAN", help=text("schedule.opt_for"))
@option("--end", is_flag=True, help=text("schedule.opt_end"))
def override(key: str, command: str | None, span: timedelta | None, *, end: bool) -> None:
    if end and command is None and span is None:
        found = ask(lambda client: client.override_schedule(key, None))
        show_one(found, lambda: line("schedule.override_ended", key=key))
        return
    if end or command is None or span is None:
        raise click.UsageError(text("schedule.how_to_override"))
    found = ask(lambda client: client.override_schedule(key, command, span.total_seconds()))
    show_one(found, lambda: line("schedule.overridden", key=key, what=command, until=local(found.override_to)))


@schedule.command("remove", help=text("schedule.help_remove"), examples=["iot schedule remove evening"])
@click.argument("key", type=SCHEDULE)
def remove(key: str) -> None:
    found = ask(lambda client: client.remove_schedule(key))
    show_one(found, lambda: line("schedule.removed", key=key))


def _print(found: shapes.Schedule) -> None:
    fact_lines(
        [
            ("cli.col_name", found.key),
            ("schedule.col_where", found.selector),
            ("schedule.col_devices", found.devices),
            ("schedule.col_stored", found.stored_on),
            ("schedule.col_place", _place(found)),
            ("schedule.col_points", "; ".join(found.points)),
            ("schedule.col_override", _override(found)),
        ]
    )
    if found.coming:
        print_rows(found.coming, MOMENTS)


def _place(found: shapes.Schedule) -> str:
    return "-" if found.latitude is None else f"{found.latitude:.4f}, {found.longitude:.4f}"


def _override(found: shapes.Schedule) -> str:
    if found.override_point is None:
        return "-"
    return f"{found.override_point.partition(' ')[2]}  {local(found.override_from)} – {local(found.override_to)}"
