"""`iot device test`: is it well hung up? And walking past detectors without calling the fire brigade."""

from __future__ import annotations

import asyncio
import pathlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import Column, line, note, print_rows, show_one
from iot_core.cli.progress import bar
from iot_core.cli.session import ask
from iot_core.cli.times import Length, age, local
from iot_core.cli.words import value
from iot_core.errors import IotError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client
    from iot_core.model import CommandState

__all__ = ["test"]

LOOK_S = 1.0
PRESENCE_S = 30.0
"""As long as a device that was just heard has to say that it is online."""
_STYLE = {"ok": "green", "missing": "red", "bad": "red", "excused": "dim"}
_COLUMNS: list[Column[shapes.MetricCheck]] = [
    Column("test.col_metric", lambda row: row.metric),
    Column("test.col_result", lambda row: text(f"test.result_{row.result}"), lambda row: _STYLE[row.result]),
    Column("test.col_value", lambda row: value(row.value)),
    Column("test.col_time", lambda row: "-" if row.time is None else local(row.time), drop=1),
]


@click.command(
    "test",
    cls=Command,
    help=text("test.help"),
    examples=[
        "iot device test wm-0101",
        "iot device test wm-0101 --wait 2h --without flow,pressure --file wm-0101.json",
        "iot device test smoke-07 --walk 30m",
    ],
)
@click.argument("key", type=DEVICE)
@option("--walk", type=Length(), metavar="LENGTH", help=text("test.opt_walk"))
@option("--wait", type=Length(), default="10m", metavar="LENGTH", help=text("test.opt_wait"))
@option("--since", type=Length(), metavar="LENGTH", help=text("test.opt_since"))
@option("--without", metavar="METRICS", help=text("test.opt_without"))
@option("--no-command", is_flag=True, help=text("test.opt_no_command"))
@option("--notes", default="", metavar="TEXT", help=text("cli.opt_notes"))
@option("--file", type=click.Path(dir_okay=False, path_type=pathlib.Path), metavar="FILE", help=text("test.opt_file"))
def test(
    key: str,
    *,
    walk: timedelta | None,
    wait: timedelta,
    since: timedelta | None,
    without: str | None,
    no_command: bool,
    notes: str,
    file: pathlib.Path | None,
) -> int:
    from iot_core.api import shapes

    if walk is not None:
        _walk(key, walk)
        return 0
    begun = datetime.now(UTC) - (since or timedelta(0))
    seen = ask(lambda client: _seen(client, key, begun, wait, without))
    command = None if no_command or seen.heard_at is None else seen.harmless
    state, answered = (None, False) if command is None else _try(key, command, wait)
    body = shapes.CommissioningNew(since=begun, without=without, command=command, command_state=state, notes=notes)
    kept = ask(lambda client: client.keep_commissioning(key, body))
    if file is not None:
        _write(file, kept)
    show_one(kept, lambda: _say(kept, answered=answered))
    return 0 if kept.passed else 1


def _walk(key: str, length: timedelta) -> None:
    from iot_core.api import shapes

    ends = datetime.now(UTC) + length
    body = shapes.WindowNew(kind="test", keys=(key,), ends=ends, reason=text("test.walk_reason"))

    async def opened(client: Client) -> shapes.Window:
        await client.open_window(body)
        found = await client.windows(device=key)
        return max((each for each in found.items if each.kind == "test"), key=lambda each: each.id)

    window = ask(opened)
    show_one(window, lambda: line("test.walk", key=key, until=local(window.ends), id=window.id))


async def _seen(
    client: Client, key: str, since: datetime, wait: timedelta, without: str | None
) -> shapes.Commissioning:
    """Wait until a device said everything that is expected of it, or as long as we wait."""
    from iot_core.api import shapes

    asked = shapes.CommissioningQuery(since=since, without=without)
    until = asyncio.get_running_loop().time() + wait.total_seconds()
    with bar(text("test.waiting", key=key), None) as move:
        while True:
            seen = await client.commissioning(key, asked)
            done = seen.heard_at is not None and not any(each.result == "missing" for each in seen.metrics)
            if (done and any(each.result == "ok" for each in seen.metrics)) or (
                asyncio.get_running_loop().time() >= until
            ):
                return seen
            move(1)
            await asyncio.sleep(LOOK_S)


def _try(key: str, command: str, wait: timedelta) -> tuple[CommandState, bool]:
    """Send the command that changes nothing; say what became of it, and whether that is the device's own word."""
    from iot_core.model import CommandState

    try:
        sent = ask(lambda client: _sent(client, key, command, min(wait.total_seconds(), PRESENCE_S)))
    except IotError as error:
        from iot_core.cli.endings import sentence

        note("test.command_failed", command=command, reason=sentence(error))
        return CommandState.FAILED, False
    return sent.state, True


async def _sent(client: Client, key: str, command: str, wait_s: float) -> shapes.CommandSent:
    """Send a command; to a device whose word that it is online comes behind its readings, as soon as it is."""
    until = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            return await client.command(key, command, {})
        except IotError as error:
            if error.code != "command.offline" or asyncio.get_running_loop().time() >= until:
                raise
        await asyncio.sleep(LOOK_S)


def _write(file: pathlib.Path, kept: shapes.Commissioning) -> None:
    import msgspec

    file.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
    note("test.written", file=file)


def _say(kept: shapes.Commissioning, *, answered: bool) -> None:
    serial = kept.serial or "-"
    line("test.head", key=kept.device, profile=kept.profile, serial=serial, address=kept.address)
    if kept.heard_at is None:
        line("test.not_heard", since=age(kept.since))
    else:
        line("test.heard", at=local(kept.heard_at))
        print_rows(kept.metrics, _COLUMNS)
    if kept.held:
        line("test.held", n=kept.held, key=kept.device)
    if answered and kept.command is not None and kept.command_state is not None:
        line(f"command.state_{kept.command_state}", key=kept.device, name=kept.command, detail="-")
    line("test.passed" if kept.passed else "test.failed", id=kept.id, key=kept.device)
