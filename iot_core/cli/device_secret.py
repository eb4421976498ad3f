"""`iot device rotate`, `revoke`, `bridge`: what a device shows at the broker, and where it may speak for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.cli.session import ask
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["bridge", "revoke", "rotate"]


@click.command(
    "rotate",
    cls=Command,
    help=text("secret.help_rotate"),
    examples=[
        "iot device rotate wm-0102",
        "iot device rotate wm-0102 --confirm",
        "iot device rotate wm-0102 --at-once",
    ],
)
@click.argument("key", type=DEVICE)
@option("--at-once", is_flag=True, help=text("secret.opt_at_once"))
@option("--confirm", "confirmed", is_flag=True, help=text("secret.opt_confirm"))
def rotate(key: str, *, at_once: bool, confirmed: bool) -> None:
    if confirmed:
        done = ask(lambda client: client.confirm_secret(key))
        show_one(done, lambda: line("secret.confirmed", key=key))
        return
    made = ask(lambda client: client.rotate_secret(key, at_once=at_once))
    show_one(made, lambda: _say(made))


@click.command("revoke", cls=Command, help=text("secret.help_revoke"), examples=["iot device revoke wm-0102"])
@click.argument("key", type=DEVICE)
def revoke(key: str) -> None:
    done = ask(lambda client: client.revoke_secret(key))
    show_one(done, lambda: line("secret.revoked", key=key))


@click.command(
    "bridge",
    cls=Command,
    help=text("secret.help_bridge"),
    examples=["iot device bridge gw-01 --topic zigbee2mqtt", "iot device bridge gw-01 --none"],
)
@click.argument("key", type=DEVICE)
@option("--topic", "topics", multiple=True, metavar="TOPIC", help=text("secret.opt_topic"))
@option("--none", "nothing", is_flag=True, help=text("secret.opt_none"))
def bridge(key: str, *, topics: tuple[str, ...], nothing: bool) -> None:
    if nothing is bool(topics):
        raise click.UsageError(text("secret.topic_or_none"))
    done = ask(lambda client: client.set_bridge(key, topics))
    show_one(
        done, lambda: line("secret.bridged", key=key, topics=", ".join(f"{each}/#" for each in done.topics) or "-")
    )


def _say(made: shapes.SecretRotated) -> None:
    line("secret.pending" if made.pending else "secret.at_once", key=made.device)
    fact_lines([("cli.into_user", made.device), ("cli.into_password", made.secret)])
    line("cli.secret_once")
