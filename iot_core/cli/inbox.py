"""`iot inbox`: who sends or claimed themselves and is not registered; accept one or all, or refuse."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import LazyGroup, option
from iot_core.cli.endings import reason
from iot_core.cli.held import glance
from iot_core.cli.keys import AREA, DEVICE, MODEL, NEW_KEY
from iot_core.cli.output import Column, is_for_people, line, plain, print_rows, printable, show_one
from iot_core.cli.session import ask
from iot_core.cli.times import age, local
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["inbox"]

ASK_ABOVE = 10
SAMPLE = 8


def _said(row: shapes.Sender) -> str:
    """Show what it said last; of one that was found, what it tells of itself."""
    told = ", ".join(row.says.values())
    return glance(told or row.payload, row.registers)


SENDER_COLUMNS: list[Column[shapes.Sender]] = [
    Column("cli.col_address", lambda row: row.address),
    Column("inbox.col_guess", lambda row: row.guess[0] if row.guess else None),
    Column("cli.col_messages", lambda row: row.messages, right=True, whole=True),
    Column("cli.col_first", lambda row: local(row.first_at), drop=2),
    Column("cli.col_last", lambda row: age(row.last_at)),
    Column("cli.col_last_said", _said, raw=True, drop=1),
]
CLAIM_COLUMNS: list[Column[shapes.Claim]] = [
    Column("cli.col_address", lambda row: f"claim:{row.id}", whole=True),
    Column("inbox.col_serial", lambda row: row.serial),
    Column("inbox.col_profile", lambda row: row.profile, drop=2),
    Column("inbox.col_batch", lambda row: row.batch, drop=1),
    Column("inbox.col_from", lambda row: row.came_from, drop=3),
    Column("inbox.col_contested", lambda row: row.contested or None, lambda row: "bold red" if row.contested else ""),
    Column("cli.col_last", lambda row: age(row.last_at)),
]
LEFT_COLUMNS: list[Column[shapes.InboxLeft]] = [
    Column("cli.col_address", lambda row: row.address),
    Column("cli.col_why", lambda row: row.detail),
]


@click.group(
    "inbox",
    cls=LazyGroup,
    sources={},
    invoke_without_command=True,
    help=text("inbox.help"),
    examples=[
        "iot inbox",
        "iot inbox accept mqtt:zigbee2mqtt/hall-smoke --area hong-gai",
        "iot inbox accept claim:12 --key wm-0102",
        "iot inbox accept --all",
        "iot inbox add job.json",
        "iot inbox reject claim:13",
    ],
)
@click.pass_context
def inbox(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is not None:
        return
    found = ask(lambda client: client.inbox())
    if not is_for_people():
        rows = [plain(each) for each in found.items]
        rows += [{"address": f"claim:{each.id}", **plain(each)} for each in found.claims]
        show_one(rows, lambda: None)
        return
    if not found.items and not found.claims:
        line("cli.inbox_none")
        return
    if found.items:
        print_rows(found.items, SENDER_COLUMNS)
    if found.claims:
        if found.items:
            click.echo()
        line("inbox.head_claims")
        print_rows(found.claims, CLAIM_COLUMNS)
    first = found.items[0].address if found.items else f"claim:{found.claims[0].id}"
    line("inbox.next", address=first)


@inbox.command(
    "add",
    help=text("inbox.help_add"),
    examples=["iot modbus scan /dev/ttyUSB0 --as /dev/ttyS1 --save job.json", "iot inbox add job.json"],
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=pathlib.Path), metavar="FILE")
def add(file: pathlib.Path) -> None:
    body = _job(file)
    added = ask(lambda client: client.add_to_inbox(body))
    show_one(added, lambda: line("inbox.added", waiting=added.waiting, registered=added.registered))


@inbox.command(
    "accept",
    help=text("inbox.help_accept"),
    examples=[
        "iot inbox accept mqtt:zigbee2mqtt/hall-smoke --key smoke-0007 --area hong-gai",
        "iot inbox accept claim:12 --key wm-0102 --replace",
        "iot inbox accept --all --driver mqtt --profile zigbee2mqtt-smoke --yes",
    ],
)
@click.argument("address", required=False)
@option("--all", "everyone", is_flag=True, help=text("inbox.opt_all"))
@option("--key", type=NEW_KEY, metavar="KEY", help=text("inbox.opt_key"))
@option("--profile", type=MODEL, metavar="MODEL", help=text("inbox.opt_profile"))
@option("--name", metavar="NAME", help=text("cli.opt_device_name"))
@option("--area", type=AREA, metavar="KEY", help=text("cli.opt_area"))
@option("--lat", "latitude", type=click.FloatRange(-90, 90), metavar="LAT", help=text("cli.opt_lat"))
@option("--lon", "longitude", type=click.FloatRange(-180, 180), metavar="LON", help=text("cli.opt_lon"))
@option("--gateway", type=DEVICE, metavar="KEY", help=text("inbox.opt_gateway"))
@option("--replace", is_flag=True, help=text("inbox.opt_replace"))
@option("--driver", metavar="NAME", help=text("inbox.opt_driver"))
@option("--dry-run", is_flag=True, help=text("inbox.opt_dry_run"))
@option("--yes", is_flag=True, help=text("inbox.opt_yes"))
def accept(
    address: str | None,
    *,
    everyone: bool,
    key: str | None,
    profile: str | None,
    name: str | None,
    area: str | None,
    latitude: float | None,
    longitude: float | None,
    gateway: str | None,
    replace: bool,
    driver: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    from iot_core.api import shapes

    if everyone is (address is not None):
        raise RequestError("inbox.one_or_all")
    if everyone:
        _accept_all(
            shapes.InboxAcceptAll(profile=profile, driver=driver, area=area, gateway=gateway, dry_run=True),
            dry_run=dry_run, yes=yes,
        )  # fmt: skip
        return
    asked = shapes.InboxAccept(
        address=address or "",
        key=key,
        profile=profile,
        name=name,
        area=area,
        latitude=latitude,
        longitude=longitude,
        gateway=gateway,
        replace=replace,
    )
    from iot_core.cli.device import say_added, with_endpoints

    added, where = ask(lambda client: with_endpoints(client, client.accept(asked)))

    def people() -> None:
        if asked.address.startswith("claim:"):
            line("inbox.claim_accepted", key=added.device.key, profile=added.device.profile or "-")
        else:
            say_added(added, where, "cli.device_added")

    show_one(added, people)


@inbox.command(
    "reject",
    help=text("inbox.help_reject"),
    examples=["iot inbox reject claim:13", "iot inbox reject mqtt:tele/neighbours-plug"],
)
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def reject(addresses: tuple[str, ...]) -> None:
    claims = [each.removeprefix("claim:") for each in addresses if each.startswith("claim:")]
    if any(not (each.isascii() and each.isdecimal()) for each in claims):
        raise RequestError("batch.no_claim", id=", ".join(claims))
    senders = [each for each in addresses if not each.startswith("claim:")]
    done = ask(lambda client: client.reject(claims=[int(each) for each in claims], addresses=senders))
    show_one(done, lambda: line("inbox.rejected", claims=done.claims, messages=done.messages))


def _accept_all(asked: shapes.InboxAcceptAll, *, dry_run: bool, yes: bool) -> None:
    would = ask(lambda client: client.accept_all(asked))
    total = len(would.preview) + would.more
    if dry_run or not total:
        show_one(would, lambda: _say_all(would, dry=True))
        return
    if total > ASK_ABOVE and not yes:
        if not (is_for_people() and sys.stdin.isatty()):
            raise RequestError("change.confirm", total=total)
        _say_all(would, dry=True)
        click.confirm(text("change.sure", total=total), abort=True)
    done = ask(lambda client: _all_of(client, asked, total))
    show_one(done, lambda: _say_all(done, dry=False))


async def _all_of(client: Client, asked: shapes.InboxAcceptAll, total: int) -> shapes.InboxAccepted:
    """Accept piece by piece until nobody waits who was not looked at."""
    from msgspec.structs import replace

    from iot_core.api import shapes
    from iot_core.cli.progress import bar

    done = shapes.InboxAccepted(items=(), left=())
    with bar(text("inbox.accepting"), total) as advance:
        while True:
            skip = tuple(each.address for each in done.left)
            piece = await client.accept_all(replace(asked, skip=skip, dry_run=False))
            advance(len(piece.items) + len(piece.left))
            done = shapes.InboxAccepted(
                items=done.items + piece.items, left=done.left + piece.left, preview=done.preview + piece.preview
            )
            if not piece.more or not (piece.items or piece.left):
                return replace(done, more=piece.more)


def _say_all(said: shapes.InboxAccepted, *, dry: bool) -> None:
    for each in said.preview[:SAMPLE]:
        click.echo(printable(f"  {each.address} → {each.key} ({each.profile})"))
    if (more := len(said.preview) + said.more - SAMPLE) > 0:
        line("change.more", more=more)
    if said.left:
        line("inbox.left", total=len(said.left))
        print_rows(said.left, LEFT_COLUMNS)
    if dry:
        total = len(said.preview) + said.more
        line("inbox.would" if total else "inbox.nobody", total=total)
        return
    replayed = sum(each.replayed for each in said.items)
    line("inbox.accepted", total=len(said.items), messages=replayed)
    if any(each.secret for each in said.items):
        line("inbox.secrets_in_json")


def _job(file: pathlib.Path) -> shapes.InboxAdd:
    """Read whom a scan found from its job file (`iot modbus scan --save`). Raises RequestError."""
    import msgspec

    from iot_core.api import shapes

    try:
        job = msgspec.json.decode(file.read_bytes())
        found = [
            *({"address": each["address"], "model": each["profile"]} for each in job["devices"]),
            *(
                {
                    "address": each["address"],
                    "guess": {one["model"]: one["weight"] for one in each.get("guesses", ())},
                    "says": each.get("identification", {}),
                    "registers": each.get("registers", {}),
                }
                for each in job["undecided"]
            ),
        ]
        return msgspec.convert({"found": [{**each, "at": job["made_at"]} for each in found]}, shapes.InboxAdd)
    except OSError as exc:
        raise RequestError("sheet.unreadable", file=file, detail=reason(exc)) from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as exc:
        raise RequestError("sheet.no_job", file=file) from exc
