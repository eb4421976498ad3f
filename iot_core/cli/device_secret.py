"""`iot device rotate`, `revoke`, `bridge`: what a device shows at the broker, and where it may speak for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.command import followed, say_order, sure
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.cli.session import ask
from iot_core.cli.spans import Span
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from datetime import timedelta

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["bridge", "revoke", "rotate"]


@click.command(
    "rotate",
    cls=Command,
    help=text("secret.help_rotate"),
    examples=[
        "iot device rotate wm-0102",
        "iot device rotate --where 'class=water_meter and area=hong-gai' --rate 20 --stop-after 5",
        "iot device rotate wm-0102 --show",
        "iot device rotate wm-0102 --confirm",
        "iot device rotate wm-0102 --at-once",
    ],
)
@click.argument("keys", nargs=-1, type=DEVICE, metavar="[KEY]...")
@option("--where", metavar="SELECTOR", help=text("secret.opt_where"))
@option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help=text("secret.opt_rate"))
@option("--stop-after", type=click.IntRange(min=1), metavar="N", help=text("command.opt_stop_after"))
@option("--within", type=Span("10s", "30d"), metavar="SPAN", help=text("secret.opt_within"))
@option("--wait", "wait_s", type=click.FloatRange(0, 3_600), default=10.0, metavar="S", help=text("secret.opt_wait"))
@option("--dry-run", is_flag=True, help=text("secret.opt_dry"))
@option("--yes", is_flag=True, help=text("command.opt_yes"))
@option("--show", is_flag=True, help=text("secret.opt_show"))
@option("--at-once", is_flag=True, help=text("secret.opt_at_once"))
@option("--confirm", "confirmed", is_flag=True, help=text("secret.opt_confirm"))
def rotate(
    keys: tuple[str, ...], *, where: str | None, rate: float | None, stop_after: int | None, within: timedelta | None,
    wait_s: float, dry_run: bool, yes: bool, show: bool, at_once: bool, confirmed: bool,
) -> int:  # fmt: skip
    if show or at_once or confirmed:
        _by_hand(_only(keys, where), at_once=at_once, confirmed=confirmed)
        return 0
    from msgspec.structs import replace

    from iot_core.api import shapes

    if bool(keys) is bool(where):
        raise RequestError("command.whom")
    new = shapes.SecretsRotate(devices=keys or None, where=where, rate=rate, stop_after=stop_after)
    if within is not None:
        new = replace(new, within_s=within.total_seconds())
    if dry_run or where is not None or len(keys) > 1:
        would = ask(lambda client: client.rotate_secrets(replace(new, dry=True)))
        if dry_run:
            show_one(would, lambda: line("command.would", total=would.total, sample=", ".join(would.devices)))
            return 0
        sure(would, yes=yes)

    async def order(client: Client) -> shapes.CommandOrder:
        return await followed(client, await client.rotate_secrets(new), wait_s)

    done = ask(order)
    show_one(done, lambda: _say_order(done))
    return 1 if done.states.get("failed") or done.states.get("expired") else 0


def _only(keys: tuple[str, ...], where: str | None) -> str:
    """Give the one device that something is done for by hand."""
    if where is not None or len(keys) != 1:
        raise click.UsageError(text("secret.one_by_hand"))
    return keys[0]


def _by_hand(key: str, *, at_once: bool, confirmed: bool) -> None:
    if confirmed:
        done = ask(lambda client: client.confirm_secret(key))
        show_one(done, lambda: line("secret.confirmed", key=key))
        return
    made = ask(lambda client: client.rotate_secret(key, at_once=at_once))
    show_one(made, lambda: _say(made))


def _say_order(done: shapes.CommandOrder) -> None:
    say_order(done)
    if set(done.states) & {"queued", "sent", "delivered"}:
        line("secret.not_taken_yet")


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
