"""`iot telemetry completeness`: what should be stored and is not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.output import Column, line, print_rows, show_one
from iot_core.cli.scope import area_option, class_option, device_option
from iot_core.cli.session import ask
from iot_core.cli.times import When, local, midnight, span, zone_name
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["completeness"]

SHOWN = 3
"""Gaps that a person is shown of each device, the longest ones; scripts get all."""


@click.command(
    "completeness",
    cls=Command,
    help=text("completeness.help"),
    examples=[
        "iot telemetry completeness",
        "iot telemetry completeness --area ben-thanh --day 2025-06-01",
        "iot telemetry completeness --device aq-0012 --day 1d --output json",
    ],
)
@device_option
@area_option
@class_option
@option("--day", type=When(), metavar="DAY", help=text("completeness.opt_day"))
def completeness(devices: tuple[str, ...], area: str | None, class_key: str | None, day: datetime | None) -> None:
    from iot_core.api.shapes import CompletenessQuery

    start = None if day is None else midnight(day)
    end = None if start is None else midnight(start + timedelta(hours=30))
    asked = CompletenessQuery(devices=",".join(devices) or None, area=area, class_key=class_key, start=start, end=end)
    found = ask(lambda client: client.completeness(asked))
    show_one(found, lambda: _print(found))


COLUMNS: list[Column[shapes.DeviceCompleteness]] = [
    Column("telemetry.col_device", lambda row: row.device, whole=True),
    Column(
        "completeness.col_share", lambda row: _percent(row.share), lambda row: _style(row.share), right=True, whole=True
    ),
    Column("completeness.col_stored", lambda row: row.stored, right=True, drop=1),
    Column("completeness.col_expected", lambda row: row.expected, right=True, drop=1),
    Column("completeness.col_numbers", lambda row: _numbers(row), right=True, drop=3),  # noqa: PLW0108 - defined below
    Column("completeness.col_gaps", lambda row: _gaps(row)),  # noqa: PLW0108 - defined below
    Column("completeness.col_silent", lambda row: ", ".join(row.silent), drop=2),
    Column(
        "completeness.col_undeclared", lambda row: ", ".join(f"{key} ×{n}" for key, n in row.undeclared.items()), drop=3
    ),
    Column("completeness.col_missing", lambda row: _missing(row), drop=4),  # noqa: PLW0108 - defined below
]


def _print(found: shapes.Completeness) -> None:
    if not found.items:
        line("completeness.none")
        return
    print_rows(sorted(found.items, key=lambda row: 2.0 if row.share is None else row.share), COLUMNS)
    line(
        "completeness.all", share=_percent(found.share), stored=found.stored, expected=found.expected,
        start=local(found.start), end=local(found.end), zone=zone_name(),
    )  # fmt: skip
    if found.numbers is not None:
        line(
            "completeness.all_numbers",
            share=_percent(found.numbers.share),
            stored=found.numbers.stored,
            expected=found.numbers.expected,
        )


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return "100 %" if share >= 1 else f"{min(share * 100, 99.99):.2f} %"


def _style(share: float | None) -> str:
    return "" if share is None or share >= 0.95 else "yellow" if share >= 0.5 else "red"


def _gaps(row: shapes.DeviceCompleteness) -> str:
    longest = sorted(row.gaps, key=lambda gap: gap.start - gap.end)[:SHOWN]
    said = [text("completeness.gap", span=span(gap.end - gap.start), start=local(gap.start)) for gap in longest]
    more = len(row.gaps) - len(longest)
    return "; ".join(said) + (text("completeness.more", more=more) if more else "")


def _numbers(row: shapes.DeviceCompleteness) -> str:
    numbers = row.numbers
    return "" if numbers is None else f"{_percent(numbers.share)} ({numbers.stored}/{numbers.expected})"


def _missing(row: shapes.DeviceCompleteness) -> str:
    count = sum(each.last - each.first + 1 for each in row.missing)
    return str(count) if count else ""
