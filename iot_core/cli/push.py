"""`iot push`: the places that alarms go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import ALARM, AREA, CLASS, NEW_KEY, TARGET
from iot_core.cli.output import Column, fact_lines, line, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import Day, local
from iot_core.cli.words import headline, person, word
from iot_core.messages import text
from iot_core.model import Severity

if TYPE_CHECKING:
    from datetime import date

    from iot_core.api import shapes

__all__ = ["push"]

TARGET_COLUMNS: list[Column[shapes.PushTarget]] = [
    Column("cli.col_name", lambda row: row.key),
    Column("pushing.col_kind", lambda row: row.kind, drop=1),
    Column("cli.col_url", lambda row: row.url or f"/feeds/{row.key}", raw=True),
    Column("cli.col_from_severity", lambda row: word("severity", row.min_severity), drop=1),
    Column("cli.col_backlog", lambda row: row.backlog, lambda row: "yellow" if row.backlog else "", right=True),
    Column("cli.col_dead", lambda row: row.dead, lambda row: "red" if row.dead else "", right=True),
    Column("cli.col_delivered", lambda row: local(row.last_delivered_at), drop=2),
    Column("cli.col_error", lambda row: row.last_error_said),
]


@click.group(
    "push",
    cls=Group,
    help=text("cli.help_push"),
    examples=["iot push add ioc --webhook https://ioc.example.vn/alarms", "iot push test ioc", "iot push list"],
)
def push() -> None:
    pass


PLACES = ("--webhook", "--mqtt", "--syslog", "--apprise-file", "--feed")


@push.command(
    "add",
    help=text("pushing.help_add"),
    examples=[
        "iot push add ioc --webhook https://ioc.example.vn/alarms",
        "iot push add night-shift --webhook https://duty.example.vn/hook --hours 'daily 18:00-06:00'",
        "iot push add fire-114 --mqtt mqtts://broker.example.vn/city/alarms --class fire_detector --format cap",
        "iot push add mail --apprise-file mail.txt --area hong-gai --text-language vi",
        "iot push add siem --syslog syslog+tls://siem.example.vn --audit",
        "iot push add citizens --feed --class flood_gauge --min-severity high",
    ],
)
@click.argument("name", type=NEW_KEY)
@option("--webhook", metavar="URL", help=text("cli.opt_webhook"))
@option("--mqtt", metavar="URL", help=text("pushing.opt_mqtt"))
@option("--syslog", metavar="URL", help=text("pushing.opt_syslog"))
@option("--apprise-file", type=click.File(), metavar="FILE", help=text("pushing.opt_apprise"))
@option("--feed", is_flag=True, help=text("pushing.opt_feed"))
@option("--format", "format_", type=click.Choice(["json", "cap", "text", "cef"]), help=text("pushing.opt_format"))
@option("--text-language", "language", type=click.Choice(["vi", "en"]), help=text("pushing.opt_language"))
@option("--template-file", type=click.File(), metavar="FILE", help=text("pushing.opt_template"))
@option("--class", "classes", multiple=True, type=CLASS, metavar="CLASS", help=text("pushing.opt_class"))
@option("--area", "areas", multiple=True, type=AREA, metavar="KEY", help=text("pushing.opt_area"))
@option("--hours", metavar="HOURS", help=text("pushing.opt_hours"))
@option("--min-severity", type=click.Choice([item.value for item in Severity]), help=text("cli.opt_min_severity"))
@option("--secret-file", type=click.File(), metavar="FILE", help=text("cli.opt_push_secret"))
@option("--username", metavar="NAME", help=text("pushing.opt_username"))
@option("--ca", type=click.File(), metavar="FILE", help=text("pushing.opt_ca"))
@option("--cert", type=click.File(), metavar="FILE", help=text("pushing.opt_cert"))
@option("--cert-key", type=click.File(), metavar="FILE", help=text("pushing.opt_cert_key"))
@option("--sender", metavar="ID", help=text("pushing.opt_sender"))
@option("--sender-name", metavar="NAME", help=text("pushing.opt_sender_name"))
@option("--scope", type=click.Choice(["Public", "Restricted"]), help=text("pushing.opt_scope"))
@option("--audit", is_flag=True, help=text("pushing.opt_audit"))
@option("--heartbeat", "heartbeat_s", type=click.IntRange(1, 86_400), metavar="SECONDS", help=text("pushing.opt_beat"))
@option("--watchdog", is_flag=True, help=text("pushing.opt_watchdog"))
@option("--simulated", is_flag=True, help=text("cli.opt_push_simulated"))
def add(name: str, **said: Any) -> None:
    kind, url = _place(said)
    # From files, because a command line stands in the list of processes.
    options = {
        key: value
        for key, value in {
            "username": said["username"], "ca": _read(said["ca"]), "cert": _read(said["cert"]),
            "key": _read(said["cert_key"]), "sender": said["sender"], "sender_name": said["sender_name"],
            "scope": said["scope"], "audit": "true" if said["audit"] else None,
        }.items()
        if value
    }  # fmt: skip
    secret = _read(said["secret_file"])
    facts = {
        "kind": kind, "secret": secret and secret.strip(), "format": said["format_"], "language": said["language"],
        "template": _read(said["template_file"]), "classes": said["classes"], "areas": said["areas"],
        "hours": said["hours"], "min_severity": said["min_severity"] and Severity(said["min_severity"]),
        "accepts_simulated": said["simulated"], "watchdog": said["watchdog"], "heartbeat_s": said["heartbeat_s"],
        "options": options,
    }  # fmt: skip
    added = ask(lambda client: client.add_push(name, url, **facts))
    show_one(added, lambda: _say_added(added))


def _place(said: dict[str, Any]) -> tuple[str, str]:
    found = [(kind, said[kind]) for kind in ("webhook", "mqtt", "syslog") if said[kind]]
    if said["apprise_file"] is not None:
        found.append(("apprise", said["apprise_file"].read().strip()))
    if said["feed"]:
        found.append(("feed", ""))
    if len(found) != 1:
        raise click.UsageError(text("pushing.one_place", options=", ".join(PLACES)))
    return found[0]


def _read(file: TextIO | None) -> str | None:
    return None if file is None else file.read()


@push.command(
    "rotate", help=text("pushing.help_rotate"), examples=["iot push rotate ioc", "iot push rotate ioc --keep-hours 0"]
)
@click.argument("name", type=TARGET)
@option("--keep-hours", type=click.FloatRange(0, 720), default=24.0, metavar="HOURS", help=text("pushing.opt_keep"))
@option("--secret-file", type=click.File(), metavar="FILE", help=text("cli.opt_push_secret"))
def rotate(name: str, *, keep_hours: float, secret_file: TextIO | None) -> None:
    secret = _read(secret_file)
    done = ask(lambda client: client.rotate_push(name, secret=secret and secret.strip(), keep_h=keep_hours))

    def say() -> None:
        fact_lines([("cli.col_secret", done.secret)])
        line("pushing.rotated", name=name, hours=f"{keep_hours:g}")

    show_one(done, say)


def _kind(type_: str) -> str:
    """Say what a message is about."""
    family, _, kind = type_.partition(".")
    return word("event", kind) if family == "alarm" else text(f"pushing.is_{type_.replace('.', '_').lower()}")


LOG_COLUMNS: list[Column[shapes.PushMessage]] = [
    Column("pushing.col_created", lambda row: local(row.created_at), whole=True),
    Column("pushing.col_target", lambda row: row.target),
    Column("cli.col_alarm", lambda row: row.alarm, right=True),
    Column("pushing.col_type", lambda row: _kind(row.type)),
    Column("pushing.col_tries", lambda row: row.attempts, right=True),
    Column("cli.col_delivered", lambda row: local(row.delivered_at), whole=True),
    Column("pushing.col_status", lambda row: row.last_status, right=True),
    Column("cli.col_error", lambda row: row.last_error_said, lambda row: "red" if row.dead_at else ""),
    Column("pushing.col_message", lambda row: row.message_id, drop=1),
    Column("pushing.col_digest", lambda row: (row.body_digest or "")[:12], drop=2),
]


@push.command(
    "log",
    help=text("pushing.help_log"),
    examples=["iot push log", "iot push log ioc --state dead", "iot push log --alarm 17 --output json"],
)
@click.argument("name", type=TARGET, required=False)
@option("--alarm", type=ALARM, metavar="ID", help=text("pushing.opt_alarm"))
@option("--state", type=click.Choice(["waiting", "delivered", "dead"]), help=text("pushing.opt_state"))
@option("--limit", type=click.IntRange(1, 10_000), default=100, metavar="N", help=text("cli.opt_limit"))
def log(name: str | None, *, alarm: int | None, state: Any, limit: int) -> None:
    found = ask(lambda client: client.push_log(target=name, alarm=alarm, state=state, limit=limit))
    show_rows(found.items, LOG_COLUMNS, nothing="pushing.log_none")


@push.command(
    "retry",
    help=text("pushing.help_retry"),
    examples=["iot push retry ioc", "iot push retry --message msg_0f3c", "iot push retry --all"],
)
@click.argument("name", type=TARGET, required=False)
@option("--message", metavar="ID", help=text("pushing.opt_message"))
@option("--all", "everything", is_flag=True, help=text("pushing.opt_all"))
def retry(name: str | None, *, message: str | None, everything: bool) -> None:
    if name is None and message is None and not everything:
        raise click.UsageError(text("pushing.retry_what"))
    done = ask(lambda client: client.retry_push(name, message))
    show_one(done, lambda: line("pushing.retried", count=done.messages))


PROOF_COLUMNS: list[Column[shapes.PushProof]] = [
    Column("cli.col_id", lambda row: row.alarm, right=True, whole=True),
    Column("cli.col_severity", lambda row: word("severity", row.severity)),
    Column("cli.col_alarm", lambda row: headline(row.title)),
    Column("cli.col_device", lambda row: row.device or row.device_name or row.area_name),
    Column("cli.col_raised", lambda row: local(row.raised_at), drop=2),
    Column("pushing.col_created", lambda row: local(row.created_at), whole=True),
    Column(
        "pushing.col_first_delivered",
        lambda row: f"{local(row.first_delivered_at)} {row.delivered}/{row.targets}",
        lambda row: "red" if row.delivered < row.targets else "",
        whole=True,
    ),
    Column("pushing.col_seen", lambda row: f"{local(row.seen_at)} {row.seen_by or ''}".strip(), drop=1),
    Column("cli.col_ack_by", lambda row: f"{local(row.acknowledged_at)} {person(row.acknowledged_by)}".strip()),
]


@push.command(
    "prove",
    help=text("pushing.help_prove"),
    examples=["iot push prove --day 2026-09-01", "iot push prove --day 2026-09-01 --output csv"],
)
@option("--day", type=Day(), required=True, metavar="DATE", help=text("pushing.opt_day"))
def prove(day: date) -> None:
    found = ask(lambda client: client.prove_push(day))
    show_rows(found.items, PROOF_COLUMNS, nothing="pushing.prove_none")


@push.command("list", help=text("cli.help_push_list"), examples=["iot push list", "iot push list --output json"])
def list_() -> None:
    found = ask(lambda client: client.push_targets())
    show_rows(found.items, TARGET_COLUMNS, nothing="cli.push_none")


@push.command("test", help=text("cli.help_push_test"), examples=["iot push test ioc"])
@click.argument("name", type=TARGET)
def test(name: str) -> None:
    done = ask(lambda client: client.test_push(name))
    show_one(done, lambda: line("cli.push_tested", name=name, message=done.message_id))


@push.command("remove", help=text("cli.help_push_remove"), examples=["iot push remove ioc"])
@click.argument("name", type=TARGET)
def remove(name: str) -> None:
    ask(lambda client: client.remove_push(name))
    show_one({"removed": name}, lambda: line("cli.push_removed", name=name))


def _say_added(added: shapes.PushAdded) -> None:
    line("cli.push_added", name=added.target.key)
    fact_lines([("cli.col_url", added.target.url or f"/feeds/{added.target.key}")])
    if added.secret:
        fact_lines([("cli.col_secret", added.secret)])
        line("cli.push_secret_once")
    line("cli.push_next", name=added.target.key)
