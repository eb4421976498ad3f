"""`iot rule try`: what a rule would have raised over what is stored, before anybody lives with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from iot_core.cli.output import Column, line, note, show_rows
from iot_core.cli.progress import bar
from iot_core.cli.session import ask
from iot_core.cli.times import local, span
from iot_core.cli.words import word
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["Tried", "say_tried", "show_tried", "tried"]

_DAY = timedelta(days=1)


@dataclass(slots=True)
class Tried:
    """What the parts of a trial gave together."""

    since: datetime
    until: datetime
    devices: int = 0
    now: int = 0
    raised: list[shapes.RuleRaised] = field(default_factory=list)


_RAISED: list[Column[shapes.RuleRaised]] = [
    Column("rule.col_source", lambda row: row.source),
    Column("rule.col_severity", lambda row: word("severity", row.severity)),
    Column("rule.col_raised", lambda row: local(row.raised_at), whole=True),
    Column("rule.col_lasted", lambda row: span(row.cleared_at - row.raised_at) if row.cleared_at else "-"),
    Column("rule.col_value", lambda row: "-" if row.value is None else f"{row.value:g}", right=True),
]


def tried(  # noqa: PLR0917 - what, where, when, how many
    rule: str, body: dict[str, Any] | None, where: str, since: datetime, until: datetime | None, most: int
) -> Tried:
    """Try a rule at up to `most` devices (0: all), part by part. Raises RequestError."""
    from iot_core.api import shapes

    found = Tried(since, until or datetime.now(UTC))

    async def parts(client: Client) -> Tried:
        after: int | None = None
        with bar(text("rule.trying", rule=rule), most or None) as move:
            while True:
                left = min(25, most - found.devices) if most else 25
                asked = shapes.RuleTry(body=body, where=where, since=since, until=found.until, after=after, most=left)
                part = await client.try_rule(rule, asked)
                found.devices += part.devices
                found.now += part.now
                found.raised += part.raised
                move(part.devices)
                after = part.next
                if after is None or (most and found.devices >= most):
                    return found

    return ask(parts)


def show_tried(found: Tried, *, changed: bool) -> None:
    """Show each alarm, the newest first, and what they come to."""
    rows = sorted(found.raised, key=lambda each: each.raised_at, reverse=True)
    show_rows(tuple(rows), _RAISED, nothing="rule.nothing_raised")
    say_tried(found, changed=changed, say=note)


def say_tried(found: Tried, *, changed: bool, say: Any = line) -> None:
    """Say in a sentence how many alarms there would have been, beside those of the rule as it is."""
    days = max((found.until - found.since) / _DAY, 1e-9)
    say(
        "rule.tried", alarms=len(found.raised), devices=found.devices, at=len({each.source for each in found.raised}),
        since=local(found.since), a_day=f"{len(found.raised) / days:.2g}",
    )  # fmt: skip
    if changed:
        say("rule.tried_now", now=found.now)
