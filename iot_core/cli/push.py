"""`iot push`: the places that alarms go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import NEW_KEY
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.cli.words import word
from iot_core.messages import text
from iot_core.model import Severity

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["push"]

TARGET_COLUMNS: list[Column[shapes.PushTarget]] = [
    Column("cli.col_name", lambda row: row.key),
    Column("cli.col_url", lambda row: row.url, raw=True),
    Column("cli.col_from_severity", lambda row: word("severity", row.min_severity), drop=1),
    Column("cli.col_backlog", lambda row: row.backlog, lambda row: "yellow" if row.backlog else "", right=True),
    Column("cli.col_dead", lambda row: row.dead, lambda row: "red" if row.dead else "", right=True),
    Column("cli.col_delivered", lambda row: local(row.last_delivered_at), drop=2),
    Column("cli.col_error", lambda row: row.last_error_said),
]


@click.group(
    "push",
    cls=Group,
    help=text("cli.help_push"),
    examples=["iot push add ioc --webhook https://ioc.example.vn/alarms", "iot push test ioc", "iot push list"],
)
def push() -> None:
    pass


@push.command(
    "add",
    help=text("cli.help_push_add"),
    examples=[
        "iot push add ioc --webhook https://ioc.example.vn/alarms",
        "iot push add night-shift --webhook https://duty.example.vn/hook --min-severity high",
    ],
)
@click.argument("name", type=NEW_KEY)
@option("--webhook", required=True, metavar="URL", help=text("cli.opt_webhook"))
@option(
    "--min-severity",
    type=click.Choice([item.value for item in Severity]),
    default="low",
    help=text("cli.opt_min_severity"),
)
@option("--secret-file", type=click.File(), metavar="FILE", help=text("cli.opt_push_secret"))
@option("--simulated", is_flag=True, help=text("cli.opt_push_simulated"))
def add(name: str, *, webhook: str, min_severity: str, secret_file: TextIO | None, simulated: bool) -> None:
    severity = Severity(min_severity)
    # From a file, because a command line stands in the list of processes.
    secret = secret_file.read().strip() if secret_file is not None else None
    added = ask(
        lambda client: client.add_push(name, webhook, secret=secret, accepts_simulated=simulated, min_severity=severity)
    )
    show_one(added, lambda: _say_added(added))


@push.command("list", help=text("cli.help_push_list"), examples=["iot push list", "iot push list --output json"])
def list_() -> None:
    found = ask(lambda client: client.push_targets())
    show_rows(found.items, TARGET_COLUMNS, nothing="cli.push_none")


@push.command("test", help=text("cli.help_push_test"), examples=["iot push test ioc"])
@click.argument("name")
def test(name: str) -> None:
    done = ask(lambda client: client.test_push(name))
    show_one(done, lambda: line("cli.push_tested", name=name, message=done.message_id))


@push.command("remove", help=text("cli.help_push_remove"), examples=["iot push remove ioc"])
@click.argument("name")
def remove(name: str) -> None:
    ask(lambda client: client.remove_push(name))
    show_one({"removed": name}, lambda: line("cli.push_removed", name=name))


def _say_added(added: shapes.PushAdded) -> None:
    line("cli.push_added", name=added.target.key)
    fact_lines([("cli.col_url", added.target.url), ("cli.col_secret", added.secret)])
    line("cli.push_secret_once")
    line("cli.push_next", name=added.target.key)
