"""`iot device command`: ask a device to do something, now."""

from __future__ import annotations

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import line, show_one
from iot_core.cli.session import ask
from iot_core.errors import RequestError
from iot_core.messages import text

__all__ = ["command", "param"]

Value = bool | int | float | str


@click.command(
    "command",
    cls=Command,
    help=text("command.help"),
    examples=["iot device command sl-0101 dim level=40", "iot device command sl-0101 switch on=true --wait 10"],
)
@click.argument("key", type=DEVICE)
@click.argument("name")
@click.argument("params", nargs=-1, metavar="[PARAM=VALUE]...")
@option("--wait", "wait_s", type=click.FloatRange(0, 30), default=5.0, metavar="S", help=text("command.opt_wait"))
def command(key: str, name: str, params: tuple[str, ...], *, wait_s: float) -> int:
    given = dict(param(each) for each in params)
    sent = ask(lambda client: client.command(key, name, given, wait_s=wait_s))
    show_one(sent, lambda: line(f"command.state_{sent.state}", key=key, name=name, detail=sent.detail or "-"))
    return 1 if sent.state == "failed" else 0


def param(said: str) -> tuple[str, Value]:
    """Read `level=40`: true, false, a number, else text."""
    name, sign, value = said.partition("=")
    if not sign or not name:
        raise RequestError("command.not_a_param", said=said)
    if value in {"true", "false"}:
        return name, value == "true"
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value
