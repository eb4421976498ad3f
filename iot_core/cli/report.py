"""`iot report`: the environmental authority's files, listed and sent again; `iot open-data`: files for all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, Group, option
from iot_core.cli.endings import reason
from iot_core.cli.keys import CLASS, DEVICE
from iot_core.cli.output import Column, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import Day, When, local
from iot_core.errors import ConfigError
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import date, datetime

    from iot_core.api import shapes

__all__ = ["open_data", "report"]

COLUMNS: list[Column[shapes.ReportFile]] = [
    Column("cli.col_device", lambda row: row.device),
    Column("report_cli.col_period", lambda row: local(row.period), whole=True),
    Column("report_cli.col_name", lambda row: row.name),
    Column("report_cli.col_lines", lambda row: row.lines, right=True, drop=2),
    Column(
        "report_cli.col_sent", lambda row: local(row.sent_at), lambda row: "" if row.sent_at else "yellow", whole=True
    ),
    Column("report_cli.col_tries", lambda row: row.attempts, right=True, drop=2),
    Column("cli.col_error", lambda row: row.last_error, lambda row: "red" if row.last_error else "", drop=1),
    Column("report_cli.col_digest", lambda row: row.digest[:12], drop=3),
]


@click.group("report", cls=Group, help=text("report_cli.help"), examples=["iot report list --waiting"])
def report() -> None:
    pass


@report.command(
    "list",
    help=text("report_cli.help_list"),
    examples=["iot report list", "iot report list --device aq-001 --waiting", "iot report list --output csv"],
)
@option("--device", type=DEVICE, metavar="KEY", help=text("report_cli.opt_device"))
@option("--waiting", is_flag=True, help=text("report_cli.opt_waiting"))
@option("--limit", type=click.IntRange(1, 20_000), default=100, metavar="N", help=text("cli.opt_limit"))
def list_(*, device: str | None, waiting: bool, limit: int) -> None:
    from iot_core.api import shapes

    found = ask(lambda client: client.reports(shapes.ReportQuery(device=device, waiting=waiting, limit=limit)))
    show_rows(found.items, COLUMNS, nothing="report_cli.none_waiting" if waiting else "report_cli.none")


@report.command(
    "again",
    help=text("report_cli.help_again"),
    examples=[
        "iot report again aq-001 --from 2026-09-01 --to 2026-09-02",
        "iot report again aq-001 --from '2026-09-01 10:00' --to '2026-09-01 10:30'",
    ],
)
@click.argument("device", type=DEVICE)
@option("--from", "since", type=When(), required=True, metavar="WHEN", help=text("cli.opt_from"))
@option("--to", "until", type=When(), required=True, metavar="WHEN", help=text("cli.opt_to"))
def again(device: str, *, since: datetime, until: datetime) -> None:
    done = ask(lambda client: client.report_again(device, since, until))

    def say() -> None:
        code = "report_cli.again" if done.files else "report_cli.again_none" if done.first else "report_cli.again_never"
        line(code, count=done.files, device=device, first=local(done.first))

    show_one(done, say)


@click.command(
    "open-data",
    cls=Command,
    help=text("report_cli.help_open_data"),
    examples=[
        "iot open-data air_quality --day 2026-09-01 air.csv",
        "iot open-data water_meter --day 2026-09-01 water.geojson",
        "iot open-data weather --day 2026-09-01 --format geojson > weather.geojson",
    ],
)
@click.argument("class_key", type=CLASS, metavar="CLASS")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@option("--day", type=Day(), required=True, metavar="DATE", help=text("report_cli.opt_day"))
@option("--format", "form", type=click.Choice(["csv", "geojson"]), help=text("report_cli.opt_format"))
def open_data(class_key: str, file: Path | None, *, day: date, form: str | None) -> None:
    from iot_core.api import shapes

    chosen = form or ("geojson" if file is not None and file.suffix in {".geojson", ".json"} else "csv")
    asked = shapes.OpenDataQuery(class_key=class_key, day=day, format="geojson" if chosen == "geojson" else "csv")
    data = ask(lambda client: client.open_data(asked))
    if file is None:
        sys.stdout.buffer.write(data)
        return
    try:
        file.write_bytes(data)
    except OSError as exc:
        raise ConfigError("report_cli.not_written", file=file, detail=reason(exc)) from exc
    click.echo(text("report_cli.written", file=file, size=len(data)), err=True)
