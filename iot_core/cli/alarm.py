"""`iot alarm`: what is wrong now, who has it, and watching it happen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from iot_core.cli.base import Group, option
from iot_core.cli.endings import complain, sentence
from iot_core.cli.keys import ALARM, DEVICE
from iot_core.cli.output import Column, Stream, cut, fact_lines, line, note, printable, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import age, local
from iot_core.cli.words import SEVERITY_STYLE, headline, moment, person, value, word
from iot_core.errors import ConflictError, IotError, NotFoundError, RequestError
from iot_core.messages import language, text, title

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["ALARM_COLUMNS", "VERSION", "alarm", "delivery", "do_each", "marks", "of_one"]

T = TypeVar("T")


@click.group(
    "alarm",
    cls=Group,
    help=text("cli.help_alarm"),
    examples=["iot alarm list", "iot alarm ack 17", "iot alarm watch --output json"],
)
def alarm() -> None:
    pass


VERSION = option("--version-seen", type=click.IntRange(1), metavar="N", help=text("alarm_do.opt_version"))
ALARM_COLUMNS: list[Column[shapes.Alarm]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("cli.col_severity", lambda row: word("severity", row.severity), lambda row: SEVERITY_STYLE[row.severity]),
    Column("cli.col_state", lambda row: word("alarm_is", row.state)),
    Column("cli.col_alarm", lambda row: headline(row.title) + marks(row)),
    Column("cli.col_device", lambda row: row.device or row.device_name or row.area_name),
    Column("cli.col_value", lambda row: value(row.value), right=True, whole=True, drop=1),
    Column("cli.col_raised", lambda row: local(row.raised_at), whole=True, drop=3),
    Column("cli.col_age", lambda row: age(row.raised_at), whole=True),
    Column("cli.col_ack_by", lambda row: person(row.acknowledged_by), drop=2),
]


@alarm.command(
    "list",
    help=text("cli.help_alarm_list"),
    examples=["iot alarm list", "iot alarm list --quiet", "iot alarm list --all --device smoke-0007"],
)
@option("--all", "closed_too", is_flag=True, help=text("cli.opt_alarm_all"))
@option("--quiet", is_flag=True, help=text("alarm_do.opt_quiet"))
@option("--device", type=DEVICE, metavar="KEY", help=text("cli.opt_alarm_device"))
@option("--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help=text("cli.opt_limit"))
def list_(*, closed_too: bool, quiet: bool, device: str | None, limit: int) -> None:
    async def listed(client: Client) -> tuple[shapes.Alarms, int]:
        found = await client.alarms(open_only=not closed_too, device=device, limit=limit, quiet=quiet)
        if closed_too or quiet or device is not None:
            return found, 0
        return found, (await client.alarms(limit=1, quiet=True)).total - found.total

    found, kept_quiet = ask(listed)
    show_rows(found.items, ALARM_COLUMNS, nothing="cli.alarm_none_all" if closed_too else "cli.alarm_none")
    cut(len(found.items), found.total)
    if kept_quiet > 0:  # what rings meanwhile can make it less
        note("alarm_do.kept_quiet", n=kept_quiet)


@alarm.command("show", help=text("cli.help_alarm_show"), examples=["iot alarm show 17", "iot alarm show 17 --trace"])
@click.argument("alarm_id", metavar="ID", type=ALARM)
@option("--trace", "traced", is_flag=True, help=text("pushing.opt_trace"))
def show(alarm_id: int, *, traced: bool) -> None:
    if traced:
        way = ask(lambda client: client.alarm_trace(alarm_id))
        show_one(way, lambda: _print_way(way))
        return
    found = ask(lambda client: client.alarm(alarm_id))
    show_one(found, lambda: _print(found))


@alarm.command("ack", help=text("cli.help_alarm_ack"), examples=["iot alarm ack 17", "iot alarm ack 17 18 19"])
@click.argument("alarm_ids", metavar="ID...", type=ALARM, nargs=-1, required=True)
@VERSION
def ack(alarm_ids: tuple[int, ...], version_seen: int | None) -> None:
    version = of_one(version_seen, alarm_ids)
    do_each(alarm_ids, lambda client, alarm_id: client.acknowledge(alarm_id, version=version), _say_acknowledged)


def of_one(version_seen: int | None, alarm_ids: tuple[int, ...]) -> int | None:
    """Give the version that was seen. Raises RequestError where it would be that of several alarms."""
    if version_seen is not None and len(alarm_ids) > 1:
        raise RequestError("alarm_do.version_of_one", option="--version-seen")
    return version_seen


def do_each(
    alarm_ids: tuple[int, ...], do: Callable[[Client, int], Awaitable[T]], say: Callable[[list[T]], None]
) -> None:
    """Do the same with each alarm and say what was done; then what was refused, which keeps the others from nothing."""
    done: list[T] = []
    failed: list[IotError] = []

    async def each(client: Client) -> None:
        for alarm_id in alarm_ids:
            try:
                done.append(await do(client, alarm_id))
            except (NotFoundError, ConflictError) as error:
                failed.append(error)
            except IotError as error:  # would end the others the same way
                if not (done or failed):
                    raise
                failed.append(error)
                return

    ask(each)
    if done:
        show_one(done[0] if len(alarm_ids) == 1 else done, lambda: say(done))
    for error in failed[:-1]:
        complain(sentence(error))
    if failed:
        raise failed[-1]


@alarm.command(
    "watch", help=text("cli.help_alarm_watch"), examples=["iot alarm watch", "iot alarm watch --output json"]
)
def watch() -> None:
    from iot_core.api import shapes

    async def follow(client: Client) -> None:
        stream = Stream(EVENT_HEAD)
        async for happened in client.events(connected=stream.begin, lost=stream.lost):
            if isinstance(happened, shapes.AlarmHappened):
                stream.say(happened, _happened(happened), [_flat(happened)])

    ask(follow)


EVENT_HEAD = ["at", "kind", "by", "alarm", "rule", "severity", "state", "device", "value", "simulated"]


def _flat(happened: shapes.AlarmHappened) -> list[object]:
    event, row = happened.event, happened.alarm
    fixed = [event.at.isoformat(), event.kind, event.by or "", row.id, row.rule]
    return [*fixed, row.severity.value, row.state.value, row.device or "", row.value, row.simulated]


def marks(row: shapes.Alarm) -> str:
    """Add what a person must know before acting: a test, a simulation, that it arrived late, that it is kept quiet."""
    known = (("test", row.test), ("simulated", row.simulated), ("late", row.late))
    found = [text(f"cli.mark_{mark}") for mark, given in known if given]
    if _is_shelved(row):
        found.append(text("alarm_do.mark_out" if _is_out(row) else "alarm_do.mark_shelved"))
    if row.suppressed_by is not None:
        found.append(text("alarm_do.mark_suppressed"))
    return f" ({', '.join(found)})" if found else ""


def _is_shelved(row: shapes.Alarm) -> bool:
    return row.shelved_until is not None and row.shelved_until > datetime.now(UTC)


def _is_out(row: shapes.Alarm) -> bool:
    """Say whether it is shelved without an end: until the year 9999."""
    return row.shelved_until is not None and row.shelved_until.year == 9999


def _handling(found: shapes.AlarmDetail) -> list[tuple[str, str]]:
    """Say who deals with an alarm, what keeps it quiet, its cause and what to do; a line for what there is."""
    shelved = ""
    if _is_shelved(found):
        code = "alarm_do.out_since" if _is_out(found) else "alarm_do.shelved_until"
        by, why = person(found.shelved_by) or "-", found.shelved_reason or "-"
        shelved = text(code, time=local(found.shelved_until), by=by, why=why)
    suppressed = ""
    if found.suppressed_by is not None:
        kind, _, number = found.suppressed_by.partition(":")
        suppressed = text(f"alarm_do.quiet_{kind}", id=number)
    facts = [
        ("alarm_do.fact_assigned", found.assigned_to or ""),
        ("alarm_do.fact_shelved", shelved),
        ("alarm_do.fact_suppressed", suppressed),
        ("alarm_do.fact_children", f"{len(found.children)}: {', '.join(found.children)}" if found.children else ""),
        ("alarm_do.fact_cause", found.cause or ""),
        ("alarm_do.fact_runbook", title(found.runbook) if found.runbook is not None else ""),
    ]
    return [(code, said) for code, said in facts if said]


def _say_acknowledged(done: list[shapes.Acknowledged]) -> None:
    for row in done:
        taken = "cli.alarm_already" if row.already else "cli.alarm_acknowledged"
        code = taken if row.acknowledged_at is not None else "cli.alarm_over"
        by, when = person(row.acknowledged_by) or "-", local(row.acknowledged_at)
        line(code, id=row.id, title=headline(row.title), by=by, time=when)


def _happened(happened: shapes.AlarmHappened) -> str:
    row, event = happened.alarm, happened.event
    return text(
        "cli.alarm_happened",
        time=local(event.at),
        kind=word("event", event.kind),
        severity=word("severity", row.severity),
        title=headline(row.title) + marks(row),
        device=row.device or row.device_name or row.area_name or "-",
        id=row.id,
    )


def _print_way(way: shapes.AlarmTrace) -> None:
    """Write each step with its time to the millisecond, and how long after the one before it."""
    before = way.steps[0].at
    for step in way.steps:
        after = (step.at - before).total_seconds() * 1000
        facts = "  ".join((step.subject, *(f"{name}={value(fact)}" for name, fact in step.detail.items())))
        said = text(f"pushing.way_{step.what}")
        click.echo(f"{local(step.at, millis=True)}  {after:>+10.1f} ms  {said}  {printable(facts)}".rstrip())
        before = step.at


def _print(found: shapes.AlarmDetail) -> None:
    fact_lines(
        [
            ("cli.col_alarm", f"{title(found.title)}{marks(found)} ({found.rule})"),
            ("cli.col_severity", word("severity", found.severity)),
            ("cli.col_state", word("alarm_is", found.state)),
            ("cli.col_device", "  ".join(filter(None, (found.device, found.device_name)))),
            ("cli.col_area", (language() == "en" and found.area_name_en) or found.area_name),
            ("cli.col_metric", found.metric),
            ("cli.col_value", value(found.value)),
            ("cli.col_threshold", value(found.threshold)),
            ("cli.col_raised", moment(found.raised_at)),
            ("cli.col_received", moment(found.received_at)),
            ("alarm_do.fact_version", str(found.version)),
            *_handling(found),
        ]
    )
    click.echo(f"\n{text('cli.head_events')}")
    for event in found.events:
        who = printable(f"{person(event.by)} {_noted(event)}")
        click.echo(f"  {local(event.at)}  {word('event', event.kind)}  {who}".rstrip())
    if found.pushes:
        click.echo(f"\n{text('cli.head_pushes')}")
    for push in found.pushes:
        kind = word("event", push.type.removeprefix("alarm."))
        click.echo(f"  {push.target}: {kind}, {delivery(push)}")


def _noted(event: shapes.AlarmEvent) -> str:
    """Say the note of an event; what the core wrote there itself is a word of ours."""
    if event.note and event.kind in ("undone", "severity"):
        return word("event" if event.kind == "undone" else "severity", event.note)
    if event.note and event.kind in ("cleared", "returned"):
        return text(f"alarm.ended_{event.note}")
    return event.note or ""


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
