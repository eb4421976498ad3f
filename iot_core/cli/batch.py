"""`iot batch`: keys with which the devices of a factory run claim themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import BATCH, MODEL
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import Until, local
from iot_core.cli.words import person
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["batch"]

STATE_STYLE = {"open": "green", "exhausted": "yellow", "expired": "dim", "revoked": "red"}
COLUMNS: list[Column[shapes.Batch]] = [
    Column("batch.col_key", lambda row: row.key, whole=True),
    Column("batch.col_state", lambda row: text(f"batch.state_{row.state}"), lambda row: STATE_STYLE[row.state]),
    Column("batch.col_claimed", lambda row: f"{row.claimed}/{row.count}", right=True, whole=True),
    Column("batch.col_waiting", lambda row: row.waiting, right=True, drop=2),
    Column("batch.col_until", lambda row: local(row.until)),
    Column("batch.col_profile", lambda row: row.profile, drop=1),
    Column("batch.col_networks", lambda row: ", ".join(row.networks), drop=3),
    Column("batch.col_name", lambda row: row.name, drop=2),
]


@click.group(
    "batch",
    cls=Group,
    help=text("batch.help"),
    examples=[
        "iot batch create --count 500 --until 90d --profile native-water-meter",
        "iot batch list",
        "iot batch revoke b_7k3m9x2q",
    ],
)
def batch() -> None:
    pass


@batch.command(
    "create",
    help=text("batch.help_create"),
    examples=[
        "iot batch create --count 500 --until 2027-03-31 --profile native-water-meter",
        "iot batch create --count 20 --until 8h --network 10.20.0.0/16 --name 'Lot 12, Cẩm Phả'",
    ],
)
@option("--count", type=click.IntRange(1, 1_000_000), required=True, metavar="N", help=text("batch.opt_count"))
@option("--until", type=Until(), required=True, metavar="TIME", help=text("batch.opt_until"))
@option("--profile", type=MODEL, metavar="MODEL", help=text("batch.opt_profile"))
@option("--network", "networks", multiple=True, metavar="CIDR", help=text("batch.opt_network"))
@option("--name", default="", metavar="TEXT", help=text("batch.opt_name"))
def create(*, count: int, until: datetime, profile: str | None, networks: tuple[str, ...], name: str) -> None:
    from iot_core.api import shapes

    new = shapes.BatchNew(count=count, until=until, profile=profile, networks=networks, name=name)
    made = ask(lambda client: client.new_batch(new))
    show_one(made, lambda: _say_created(made))


@batch.command("list", help=text("batch.help_list"), examples=["iot batch list", "iot batch list --output json"])
def list_() -> None:
    found = ask(lambda client: client.batches())
    show_rows(found.items, COLUMNS, nothing="batch.no_batches")


@batch.command("show", help=text("batch.help_show"), examples=["iot batch show b_7k3m9x2q"])
@click.argument("key", type=BATCH, metavar="BATCH")
def show(key: str) -> None:
    found = ask(lambda client: client.batch(key))
    show_one(found, lambda: fact_lines(_facts(found)))


@batch.command("revoke", help=text("batch.help_revoke"), examples=["iot batch revoke b_7k3m9x2q"])
@click.argument("key", type=BATCH, metavar="BATCH")
def revoke(key: str) -> None:
    gone = ask(lambda client: client.revoke_batch(key))
    show_one(gone, lambda: line("batch.revoked", key=gone.key, claimed=gone.claimed, waiting=gone.waiting))


def _say_created(made: shapes.BatchCreated) -> None:
    line("batch.created", key=made.batch.key, count=made.batch.count, until=local(made.batch.until))
    fact_lines(
        [
            ("batch.into_user", made.batch.key),
            ("batch.into_key", made.secret),
            ("batch.into_http", made.http),
            ("batch.into_coap", made.coap),
            ("batch.into_mqtt", made.mqtt or text("batch.no_mqtt")),
            ("batch.into_mqtts", made.mqtts or text("batch.no_mqtts")),
            ("batch.col_profile", made.batch.profile),
            ("batch.col_networks", ", ".join(made.batch.networks)),
        ]
    )
    line("batch.once")


def _facts(found: shapes.Batch) -> list[tuple[str, object]]:
    return [
        ("batch.col_key", found.key),
        ("batch.col_name", found.name),
        ("batch.col_state", text(f"batch.state_{found.state}")),
        ("batch.col_claimed", f"{found.claimed}/{found.count}"),
        ("batch.col_waiting", found.waiting),
        ("batch.col_until", local(found.until)),
        ("batch.col_profile", found.profile),
        ("batch.col_networks", ", ".join(found.networks)),
        ("batch.col_created", f"{local(found.created_at)}, {person(found.created_by)}"),
        ("batch.col_revoked", local(found.revoked_at)),
    ]
