"""Nothing by accident: what would change is counted and shown before it is done, and can be taken back by a number."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import click

from iot_core.cli.output import is_for_people, line, note, printable, show_one
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["ASK_ABOVE", "carry_out", "difference", "say_done"]

ASK_ABOVE = 10
SAMPLE = 8
_NOTHING: tuple[object, ...] = (None, "", [])
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*(Z|[+-]\d\d:\d\d)$")


def carry_out(work: Callable[[Client, bool], Awaitable[shapes.Changed]], *, dry_run: bool, yes: bool) -> None:
    """Do `work(client, dry)`: unless `yes`, first dry, shown and above ten changes asked for; then for good."""
    if dry_run or not yes:
        would = ask(lambda client: work(client, True))
        if dry_run or not would.total:
            show_one(would, lambda: _say(would, dry=True))
            return
        if would.total > ASK_ABOVE:
            if not (is_for_people() and sys.stdin.isatty()):
                raise RequestError("change.confirm", total=would.total)
            _say(would, dry=True)
            click.confirm(text("change.sure", total=would.total), abort=True)
    say_done(ask(lambda client: work(client, False)))


def say_done(done: shapes.Changed) -> None:
    """Say what was done, and the number that takes it back."""
    show_one(done, lambda: _say(done, dry=False))


def _say(changed: shapes.Changed, *, dry: bool) -> None:
    if not changed.total:
        line("change.nothing")
        return
    for each in changed.changes[:SAMPLE]:
        click.echo(f"  {each.subject}: {difference(each.before, each.after)}")
    if changed.total > SAMPLE:
        line("change.more", more=changed.total - SAMPLE)
    line("change.would" if dry else "change.done", total=changed.total)
    for warning in changed.warnings:
        click.echo(printable(warning), err=True)
    if changed.operation is not None:
        note("change.undo", number=changed.operation)


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """Write a change in a line: `+ field: value` for what is new, what is no more, `field: before → after` else."""
    if after is None:
        return text("change.gone", what=_fields(before)) if before else "-"
    if before is None:
        return f"+ {_fields(after)}"
    return ", ".join(f"{field}: {_side(before.get(field))} → {_side(after.get(field))}" for field in after)


def _fields(known: Mapping[str, Any]) -> str:
    return ", ".join(f"{field}: {_side(value)}" for field, value in known.items() if value not in _NOTHING)


def _side(value: object) -> str:
    if isinstance(value, str) and _TIME.match(value):
        with suppress(ValueError):
            return local(datetime.fromisoformat(value))
    if isinstance(value, bool):
        return text("cli.yes") if value else text("cli.no")
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "-" if value is None or value == "" else printable(str(value))
