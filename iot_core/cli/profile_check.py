"""`iot profile check`: the examples of models, files or a folder, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.endings import REFUSED, complain, sentence
from iot_core.cli.keys import MODEL
from iot_core.cli.output import Column, is_for_people, line, show_rows
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.profiles import CheckResult

__all__ = ["check"]


@click.command(
    "check",
    cls=Command,
    help=text("cli.help_profile_check"),
    examples=[
        "iot profile check",
        "iot profile check acme_aq4.yaml",
        "iot profile check /etc/iot/profiles",
        "iot profile check native-streetlight --output json",
    ],
)
@click.argument("targets", type=MODEL, nargs=-1, metavar="[MODEL|FILE|FOLDER]...")
@option("--folder", type=click.Path(path_type=Path), metavar="DIR", help=text("cli.opt_folder"))
def check(targets: tuple[str, ...], folder: Path | None) -> None:
    from iot_core.cli.profile import profiles_of, target
    from iot_core.profiles import check as check_one
    from iot_core.profiles.check import broken_result

    profiles = profiles_of(folder)
    wanted = targets or tuple(one.model for one in profiles.all() if not one.broken)
    results = [result for name in wanted for result in check_one(target(name), profiles)]
    if not targets:
        results += [broken_result(each) for each in profiles.broken]
    failed = sum(not result.ok for result in results)
    shown = results if targets or not failed else [result for result in results if not result.ok]
    show_rows(
        shown if is_for_people() else results, CHECK_COLUMNS + (DIFFERENCE_COLUMNS if failed else []),
        nothing="cli.profile_no_examples", data=_check_data,
    )  # fmt: skip
    for result in results:
        if result.differences and is_for_people():
            _print_differences(result)
    models = len({result.model for result in results})
    line("cli.profile_checked", models=models, examples=sum(result.error is None for result in results), failed=failed)
    errors = [result.error for result in results if result.error is not None]
    for error in errors[:-1]:
        complain(sentence(error))
    if errors:
        raise errors[-1]
    if failed:
        click.get_current_context().exit(REFUSED)


def _print_differences(result: CheckResult) -> None:
    click.echo(f"\n{result.file}:{result.line} {result.model}, {result.example}")
    for each in result.differences:
        click.echo(f"  {each.place}")
        click.secho(f"    {text('cli.col_expected')}: {each.expected}", fg="green")
        click.secho(f"    {text('cli.col_got')}: {each.got}", fg="red")


def _differs(row: CheckResult) -> str:
    if row.error is not None:
        key = row.error.facts.get("key")
        return f"{row.line}: {key}" if key and row.line else text("profile.file_is_wrong")
    return "; ".join(f"{each.place}: {each.got} ≠ {each.expected}" for each in row.differences)


CHECK_COLUMNS: list[Column[CheckResult]] = [
    Column("cli.col_model", lambda row: row.model),
    Column("cli.col_example", lambda row: row.example),
    Column(
        "cli.col_result",
        lambda row: text("cli.check_ok") if row.ok else text("cli.check_failed"),
        lambda row: "green" if row.ok else "bold red",
    ),
]
DIFFERENCE_COLUMNS: list[Column[CheckResult]] = [
    Column("profile.col_differs", _differs),
]


def _check_data(result: CheckResult) -> dict[str, object]:
    return {
        "model": result.model,
        "example": result.example,
        "ok": result.ok,
        "file": result.file,
        "line": result.line,
        "got": result.got,
        "expected": result.expected,
        "differences": [
            {"place": each.place, "expected": each.expected, "got": each.got} for each in result.differences
        ],
    }
