"""`iot device channels`: which device each channel of a panel or gateway speaks of."""

from __future__ import annotations

import click

from iot_core.api import shapes
from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, show_rows
from iot_core.cli.session import ask
from iot_core.client import Client
from iot_core.errors import RequestError
from iot_core.messages import text

__all__ = ["channels"]

_COLUMNS: list[Column[shapes.Channel]] = [
    Column("channel.col_channel", lambda row: row.channel),
    Column("channel.col_device", lambda row: row.device),
]


@click.command(
    "channels",
    cls=Command,
    help=text("channel.help"),
    examples=[
        "iot device channels panel-1",
        "iot device channels panel-1 --feed 12=smoke-hall",
        "iot device channels panel-1 --forget 12",
    ],
)
@click.argument("key", type=DEVICE)
@option("--feed", "fed", multiple=True, metavar="CHANNEL=DEVICE", help=text("channel.opt_feed"))
@option("--forget", "forgotten", multiple=True, metavar="CHANNEL", help=text("channel.opt_forget"))
def channels(key: str, *, fed: tuple[str, ...], forgotten: tuple[str, ...]) -> None:
    wanted: list[tuple[str, str | None]] = [(each, None) for each in forgotten]
    for each in fed:
        channel, found, device = each.rpartition("=")
        if not found or not channel or not device:
            raise RequestError("channel.bad_feed", said=each)
        wanted.append((channel, device))

    async def settle(client: Client) -> shapes.Channels:
        for channel, device in wanted:
            await client.feed_channel(key, channel, device)
        return await client.channels(key)

    show_rows(ask(settle).items, _COLUMNS, nothing="channel.nothing")
