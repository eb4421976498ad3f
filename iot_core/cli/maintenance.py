"""`iot maintenance`: work at devices, during which alarms are kept quiet and written down. It ends by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA, DEVICE
from iot_core.cli.output import Column, line, show_one, show_rows
from iot_core.cli.preview import carry_out
from iot_core.cli.session import ask
from iot_core.cli.times import Length, Until, When, local
from iot_core.cli.words import person, word
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["maintenance"]

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def _what(row: shapes.Window) -> str:
    if row.area is not None:
        return text("maintenance.of_area", area=row.area)
    return text("maintenance.of_label", label=row.label) if row.label is not None else str(row.device)


_COLUMNS: list[Column[shapes.Window]] = [
    Column("maintenance.col_id", lambda row: row.id, right=True),
    Column("maintenance.col_kind", lambda row: word("window", row.kind)),
    Column("maintenance.col_what", _what),
    Column("maintenance.col_devices", lambda row: row.devices, right=True, drop=2),
    Column("maintenance.col_starts", lambda row: local(row.starts), drop=1),
    Column("maintenance.col_ends", lambda row: local(row.ends)),
    Column("maintenance.col_suppressed", lambda row: row.suppressed, right=True),
    Column("maintenance.col_by", lambda row: person(row.by), drop=3),
    Column("maintenance.col_reason", lambda row: row.reason, drop=4),
]


@click.group(
    "maintenance",
    cls=Group,
    help=text("maintenance.help"),
    examples=[
        "iot maintenance start lamp-0101 --for 2h --reason 'new driver'",
        "iot maintenance start --area 06685 --from 2026-12-01T22:00 --until 2026-12-02T04:00",
        "iot maintenance end 12",
    ],
)
def maintenance() -> None:
    pass


@maintenance.command(
    "start",
    help=text("maintenance.help_start"),
    examples=[
        "iot maintenance start lamp-0101 lamp-0102 --for 2h --reason 'new driver'",
        "iot maintenance start --label tower-a --for 4h",
        "iot maintenance start --area 06685 --from 2026-12-01T22:00 --until 2026-12-02T04:00",
    ],
)
@click.argument("keys", type=DEVICE, metavar="[KEY]...", nargs=-1)
@option("--area", type=AREA, metavar="KEY", help=text("maintenance.opt_area"))
@option("--label", metavar="LABEL", help=text("maintenance.opt_label"))
@option("--for", "length", type=Length(), metavar="LENGTH", help=text("maintenance.opt_for"))
@option("--from", "starts", type=When(), metavar="WHEN", help=text("maintenance.opt_from"))
@option("--until", "ends", type=Until(), metavar="WHEN", help=text("maintenance.opt_until"))
@option("--reason", default="", metavar="TEXT", help=text("maintenance.opt_reason"))
@option("--dry-run", is_flag=True, help=text("change.opt_dry_run"))
@option("--yes", is_flag=True, help=text("change.opt_yes"))
def start(
    keys: tuple[str, ...],
    *,
    area: str | None,
    label: str | None,
    length: timedelta | None,
    starts: datetime | None,
    ends: datetime | None,
    reason: str,
    dry_run: bool,
    yes: bool,
) -> None:
    from iot_core.api import shapes

    if (length is None) is (ends is None):
        raise click.UsageError(text("maintenance.how_long"))
    until = ends if ends is not None else (starts or datetime.now(UTC)) + (length or timedelta(0))

    def body(*, dry: bool) -> shapes.WindowNew:
        return shapes.WindowNew(
            keys=keys, area=area, label=label, starts=starts, ends=until, reason=reason, dry_run=dry
        )

    carry_out(lambda client, dry: client.open_window(body(dry=dry)), dry_run=dry_run, yes=yes)


@maintenance.command(
    "list",
    help=text("maintenance.help_list"),
    examples=["iot maintenance list", "iot maintenance list lamp-0101 --all"],
)
@click.argument("key", type=DEVICE, metavar="[KEY]", required=False)
@option("--all", "everything", is_flag=True, help=text("maintenance.opt_all"))
def list_(key: str | None, *, everything: bool) -> None:
    since = _LONG_AGO if everything else None
    found = ask(lambda client: client.windows(device=key, since=since))
    show_rows(found.items, _COLUMNS, nothing="maintenance.list_none")


@maintenance.command("end", help=text("maintenance.help_end"), examples=["iot maintenance end 12"])
@click.argument("number", metavar="ID", type=click.IntRange(1))
def end(number: int) -> None:
    ended = ask(lambda client: client.end_window(number))
    show_one(ended, lambda: line("maintenance.ended", id=ended.id, what=_what(ended), suppressed=ended.suppressed))
