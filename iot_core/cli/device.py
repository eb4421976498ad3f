"""`iot device`: commission, find, look at, retire."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import LazyGroup, option
from iot_core.cli.connect import facts
from iot_core.cli.keys import AREA, CLASS, DEVICE, MODEL, NEW_KEY
from iot_core.cli.output import Column, cut, fact_lines, is_for_people, line, note, show_one, show_rows
from iot_core.cli.session import ask
from iot_core.cli.times import age
from iot_core.cli.words import STATE_STYLE, headline, word
from iot_core.errors import RequestError
from iot_core.messages import text
from iot_core.model import Severity

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["device", "say_added", "with_endpoints"]

_ELSEWHERE = {
    "read": "iot_core.cli.device_read:read",
    "import": "iot_core.cli.device_lists:import_",
    "export": "iot_core.cli.device_lists:export",
    "edit": "iot_core.cli.device_lists:edit",
    "replace": "iot_core.cli.device_lists:replace",
    "channels": "iot_core.cli.device_channels:channels",
    "command": "iot_core.cli.device_command:command",
    "labels": "iot_core.cli.device_labels:labels",
    "test": "iot_core.cli.device_test:test",
    "login": "iot_core.cli.device_credentials:login",
    "oscore": "iot_core.cli.device_credentials:oscore",
    "rotate": "iot_core.cli.device_secret:rotate",
    "revoke": "iot_core.cli.device_secret:revoke",
    "bridge": "iot_core.cli.device_secret:bridge",
}
STATES = ("alarm", "silent", "never", "ok", "retired")
DEVICE_COLUMNS: list[Column[shapes.Device]] = [
    Column("cli.col_key", lambda row: row.key),
    Column("cli.col_name", lambda row: row.name),
    Column("cli.col_class", lambda row: row.class_key, drop=2),
    Column("cli.col_area", lambda row: row.area),
    Column("cli.col_state", lambda row: word("state", row.state), lambda row: STATE_STYLE[row.state]),
    Column("cli.col_heard", lambda row: age(row.last_received_at), drop=1),
    Column("cli.col_address", lambda row: row.address, drop=3),
]


@click.group(
    "device",
    cls=LazyGroup,
    sources=_ELSEWHERE,
    help=text("cli.help_device"),
    examples=[
        "iot device add sl-0101 --profile native-streetlight --area ben-thanh",
        "iot device show sl-0101",
        "iot device list --state silent",
    ],
)
def device() -> None:
    pass


@device.command(
    "add",
    help=text("cli.help_device_add"),
    examples=[
        "iot device add sl-0101 --profile native-streetlight --area ben-thanh --lat 10.7721 --lon 106.6983",
        "iot device add sl-0102 --profile native-streetlight --qr --png sl-0102.png",
        "iot device add aq-0012 --profile acme-aq4 --address modbus://10.0.3.7:502/12 --gateway gw-01",
    ],
)
@click.argument("key", type=NEW_KEY)
@option("--profile", type=MODEL, metavar="MODEL", help=text("cli.opt_profile"))
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("lists.opt_class"))
@option("--name", metavar="NAME", help=text("cli.opt_device_name"))
@option("--area", type=AREA, metavar="KEY", help=text("cli.opt_area"))
@option("--lat", "latitude", type=click.FloatRange(-90, 90), metavar="LAT", help=text("cli.opt_lat"))
@option("--lon", "longitude", type=click.FloatRange(-180, 180), metavar="LON", help=text("cli.opt_lon"))
@option("--address", metavar="ADDRESS", help=text("cli.opt_address"))
@option("--serial", metavar="SERIAL", help=text("cli.opt_serial"))
@option("--gateway", type=DEVICE, metavar="KEY", help=text("lists.opt_gateway"))
@option("--label", "labels", multiple=True, metavar="LABEL", help=text("lists.opt_add_label"))
@option("--notes", default="", metavar="TEXT", help=text("cli.opt_notes"))
@option("--planned", is_flag=True, help=text("batch.opt_planned"))
@option("--oscore", is_flag=True, help=text("credential.opt_oscore"))
@option("--qr", is_flag=True, help=text("labels.opt_qr"))
@option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=text("labels.opt_png"))
def add(
    key: str,
    *,
    profile: str | None,
    class_key: str | None,
    name: str | None,
    area: str | None,
    latitude: float | None,
    longitude: float | None,
    address: str | None,
    serial: str | None,
    gateway: str | None,
    labels: tuple[str, ...],
    notes: str,
    planned: bool,
    oscore: bool,
    qr: bool,
    png: Path | None,
) -> None:
    from iot_core.api import shapes

    if profile is None and class_key is None:
        context = click.get_current_context()
        raise click.MissingParameter(
            ctx=context, param=next(it for it in context.command.params if it.name == "profile")
        )
    new = shapes.DeviceNew(
        key=key,
        profile=profile,
        class_key=class_key,
        name=name,
        area=area,
        latitude=latitude,
        longitude=longitude,
        address=address,
        serial=serial,
        gateway=gateway,
        labels=labels,
        notes=notes,
        planned=planned,
    )
    added, where = ask(lambda client: with_endpoints(client, client.add_device(new)))
    if png is not None:
        from iot_core.cli.codes import content, write_png

        write_png(png, content(facts(added, where)))
        note("labels.png", file=png)
    if not oscore:
        show_one(added, lambda: say_added(added, where, "cli.device_added", qr=qr))
        return
    from iot_core.cli.device_credentials import say_oscore

    made = ask(lambda client: client.new_oscore(key))

    def people() -> None:
        say_added(added, where, "cli.device_added", qr=qr)
        say_oscore(made)

    show_one(made, people)


@device.command(
    "list",
    help=text("cli.help_device_list"),
    examples=[
        "iot device list --state alarm",
        "iot device list --area ben-thanh --class streetlight",
        "iot device list --search 'tran hung dao' --output csv",
    ],
)
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("cli.opt_class"))
@option("--area", type=AREA, metavar="KEY", help=text("cli.opt_list_area"))
@option("--state", "state_name", type=click.Choice(STATES), help=text("cli.opt_device_state"))
@option("--search", metavar="TEXT", help=text("cli.opt_search"))
@option("--limit", type=click.IntRange(1, 10_000), default=1_000, metavar="N", help=text("cli.opt_limit"))
def list_(class_key: str | None, area: str | None, state_name: str | None, search: str | None, limit: int) -> None:
    from iot_core.api.shapes import DeviceState

    state = None if state_name is None else DeviceState(state_name)
    found = ask(lambda client: client.devices(class_key=class_key, area=area, state=state, search=search, limit=limit))
    show_rows(found.items, DEVICE_COLUMNS, nothing="cli.device_none")
    cut(len(found.items), found.total)


@device.command(
    "show",
    help=text("cli.help_device_show"),
    examples=["iot device show sl-0101", "iot device show sl-0101 --output json"],
)
@click.argument("key", type=DEVICE)
def show(key: str) -> None:
    from iot_core.cli.portrait import print_portrait

    found = ask(lambda client: client.device(key))
    show_one(found, lambda: print_portrait(found))


@device.command(
    "remove",
    help=text("cli.help_device_remove"),
    examples=["iot device remove sl-0101", "iot device remove smoke-1 --yes"],
)
@click.argument("key", type=DEVICE)
@option("--yes", is_flag=True, help=text("remove.opt_yes"))
def remove(key: str, *, yes: bool) -> None:
    async def work(client: Client) -> tuple[shapes.Device, int]:
        gone = await client.remove_device(key)
        return gone, (await client.alarms(open_only=True, device=key, limit=1)).total

    if not yes:
        _ask_about_alarms(ask(lambda client: client.device(key)))
    removed, alarms = ask(work)
    show_one(removed, lambda: line("cli.device_removed", key=removed.key))
    if alarms:
        note("cli.device_removed_alarms", n=alarms, key=removed.key)


@device.command(
    "restore",
    help=text("cli.help_device_restore"),
    examples=["iot device restore sl-0101", "iot device restore sl-0101 --fresh-secret"],
)
@click.argument("key", type=DEVICE)
@option("--fresh-secret", is_flag=True, help=text("cli.opt_fresh_secret"))
def restore(key: str, *, fresh_secret: bool) -> None:
    restored, where = ask(lambda client: with_endpoints(client, client.restore_device(key, fresh_secret=fresh_secret)))
    show_one(restored, lambda: say_added(restored, where, "cli.device_restored"))


def _ask_about_alarms(found: shapes.DeviceDetail) -> None:
    """Ask before a device goes that something is urgently wrong at: nobody would be told of it any more."""
    open_ = [headline(alarm.title) for alarm in found.alarms if alarm.severity is Severity.CRITICAL]
    if not open_:
        return
    said = {"key": found.key, "alarms": ", ".join(open_)}
    if not (is_for_people() and sys.stdin.isatty()):
        raise RequestError("remove.confirm", **said)
    line("remove.critical", **said)
    click.confirm(text("remove.sure", key=found.key), abort=True)


async def with_endpoints(
    client: Client, adding: Awaitable[shapes.DeviceAdded]
) -> tuple[shapes.DeviceAdded, shapes.Endpoints]:
    return await adding, await client.endpoints()


def _nothing(added: shapes.DeviceAdded) -> str | None:
    """Say why nothing is typed into a device that was just added: it claims its secret, or its bridge speaks for it."""
    if added.device.lifecycle == "planned":
        return "cli.into_claimed"
    return "cli.into_bridge" if added.address.startswith("mqtt:") else None


def say_added(added: shapes.DeviceAdded, where: shapes.Endpoints, code: str, *, qr: bool = False) -> None:
    """Say what was added and what goes into the device now."""
    key = added.device.key
    line(
        code, key=key, name=added.device.name, profile=added.device.profile or "-", device_class=added.device.class_key
    )
    if added.replayed:
        line("cli.device_replayed", n=added.replayed)
    if code == "cli.device_added" and added.secret is None and (nothing := _nothing(added)):
        line(nothing, key=key)
        return
    click.echo(f"\n{text('cli.head_into_polled' if added.address.startswith('modbus:') else 'cli.head_into')}")
    fact_lines(facts(added, where))
    if qr:
        from iot_core.cli.codes import content, drawn

        click.echo()
        click.echo(drawn(content(facts(added, where))), nl=False)
    if added.secret is not None:
        line("cli.secret_once")
    if added.address.startswith("modbus:"):
        line("modbus.open_wire")
    click.echo()
    line("cli.device_next", key=key)
