"""`iot alarm`: what is wrong now, who has it, and watching it happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, Stream, cut, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import age, local, zone
from iot_core.cli.words import SEVERITY_STYLE, moment, value, word
from iot_core.messages import text, title

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["ALARM_COLUMNS", "alarm", "delivery"]


@click.group(
    "alarm",
    cls=Group,
    help=text("cli.help_alarm"),
    examples=["iot alarm list", "iot alarm ack 17", "iot alarm watch --output json"],
)
def alarm() -> None:
    pass


ALARM_COLUMNS: list[Column[shapes.Alarm]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("cli.col_severity", lambda row: word("severity", row.severity), lambda row: SEVERITY_STYLE[row.severity]),
    Column("cli.col_state", lambda row: word("alarm_is", row.state)),
    Column("cli.col_alarm", lambda row: title(row.title) + _marks(row)),
    Column("cli.col_device", lambda row: row.device),
    Column("cli.col_value", lambda row: value(row.value), right=True, whole=True, drop=1),
    Column("cli.col_raised", lambda row: local(row.raised_at), whole=True, drop=3),
    Column("cli.col_age", lambda row: age(row.raised_at), whole=True),
    Column("cli.col_ack_by", lambda row: row.acknowledged_by, drop=2),
]


@alarm.command(
    "list",
    help=text("cli.help_alarm_list"),
    examples=["iot alarm list", "iot alarm list --all --device smoke-0007", "iot alarm list --output json"],
)
@option("--all", "closed_too", is_flag=True, help=text("cli.opt_alarm_all"))
@option("--device", type=DEVICE, metavar="KEY", help=text("cli.opt_alarm_device"))
@option("--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help=text("cli.opt_limit"))
def list_(closed_too: bool, device: str | None, limit: int) -> None:
    found = ask(lambda client: client.alarms(open_only=not closed_too, device=device, limit=limit))
    show_rows(found.items, ALARM_COLUMNS, nothing="cli.alarm_none_all" if closed_too else "cli.alarm_none")
    cut(len(found.items), found.total)


@alarm.command("show", help=text("cli.help_alarm_show"), examples=["iot alarm show 17", "iot alarm show 17 --trace"])
@click.argument("alarm_id", metavar="ID", type=int)
@option("--trace", "traced", is_flag=True, help=text("pushing.opt_trace"))
def show(alarm_id: int, *, traced: bool) -> None:
    if traced:
        way = ask(lambda client: client.alarm_trace(alarm_id))
        show_one(way, lambda: _print_way(way))
        return
    found = ask(lambda client: client.alarm(alarm_id))
    show_one(found, lambda: _print(found))


@alarm.command("ack", help=text("cli.help_alarm_ack"), examples=["iot alarm ack 17", "iot alarm ack 17 18 19"])
@click.argument("alarm_ids", metavar="ID...", type=int, nargs=-1, required=True)
def ack(alarm_ids: tuple[int, ...]) -> None:
    async def acknowledge(client: Client) -> list[shapes.Acknowledged]:
        return [await client.acknowledge(alarm_id) for alarm_id in alarm_ids]

    done = ask(acknowledge)
    show_one(done[0] if len(done) == 1 else done, lambda: _say_acknowledged(done))


@alarm.command(
    "watch", help=text("cli.help_alarm_watch"), examples=["iot alarm watch", "iot alarm watch --output json"]
)
def watch() -> None:
    from iot_core.api import shapes

    async def follow(client: Client) -> None:
        stream = Stream(EVENT_HEAD)
        async for happened in client.events(connected=stream.begin):
            if isinstance(happened, shapes.AlarmHappened):
                stream.say(happened, _happened(happened), [_flat(happened)])

    ask(follow)


EVENT_HEAD = ["at", "kind", "by", "alarm", "rule", "severity", "state", "device", "value", "simulated"]


def _flat(happened: shapes.AlarmHappened) -> list[object]:
    event, row = happened.event, happened.alarm
    fixed = [event.at.isoformat(), event.kind, event.by or "", row.id, row.rule]
    return [*fixed, row.severity.value, row.state.value, row.device or "", row.value, row.simulated]


def _marks(row: shapes.Alarm) -> str:
    """Add what a person must know before acting: it is a simulation, or it arrived late."""
    marks = [text(f"cli.mark_{mark}") for mark, given in (("simulated", row.simulated), ("late", row.late)) if given]
    return f" ({', '.join(marks)})" if marks else ""


def _say_acknowledged(done: list[shapes.Acknowledged]) -> None:
    for row in done:
        taken = "cli.alarm_already" if row.already else "cli.alarm_acknowledged"
        code = taken if row.acknowledged_at is not None else "cli.alarm_over"
        line(code, id=row.id, title=title(row.title), by=row.acknowledged_by or "-", time=local(row.acknowledged_at))


def _happened(happened: shapes.AlarmHappened) -> str:
    row, event = happened.alarm, happened.event
    return text(
        "cli.alarm_happened",
        time=local(event.at),
        kind=word("event", event.kind),
        severity=word("severity", row.severity),
        title=title(row.title) + _marks(row),
        device=row.device or "-",
        id=row.id,
    )


def _print_way(way: shapes.AlarmTrace) -> None:
    """Write each step with its time to the millisecond, and how long after the one before it."""
    before = way.steps[0].at
    for step in way.steps:
        clock = step.at.astimezone(zone()).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        after = (step.at - before).total_seconds() * 1000
        facts = "  ".join(f"{name}={value}" for name, value in step.detail.items())
        said = text(f"pushing.way_{step.what}")
        click.echo(f"{clock}  {after:>+10.1f} ms  {said}  {step.subject}  {facts}".rstrip())
        before = step.at


def _print(found: shapes.AlarmDetail) -> None:
    fact_lines(
        [
            ("cli.col_alarm", f"{title(found.title)}{_marks(found)} ({found.rule})"),
            ("cli.col_severity", word("severity", found.severity)),
            ("cli.col_state", word("alarm_is", found.state)),
            ("cli.col_device", f"{found.device or '-'}  {found.device_name or ''}".strip()),
            ("cli.col_area", found.area_name),
            ("cli.col_metric", found.metric),
            ("cli.col_value", value(found.value)),
            ("cli.col_threshold", value(found.threshold)),
            ("cli.col_raised", moment(found.raised_at)),
            ("cli.col_received", moment(found.received_at)),
        ]
    )
    click.echo(f"\n{text('cli.head_events')}")
    for event in found.events:
        click.echo(f"  {local(event.at)}  {word('event', event.kind)}  {event.by or ''} {event.note or ''}".rstrip())
    if found.pushes:
        click.echo(f"\n{text('cli.head_pushes')}")
    for push in found.pushes:
        kind = word("event", push.type.removeprefix("alarm."))
        click.echo(f"  {push.target}: {kind}, {delivery(push)}")


def delivery(push: shapes.AlarmPush) -> str:
    """Say how far a message about an alarm has come."""
    if push.delivered_at is not None:
        return text("cli.push_delivered", time=local(push.delivered_at), attempts=push.attempts)
    if push.dead_at is None and not push.attempts:
        return text("cli.push_untried")
    error = push.last_error_said or "-"
    if push.dead_at is not None:
        return text("cli.push_given_up", time=local(push.dead_at), error=error)
    return text("cli.push_waiting", attempts=push.attempts, error=error)
