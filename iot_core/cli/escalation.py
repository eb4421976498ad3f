"""`iot escalation`: who is told next while nobody takes an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import AREA, CHAIN, CLASS, NEW_KEY
from iot_core.cli.output import Column, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.words import word
from iot_core.messages import text
from iot_core.model import Severity

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["escalation"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}

COLUMNS: list[Column[shapes.Escalation]] = [
    Column("cli.col_name", lambda row: row.key),
    Column("escalation.col_steps", lambda row: " → ".join(_said(step) for step in row.steps)),
    Column("escalation.col_remind", lambda row: ", ".join(row.remind)),
    Column("cli.col_from_severity", lambda row: word("severity", row.min_severity), drop=1),
]


@click.group(
    "escalation",
    cls=Group,
    help=text("escalation.help"),
    examples=["iot escalation add fire --step 2m:night-shift --step 5m:head --min-severity critical"],
)
def escalation() -> None:
    pass


@escalation.command(
    "add",
    help=text("escalation.help_add"),
    examples=[
        "iot escalation add fire --step 2m:night-shift --step 5m:head --repeat 5m --min-severity critical",
        "iot escalation add water --class water_meter --step '30m:duty:mon-fri 07:00-17:00' --remind 07:00",
    ],
)
@click.argument("name", type=NEW_KEY)
@option("--step", "steps", multiple=True, required=True, metavar="STEP", help=text("escalation.opt_step"))
@option("--repeat", default="15m", metavar="TIME", help=text("escalation.opt_repeat"))
@option("--remind", multiple=True, metavar="HH:MM", help=text("escalation.opt_remind"))
@option("--min-severity", type=click.Choice([item.value for item in Severity]), help=text("cli.opt_min_severity"))
@option("--class", "classes", multiple=True, type=CLASS, metavar="CLASS", help=text("pushing.opt_class"))
@option("--area", "areas", multiple=True, type=AREA, metavar="KEY", help=text("pushing.opt_area"))
@option("--hours", default="", metavar="HOURS", help=text("pushing.opt_hours"))
@option("--simulated", is_flag=True, help=text("cli.opt_push_simulated"))
def add(name: str, *, steps: tuple[str, ...], repeat: str, min_severity: str | None, **said: Any) -> None:
    from iot_core.api import shapes

    new = shapes.EscalationNew(
        key=name, steps=tuple(_step(each) for each in steps), repeat_s=_seconds(repeat, repeat), remind=said["remind"],
        min_severity=Severity(min_severity or "low"), classes=said["classes"], areas=said["areas"], hours=said["hours"],
        accepts_simulated=said["simulated"],
    )  # fmt: skip
    ask(lambda client: client.add_escalation(new))
    show_one({"added": name}, lambda: line("escalation.added", name=name))


@escalation.command("list", help=text("escalation.help_list"), examples=["iot escalation list"])
def list_() -> None:
    found = ask(lambda client: client.escalations())
    show_rows(found.items, COLUMNS, nothing="escalation.none")


@escalation.command("remove", help=text("escalation.help_remove"), examples=["iot escalation remove fire"])
@click.argument("name", type=CHAIN)
def remove(name: str) -> None:
    ask(lambda client: client.remove_escalation(name))
    show_one({"removed": name}, lambda: line("escalation.removed", name=name))


DAYS: list[Column[shapes.Holiday]] = [
    Column("escalation.col_day", lambda row: row.day.isoformat()),
    Column("cli.col_name", lambda row: row.name),
]


@escalation.command(
    "holidays",
    help=text("escalation.help_holidays"),
    examples=["iot escalation holidays", "iot escalation holidays --add 2026-09-02 --name 'Quốc khánh'"],
)
@option("--add", "new", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help=text("escalation.opt_add"))
@option("--name", default="", metavar="NAME", help=text("escalation.opt_name"))
@option("--remove", "old", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help=text("escalation.opt_drop"))
def holidays(*, new: datetime | None, name: str, old: datetime | None) -> None:
    async def change(client: Any) -> Any:
        if new is not None:
            await client.add_holiday(new.date(), name)
        if old is not None:
            await client.remove_holiday(old.date())
        return await client.holidays()

    show_rows(ask(change).items, DAYS, nothing="escalation.no_holidays")


def _step(said: str) -> shapes.EscalationStep:
    from iot_core.api import shapes

    after, _, rest = said.partition(":")
    target, _, hours = rest.partition(":")
    if not target:
        raise click.UsageError(text("escalation.bad_step", step=said))
    return shapes.EscalationStep(after_s=_seconds(after, said), target=target, hours=hours)


def _seconds(said: str, step: str) -> int:
    if not said[:-1].isdecimal() or said[-1:] not in _SECONDS:
        raise click.UsageError(text("escalation.bad_step", step=step))
    return int(said[:-1]) * _SECONDS[said[-1]]


def _said(step: shapes.EscalationStep) -> str:
    hours = f" ({step.hours})" if step.hours else ""
    whole = next(unit for unit in ("h", "m", "s") if step.after_s % _SECONDS[unit] == 0)
    return f"{step.after_s // _SECONDS[whole]}{whole} {step.target}{hours}"
