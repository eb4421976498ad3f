"""`iot rule`: which alarm rules hold where, and changing them at run time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Group, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, is_for_people, line, show_one, show_rows
from iot_core.cli.preview import ASK_ABOVE
from iot_core.cli.rule_try import say_tried, show_tried, tried
from iot_core.cli.session import ask
from iot_core.cli.times import When, local
from iot_core.cli.words import person, word
from iot_core.errors import RequestError
from iot_core.messages import text, title

if TYPE_CHECKING:
    from datetime import datetime

    from iot_core.api import shapes

__all__ = ["rule"]


@click.group(
    "rule",
    cls=Group,
    help=text("rule.help"),
    examples=["iot rule list", "iot rule explain aq-001", "iot rule set tank.high new.yaml --where area=hong-gai"],
)
def rule() -> None:
    pass


_LAID: list[Column[shapes.RuleLaid]] = [
    Column("rule.col_rule", lambda row: row.rule),
    Column("rule.col_where", lambda row: row.where),
    Column("rule.col_change", lambda row: _flow(row.body), raw=True),
    Column("rule.col_version", lambda row: row.version, right=True),
    Column("rule.col_by", lambda row: person(row.by)),
    Column("rule.col_at", lambda row: local(row.created_at), whole=True),
]
_AT: list[Column[shapes.RuleAt]] = [
    Column("rule.col_rule", lambda row: row.rule),
    Column("rule.col_severity", lambda row: word("severity", row.severity)),
    Column("rule.col_said", lambda row: row.said or _off(row), lambda row: "" if row.said else "yellow"),
    Column("rule.col_title", lambda row: title(row.title)),
    Column("rule.col_where", lambda row: ", ".join(each.where for each in row.changes) or "class"),
]


@rule.command("list", help=text("rule.help_list"), examples=["iot rule list", "iot rule list --output json"])
def list_() -> None:
    found = ask(lambda client: client.rule_changes())
    show_rows(found.items, _LAID, nothing="rule.none")


@rule.command("explain", help=text("rule.help_explain"), examples=["iot rule explain aq-001"])
@click.argument("device", type=DEVICE, metavar="DEVICE")
def explain(device: str) -> None:
    found = ask(lambda client: client.rules_at(device))
    show_rows(found.items, _AT, nothing="rule.none")


_FILE = click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_WHERE = option("--where", metavar="KIND=KEY", default="", help=text("rule.opt_where"))


@rule.command(
    "check", help=text("rule.help_check"), examples=["iot rule check streetlight.dark new.yaml --where label=old"]
)
@click.argument("key", metavar="RULE")
@_FILE
@_WHERE
def check(key: str, file: Path, where: str) -> None:
    _change(key, _read(file), where, preview=True)


_SINCE = option("--since", type=When(), default="30d", metavar="WHEN", help=text("rule.opt_since"))
_YES = option("--yes", is_flag=True, help=text("rule.opt_yes"))


@rule.command(
    "try",
    help=text("rule.help_try"),
    examples=[
        "iot rule try water_meter.backflow --since 30d",
        "iot rule try streetlight.dark new.yaml --where area=hong-gai --devices 0",
        "iot rule try fire_detector.smoke --since 2026-01-01 --until 2026-02-01 --output csv",
    ],
)
@click.argument("key", metavar="RULE")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_WHERE
@_SINCE
@option("--until", type=When(), metavar="WHEN", help=text("rule.opt_until"))
@option("--devices", type=click.IntRange(0), default=100, show_default=True, metavar="N", help=text("rule.opt_devices"))
def try_(key: str, file: Path | None, *, where: str, since: datetime, until: datetime | None, devices: int) -> None:
    body = _read(file) if file is not None else None
    show_tried(tried(key, body, where, since, until, devices), changed=body is not None)


@rule.command(
    "set",
    help=text("rule.help_set"),
    examples=["iot rule set air_quality.battery_low new.yaml", "iot rule set tank.high new.yaml --where device=tank-7"],
)
@click.argument("key", metavar="RULE")
@_FILE
@_WHERE
@_SINCE
@_YES
def set_(key: str, file: Path, *, where: str, since: datetime, yes: bool) -> None:
    body = _read(file)
    would = _ask(key, body, where, preview=True)
    if is_for_people():
        say_tried(tried(key, body, where, since, None, _SAMPLE), changed=True)
    _sure(would, yes=yes)
    _change(key, body, where)


@rule.command("reset", help=text("rule.help_reset"), examples=["iot rule reset tank.high --where area=hong-gai"])
@click.argument("key", metavar="RULE")
@_WHERE
@_YES
def reset(key: str, *, where: str, yes: bool) -> None:
    _sure(_ask(key, None, where, preview=True), yes=yes)
    _change(key, None, where)


_SAMPLE = 100
"""Devices at which a change is tried before it is applied."""


def _sure(would: shapes.RuleChanged, *, yes: bool) -> None:
    """Ask before a change that many devices feel, or that ends a rule that guards life.

    Raises RequestError where nobody can be asked.
    """
    ends = would.said is None and would.life_safety
    if yes or not (ends or would.devices > ASK_ABOVE):
        return
    if not (is_for_people() and sys.stdin.isatty()):
        if ends:
            raise RequestError("rule.guards_life", rule=would.rule, where=would.where, devices=would.devices)
        raise RequestError("change.confirm", total=would.devices)
    _say(would)
    click.confirm(text("rule.sure", devices=would.devices), abort=True)


def _read(file: Path) -> dict[str, Any]:
    import msgspec

    try:
        body = msgspec.yaml.decode(file.read_bytes())
        msgspec.json.encode(body)  # an alias of a list inside itself has no end
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RequestError("rule.no_yaml", file=str(file), detail=str(exc)) from exc
    if not isinstance(body, dict):
        raise RequestError("rule.no_yaml", file=str(file), detail="-")
    return body


def _ask(key: str, body: dict[str, Any] | None, where: str, *, preview: bool) -> shapes.RuleChanged:
    from iot_core.api import shapes

    asked = shapes.RuleChange(body=body, where=where, preview=preview)
    return ask(lambda client: client.change_rule(key, asked))


def _change(key: str, body: dict[str, Any] | None, where: str, *, preview: bool = False) -> None:
    found = _ask(key, body, where, preview=preview)
    show_one(found, lambda: _say(found))


def _say(found: shapes.RuleChanged) -> None:
    line(
        "rule.changed_to" if found.applied else "rule.would_be", rule=found.rule, where=found.where,
        devices=found.devices, said=found.said or text("rule.off"),
    )  # fmt: skip


def _off(row: shapes.RuleAt) -> str:
    return text("rule.off_by", by=person(row.changes[-1].by)) if row.changes else text("rule.off")


def _flow(body: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.encode(body).decode()
