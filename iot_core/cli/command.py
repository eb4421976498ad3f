"""`iot command`: ask one device or many to do something, and see what became of it."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.device_command import param
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, fact_lines, is_for_people, line, note, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.spans import Span
from iot_core.cli.times import local
from iot_core.cli.words import ending, moment, person, written
from iot_core.errors import RequestError
from iot_core.messages import text
from iot_core.model import CommandState

if TYPE_CHECKING:
    from datetime import timedelta

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["command", "followed", "say_order", "sure"]

_ASK_ABOVE = 10
_LOOK_S = 0.3
_LONGEST = 24
"""Of a parameter in a list."""
_STYLE = {
    "queued": "yellow", "sent": "cyan", "delivered": "cyan", "succeeded": "green", "failed": "red", "expired": "red",
}  # fmt: skip
_OVER = ("succeeded", "failed", "expired")


def _short(name: str, params: dict[str, object]) -> str:
    """Write it for a list, where a digest or a signature says nobody anything."""
    return written(name, {key: value for key, value in params.items() if len(str(value)) <= _LONGEST})


def _state(row: shapes.Command) -> str:
    return text("command.waits_second") if row.waits_for_second else text(f"command.is_{row.state.value}")


def _expires(found: shapes.Command) -> str:
    """Say until when it is good. One that has left is open for a while longer: what came of it may be heard late."""
    now = datetime.now(UTC)
    if found.ended_at is None and found.expires_at <= now:
        return text("command.heard_late", at=local(found.expires_at))
    return ending(found.expires_at, now)


def _why(row: shapes.Command) -> str:
    return " ".join(filter(None, (row.detail, row.said)))


COLUMNS: list[Column[shapes.Command]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("command.col_order", lambda row: row.order, right=True, drop=2),
    Column("cli.col_device", lambda row: row.device),
    Column("command.col_command", lambda row: _short(row.name, row.params)),
    Column("cli.col_state", _state, lambda row: _STYLE[row.state.value]),
    Column("command.col_why", _why, drop=3),
    Column("command.col_by", lambda row: person(row.by), drop=1),
    Column("command.col_queued", lambda row: local(row.queued_at), whole=True, drop=4),
]


@click.group(
    "command",
    cls=Group,
    help=text("command.help_group"),
    examples=[
        "iot command send sl-0101 dim level=40",
        "iot command send --where 'class=streetlight and area=hong-gai' switch on=true --rate 20 --stop-after 5",
        "iot command list --open",
    ],
)
def command() -> None:
    pass


@command.command(
    "send",
    help=text("command.help_send"),
    examples=[
        "iot command send sl-0101 dim level=40",
        "iot command send sl-0101 sl-0102 switch on=true --ttl 1h",
        "iot command send --where 'class=streetlight and label=bridge' dim level=60 --rate 20 --stop-after 5 --yes",
        "iot command send wm-0007 valve open=false --key ticket-4711",
    ],
)
@click.argument("words", nargs=-1, required=True, metavar="[KEY]... COMMAND [PARAM=VALUE]...")
@option("--where", metavar="SELECTOR", help=text("command.opt_where"))
@option("--ttl", type=Span("1s", "30d"), metavar="SPAN", help=text("command.opt_ttl"))
@option("--tries", type=click.IntRange(1, 100), metavar="N", help=text("command.opt_tries"))
@option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help=text("command.opt_rate"))
@option("--stop-after", type=click.IntRange(min=1), metavar="N", help=text("command.opt_stop_after"))
@option("--key", "idempotency_key", metavar="TEXT", help=text("command.opt_key"))
@option(
    "--wait", "wait_s", type=click.FloatRange(0, 3_600), default=10.0, metavar="S", help=text("command.opt_wait_all")
)
@option("--dry-run", is_flag=True, help=text("command.opt_dry"))
@option("--yes", is_flag=True, help=text("command.opt_yes"))
def send(
    words: tuple[str, ...], *, where: str | None, ttl: timedelta | None, tries: int | None, rate: float | None,
    stop_after: int | None, idempotency_key: str | None, wait_s: float, dry_run: bool, yes: bool,
) -> int:  # fmt: skip
    from iot_core.api import shapes

    keys, name, params = _read(words, selector=where is not None)
    new = shapes.OrderNew(
        name=name, params=params, devices=None if where else keys, where=where,
        ttl_s=None if ttl is None else ttl.total_seconds(), tries=tries, rate=rate, stop_after=stop_after,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    if dry_run or where is not None or len(keys) > _ASK_ABOVE:
        would = ask(lambda client: client.order_command(_dry(new)))
        if dry_run:
            show_one(would, lambda: line("command.would", total=would.total, sample=", ".join(would.devices)))
            return 0
        sure(would, yes=yes)

    async def order(client: Client) -> shapes.CommandOrder:
        return await followed(client, await client.order_command(new), wait_s)

    done = ask(order)
    show_one(done, lambda: say_order(done))
    return 1 if done.states.get("failed") or done.states.get("expired") else 0


@command.command(
    "list",
    help=text("command.help_list"),
    examples=["iot command list", "iot command list --open", "iot command list --order 12 --state failed"],
)
@option("--device", type=DEVICE, metavar="KEY", help=text("command.opt_device"))
@option("--order", type=int, metavar="N", help=text("command.opt_order"))
@option("--state", type=click.Choice([state.value for state in CommandState]), help=text("command.opt_state"))
@option("--open", "open_only", is_flag=True, help=text("command.opt_open"))
@option("--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help=text("cli.opt_limit"))
def list_(device: str | None, order: int | None, state: str | None, *, open_only: bool, limit: int) -> None:
    from iot_core.api import shapes

    asked = shapes.CommandsQuery(
        device=device, order=order, state=None if state is None else CommandState(state), open=open_only, limit=limit
    )
    found = ask(lambda client: client.commands(asked))
    show_rows(found.items, COLUMNS, nothing="command.none")


@command.command("show", help=text("command.help_show"), examples=["iot command show 17"])
@click.argument("number", metavar="ID", type=int)
def show(number: int) -> None:
    found = ask(lambda client: client.show_command(number))
    show_one(found, lambda: _print(found))


@command.command("order", help=text("command.help_order"), examples=["iot command order 12"])
@click.argument("number", metavar="ORDER", type=int)
def order(number: int) -> None:
    found = ask(lambda client: client.command_order(number))
    show_one(found, lambda: say_order(found))


@command.command(
    "cancel", help=text("command.help_cancel"), examples=["iot command cancel 17", "iot command cancel --order 12"]
)
@click.argument("number", metavar="[ID]", type=int, required=False)
@option("--order", type=int, metavar="N", help=text("command.opt_cancel_order"))
def cancel(number: int | None, order: int | None) -> int:
    if (number is None) == (order is None):
        raise RequestError("command.which")
    done = ask(lambda client: client.cancel_order(order) if number is None else client.cancel_command(number))  # type: ignore[arg-type]
    code = "command.cancelled_n" if done.ids or done.left else "command.over_already"
    show_one(done, lambda: line(code, n=len(done.ids), left=done.left))
    return 0 if done.ids else 1


@command.command("confirm", help=text("command.help_confirm"), examples=["iot command confirm 12"])
@click.argument("number", metavar="ORDER", type=int)
def confirm(number: int) -> None:
    done = ask(lambda client: client.confirm_order(number))
    show_one(done, lambda: line("command.confirmed", order=done.number, name=done.name, by=done.confirmed_by))


def sure(would: shapes.CommandOrder, *, yes: bool) -> None:
    """Ask before many devices are told something."""
    if would.total > _ASK_ABOVE and not yes:
        if not (is_for_people() and sys.stdin.isatty()):
            raise RequestError("command.sure_needed", total=would.total)
        line("command.would", total=would.total, sample=", ".join(would.devices))
        click.confirm(text("command.sure", total=would.total), abort=True)


def _read(
    words: tuple[str, ...], *, selector: bool
) -> tuple[tuple[str, ...], str, dict[str, bool | int | float | str]]:
    """Take keys, command and parameters apart: a parameter has an `=`, the command is the last that has none."""
    plain = [each for each in words if "=" not in each]
    if not plain or (not selector and len(plain) == 1) or (selector and len(plain) > 1):
        raise RequestError("command.words")
    params = dict(param(each) for each in words if "=" in each)
    return tuple(plain[:-1]), plain[-1], params


def _dry(new: shapes.OrderNew) -> shapes.OrderNew:
    from msgspec.structs import replace

    return replace(new, dry=True)


async def followed(client: Client, order: shapes.CommandOrder, wait_s: float) -> shapes.CommandOrder:
    """Wait until all of an order is over, or nothing can go on before a second person confirms it."""
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    assert order.number is not None
    deadline = time.monotonic() + wait_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = order.total == 1 or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        bar = progress.add_task(order.name, total=order.total)
        while True:
            over = sum(order.states.get(state, 0) for state in _OVER)
            progress.update(bar, completed=over)
            waits = order.second_person and order.confirmed_by is None
            if over == order.total or waits or time.monotonic() >= deadline:
                return order
            await asyncio.sleep(_LOOK_S)
            order = await client.command_order(order.number)


def say_order(order: shapes.CommandOrder) -> None:
    """Say what an order is, and in which states its commands are."""
    states = ", ".join(
        f"{text(f'command.is_{state}')} {order.states[state]}" for state in _STYLE if order.states.get(state)
    )
    line(
        "command.order_is",
        order=order.number,
        name=written(order.name, order.params),
        total=order.total,
        states=states,
    )
    if order.second_person and order.confirmed_by is None and not all(order.states.get(s, 0) == 0 for s in ("queued",)):
        line("command.needs_second", order=order.number)
    if order.stopped_at is not None:
        line("command.was_stopped", time=local(order.stopped_at), n=order.stop_after)
    if order.number is not None and set(order.states) - {"succeeded"}:
        note("command.look", order=order.number)


def _print(found: shapes.Command) -> None:
    fact_lines(
        [
            ("command.col_command", written(found.name, found.params)),
            ("cli.col_device", f"{found.device}  {found.device_name}".strip()),
            ("cli.col_state", _state(found)),
            ("command.col_why", _why(found) or "-"),
            ("command.col_order", str(found.order)),
            ("command.col_by", ", ".join(filter(None, (person(found.by), person(found.confirmed_by))))),
            ("command.col_tries", str(found.tries)),
            ("command.col_queued", moment(found.queued_at)),
            ("command.col_sent", moment(found.sent_at)),
            ("command.col_delivered", moment(found.delivered_at)),
            ("command.col_ended", moment(found.ended_at)),
            ("command.col_expires", _expires(found)),
        ]
    )
