"""`iot alarm assign, comment, shelve, ...`: what people do with alarms beside taking them; figures and handing over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.alarm import VERSION, alarm, do_each, of_one
from iot_core.cli.base import option
from iot_core.cli.keys import ALARM, USER
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.cli.session import ask
from iot_core.cli.times import Until, When, local
from iot_core.cli.words import headline, person, word
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__: list[str] = []

_WHY = option("--note", metavar="TEXT", help=text("alarm_do.opt_note"))


def _do(alarm_ids: tuple[int, ...], do: Any, version_seen: int | None, **more: Any) -> None:
    from iot_core.api import shapes

    deed = shapes.AlarmDeed(do=do, version=of_one(version_seen, alarm_ids), **more)
    do_each(alarm_ids, lambda client, alarm_id: client.alarm_do(alarm_id, deed), lambda done: _say(do, done))


def _say(do: str, done: list[shapes.AlarmDone]) -> None:
    for row in done:
        _say_one(do if row.undone is None else f"undo_{row.undone}", row)


def _say_one(did: str, row: shapes.AlarmDone) -> None:
    until = "-" if row.shelved_until is None or row.shelved_until.year == 9999 else local(row.shelved_until)
    said = "unassign" if did == "assign" and row.assigned_to is None else did
    line(f"alarm_do.did_{said}", id=row.id, title=headline(row.title), to=row.assigned_to or "-", time=until,
         state=word("alarm_is", row.state))  # fmt: skip


@alarm.command(
    "assign", help=text("alarm_do.help_assign"), examples=["iot alarm assign 17 lan", "iot alarm assign 17 -"]
)
@click.argument("alarm_id", metavar="ID", type=ALARM)
@click.argument("to", type=USER, metavar="NAME")
@VERSION
def assign(alarm_id: int, to: str, version_seen: int | None) -> None:
    _do((alarm_id,), "assign", version_seen, to=None if to == "-" else to)


@alarm.command("comment", help=text("alarm_do.help_comment"), examples=['iot alarm comment 17 "crew is on its way"'])
@click.argument("alarm_id", metavar="ID", type=ALARM)
@click.argument("words", metavar="TEXT")
@VERSION
def comment(alarm_id: int, words: str, version_seen: int | None) -> None:
    _do((alarm_id,), "comment", version_seen, note=words)


@alarm.command(
    "shelve", help=text("alarm_do.help_shelve"), examples=['iot alarm shelve 17 --until 2h --note "pump out"']
)
@click.argument("alarm_ids", metavar="ID...", type=ALARM, nargs=-1, required=True)
@option("--until", type=Until(), metavar="TIME", required=True, help=text("alarm_do.opt_until"))
@_WHY
@VERSION
def shelve(alarm_ids: tuple[int, ...], *, until: datetime, note: str | None, version_seen: int | None) -> None:
    _do(alarm_ids, "shelve", version_seen, until=until, note=note)


@alarm.command("unshelve", help=text("alarm_do.help_unshelve"), examples=["iot alarm unshelve 17"])
@click.argument("alarm_ids", metavar="ID...", type=ALARM, nargs=-1, required=True)
@VERSION
def unshelve(alarm_ids: tuple[int, ...], version_seen: int | None) -> None:
    _do(alarm_ids, "unshelve", version_seen)


@alarm.command(
    "out-of-service", help=text("alarm_do.help_out"), examples=['iot alarm out-of-service 17 --note "tower is rebuilt"']
)
@click.argument("alarm_ids", metavar="ID...", type=ALARM, nargs=-1, required=True)
@_WHY
@VERSION
def out_of_service(alarm_ids: tuple[int, ...], note: str | None, version_seen: int | None) -> None:
    _do(alarm_ids, "out_of_service", version_seen, note=note)


@alarm.command("close", help=text("alarm_do.help_close"), examples=['iot alarm close 17 --cause "a cigarette"'])
@click.argument("alarm_ids", metavar="ID...", type=ALARM, nargs=-1, required=True)
@option("--cause", "--note", "note", metavar="TEXT", help=text("alarm_do.opt_cause"))
@VERSION
def close(alarm_ids: tuple[int, ...], note: str | None, version_seen: int | None) -> None:
    _do(alarm_ids, "close", version_seen, note=note)


@alarm.command("reopen", help=text("alarm_do.help_reopen"), examples=["iot alarm reopen 17"])
@click.argument("alarm_id", metavar="ID", type=ALARM)
@_WHY
@VERSION
def reopen(alarm_id: int, note: str | None, version_seen: int | None) -> None:
    _do((alarm_id,), "reopen", version_seen, note=note)


@alarm.command("undo", help=text("alarm_do.help_undo"), examples=["iot alarm undo 17"])
@click.argument("alarm_id", metavar="ID", type=ALARM)
@VERSION
def undo(alarm_id: int, version_seen: int | None) -> None:
    _do((alarm_id,), "undo", version_seen)


@alarm.command("kpi", help=text("alarm_do.help_kpi"), examples=["iot alarm kpi", "iot alarm kpi --since 7d"])
@option("--since", type=When(), metavar="TIME", help=text("alarm_do.opt_since"))
def kpi(since: datetime | None) -> None:
    found = ask(lambda client: client.alarm_kpi(since))
    show_one(found, lambda: _print_kpi(found))


def _severities(found: shapes.AlarmKpi) -> str:
    return ", ".join(f"{word('severity', key)} {alarms}" for key, alarms in found.by_severity.items()) or "-"


def _print_kpi(found: shapes.AlarmKpi) -> None:
    took = [f"{each:.0f} s" if each is not None else "-" for each in (found.answer_median_s, found.answer_p95_s)]
    fact_lines(
        [
            ("alarm_do.kpi_since", local(found.since)),
            ("alarm_do.kpi_alarms", f"{found.alarms} ({found.alarms_a_day:.1f} / 24 h)"),
            ("alarm_do.kpi_most", str(found.most_in_10_min)),
            ("alarm_do.kpi_flood", f"{found.flood_share:.2%}"),
            ("alarm_do.kpi_severity", _severities(found)),
            ("alarm_do.kpi_chattering", str(found.chattering)),
            ("alarm_do.kpi_stale", str(found.stale)),
            ("alarm_do.kpi_standing", str(found.standing)),
            ("alarm_do.kpi_answer", " / ".join(took)),
        ]
    )  # fmt: skip
    if found.frequent:
        click.echo(f"\n{text('alarm_do.kpi_frequent')}")
    for each in found.frequent:
        click.echo(f"  {each.alarms:6}  {each.rule}  {each.device or '-'}")


@alarm.command(
    "handover", help=text("alarm_do.help_handover"), examples=['iot alarm handover --to minh --note "pump 3 is out"']
)
@option("--to", metavar="NAME", help=text("alarm_do.opt_to"))
@option("--since", type=When(), metavar="TIME", help=text("alarm_do.opt_shift"))
@_WHY
def hand_over(to: str | None, since: datetime | None, note: str | None) -> None:
    from iot_core.api import shapes

    found = ask(lambda client: client.hand_over(shapes.HandoverNew(since=since, to=to, note=note)))
    show_one(found, lambda: _print_handover(found))


def _print_handover(found: shapes.Handover) -> None:
    line("alarm_do.handed_over", id=found.id, by=person(found.by), to=found.to or "-", time=local(found.since),
         raised=found.raised, closed=found.closed, open=len(found.open))  # fmt: skip
    for row in found.open:
        seen = ", ".join(map(person, row.seen_by)) or text("alarm_do.unseen")
        line("alarm_do.handed_alarm", id=row.id, severity=word("severity", row.severity), title=headline(row.title),
             device=row.device or row.place or "-", state=word("alarm_is", row.state), seen=seen,
             by=person(row.acknowledged_by) or "-")  # fmt: skip
