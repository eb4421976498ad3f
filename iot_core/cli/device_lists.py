"""`iot device import|export|edit|replace`: many devices at once, and another unit at one of them."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import AREA, DEVICE, MODEL
from iot_core.cli.output import Column, is_for_people, line, note, print_rows, show_one
from iot_core.cli.preview import ASK_ABOVE, carry_out
from iot_core.cli.session import ask
from iot_core.cli.times import Day
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["edit", "export", "import_", "replace"]

SHOWN = 50
DAY = Day()
PATH = click.Path(dir_okay=False, path_type=pathlib.Path)


@click.command(
    "import",
    cls=Command,
    help=text("lists.help_import"),
    examples=[
        "iot device import meters.xlsx --template milesight-em300-di",
        "iot device import meters.xlsx --dry-run",
        "iot device import meters.csv --yes --secrets meters-secrets.csv",
    ],
)
@click.argument("file", type=PATH, metavar="FILE")
@option("--template", type=MODEL, metavar="MODEL", help=text("lists.opt_template"))
@option("--dry-run", is_flag=True, help=text("change.opt_dry_run"))
@option("--skip-bad", is_flag=True, help=text("lists.opt_skip_bad"))
@option("--secrets", type=PATH, metavar="FILE", help=text("lists.opt_secrets"))
@option("--yes", is_flag=True, help=text("change.opt_yes"))
def import_(
    file: pathlib.Path, *, template: str | None, dry_run: bool, skip_bad: bool, secrets: pathlib.Path | None, yes: bool
) -> None:
    from iot_core.cli import device_sheet, importing
    from iot_core.cli.progress import bar

    if template is not None:
        _write_template(file, template)
        return
    with bar(text("lists.reading"), None):
        found = device_sheet.read(file)
    note("lists.read", file=file, rows=len(found.rows) + len(found.problems), dialect=found.dialect)
    if found.ignored:
        note("lists.ignored", headings=", ".join(found.ignored))
    tried, good = importing.check(found.rows)
    problems = sorted([*found.problems, *tried["problems"]], key=lambda each: each.row)
    _say_problems(problems)
    if dry_run or (problems and not skip_bad):
        show_one({**tried, "problems": problems, "dry_run": True}, lambda: _say_counts(tried, "lists.would"))
        if problems and not skip_bad:
            raise RequestError("lists.bad_rows", rows=len({each.row for each in problems}))
        return
    total = tried["added"] + tried["changed"]
    if total > ASK_ABOVE and not yes:
        if not (is_for_people() and sys.stdin.isatty()):
            raise RequestError("change.confirm", total=total)
        _say_counts(tried, "lists.would")
        click.confirm(text("change.sure", total=total), abort=True)
    where = secrets or file.with_name(f"{file.stem}-secrets.csv")
    done = importing.write(good, where, skip_bad=skip_bad, new=tried["added"] > 0)
    _say_imported(done, problems, where)
    if done["problems"] and not skip_bad:
        raise RequestError("lists.wrong_meanwhile", rows=len(done["problems"]))


@click.command(
    "export",
    cls=Command,
    help=text("lists.help_export"),
    examples=["iot device export lamps.xlsx --where 'class=streetlight and area=06685'", "iot device export all.csv"],
)
@click.argument("file", type=PATH, metavar="FILE")
@option("--where", metavar="SELECTOR", help=text("lists.opt_where"))
def export(file: pathlib.Path, where: str | None) -> None:
    import msgspec

    from iot_core.cli.device_sheet import write

    async def rows(client: Client) -> list[dict[str, Any]]:
        got: list[dict[str, Any]] = []
        while page := (await client.device_rows(where, after=got[-1]["key"] if got else None)).items:
            got += [msgspec.to_builtins(each) for each in page]
        return got

    found = ask(rows)
    write(file, found)
    show_one({"file": str(file), "rows": len(found)}, lambda: line("lists.exported", file=file, rows=len(found)))


@click.command(
    "edit",
    cls=Command,
    help=text("lists.help_edit"),
    examples=[
        "iot device edit lamp-0101 --name 'Đèn 101' --lat 20.95 --lon 107.08",
        "iot device edit --where 'class=streetlight and area=06655' --area 06685 --dry-run",
        "iot device edit --where 'label=phase-1' --drop-label phase-1 --add-label phase-2 --yes",
    ],
)
@click.argument("keys", type=DEVICE, metavar="[KEY]...", nargs=-1)
@option("--where", metavar="SELECTOR", help=text("lists.opt_where"))
@option("--name", metavar="NAME", help=text("cli.opt_device_name"))
@option("--area", type=AREA, metavar="KEY", help=text("cli.opt_area"))
@option("--lat", "latitude", type=click.FloatRange(-90, 90), metavar="LAT", help=text("cli.opt_lat"))
@option("--lon", "longitude", type=click.FloatRange(-180, 180), metavar="LON", help=text("cli.opt_lon"))
@option("--notes", metavar="TEXT", help=text("cli.opt_notes"))
@option("--gateway", type=DEVICE, metavar="KEY", help=text("lists.opt_gateway"))
@option("--photo", "photos", multiple=True, metavar="PATH", help=text("lists.opt_photo"))
@option("--serial", metavar="SERIAL", help=text("lists.opt_right_serial"))
@option("--firmware", metavar="VERSION", help=text("lists.opt_firmware"))
@option("--warranty-until", type=DAY, metavar="DAY", help=text("lists.opt_warranty"))
@option("--calibrated", "calibrated_at", type=DAY, metavar="DAY", help=text("lists.opt_calibrated"))
@option("--calibration-due", type=DAY, metavar="DAY", help=text("lists.opt_calibration_due"))
@option(
    "--lifecycle",
    type=click.Choice(["planned", "provisioned", "active"]),
    help=text("lists.opt_lifecycle"),
)
@option("--add-label", "add_labels", multiple=True, metavar="LABEL", help=text("lists.opt_add_label"))
@option("--drop-label", "drop_labels", multiple=True, metavar="LABEL", help=text("lists.opt_drop_label"))
@option("--dry-run", is_flag=True, help=text("change.opt_dry_run"))
@option("--yes", is_flag=True, help=text("change.opt_yes"))
def edit(
    keys: tuple[str, ...],
    *,
    where: str | None,
    add_labels: tuple[str, ...],
    drop_labels: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    **fields: Any,
) -> None:
    from iot_core.api import shapes

    given = {name: value for name, value in fields.items() if value not in (None, ())}
    if not (given or add_labels or drop_labels):
        raise click.UsageError(text("lists.nothing_to_edit"))
    if bool(keys) is (where is not None):
        raise click.UsageError(text("lists.keys_or_where"))

    def body(*, dry: bool) -> shapes.DeviceEdit:
        return shapes.DeviceEdit(
            where=where, keys=keys, add_labels=add_labels, drop_labels=drop_labels, dry_run=dry, **given
        )

    carry_out(lambda client, dry: client.edit_devices(body(dry=dry)), dry_run=dry_run, yes=yes)


@click.command(
    "replace",
    cls=Command,
    help=text("lists.help_replace"),
    examples=[
        "iot device replace wm-0101 --serial 24E124-0917",
        "iot device replace wm-0101 --profile tuf-2000m --address 10.0.3.7/4",
    ],
)
@click.argument("key", type=DEVICE)
@option("--serial", metavar="SERIAL", help=text("cli.opt_serial"))
@option("--profile", type=MODEL, metavar="MODEL", help=text("lists.opt_other_profile"))
@option("--address", metavar="ADDRESS", help=text("cli.opt_address"))
def replace(key: str, *, serial: str | None, profile: str | None, address: str | None) -> None:
    from iot_core.api import shapes
    from iot_core.cli.device import say_added, with_endpoints

    body = shapes.DeviceReplace(serial=serial, profile=profile, address=address)
    added, where = ask(lambda client: with_endpoints(client, client.replace_device(key, body)))
    show_one(added, lambda: say_added(added, where, "lists.replaced"))
    if added.operation is not None:
        note("change.undo", number=added.operation)


def _write_template(file: pathlib.Path, model: str) -> None:
    from iot_core.cli.device_sheet import write
    from iot_core.profiles import load

    profile = load().get(model)
    address = None if profile.address.startswith("iot:") else profile.address.partition("{address}")[2] or "..."
    example = {"key": f"{profile.class_key[:2]}-0001", "name": "", "profile": model, "address": address}
    write(file, [example])
    line("lists.template", file=file)


_PROBLEMS: list[Column[shapes.RowProblem]] = [
    Column("lists.col_row", lambda row: row.row, right=True, whole=True),
    Column("lists.col_column", lambda row: row.column),
    Column("lists.col_problem", lambda row: row.detail),
]


def _say_problems(problems: Sequence[shapes.RowProblem]) -> None:
    if problems and is_for_people():
        print_rows(problems[:SHOWN], _PROBLEMS)
        if len(problems) > SHOWN:
            line("change.more", more=len(problems) - SHOWN)


def _say_imported(done: dict[str, Any], before: Sequence[shapes.RowProblem], where: pathlib.Path) -> None:
    """Say what was written, and what was wrong by then; `before` was said already."""
    _say_problems(done["problems"])
    problems = sorted([*before, *done["problems"]], key=lambda each: each.row)
    show_one({**done, "problems": problems, "dry_run": False}, lambda: _say_counts(done, "lists.done"))
    if done["secrets"]:
        note("lists.secrets", file=where, n=done["secrets"])
    if done["operations"]:
        note("change.undo", number=" ".join(str(number) for number in done["operations"]))


def _say_counts(counts: dict[str, Any], code: str) -> None:
    line(code, added=counts["added"], changed=counts["changed"], unchanged=counts["unchanged"])
