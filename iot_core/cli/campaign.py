"""`iot firmware campaign, status, pause, resume, stop, rollback`: an image to many devices in rings."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import option
from iot_core.cli.firmware import firmware
from iot_core.cli.keys import CAMPAIGN, IMAGE
from iot_core.cli.output import Column, fact_lines, is_for_people, line, note, print_rows, show_one, show_rows
from iot_core.cli.preview import ASK_ABOVE
from iot_core.cli.progress import bar
from iot_core.cli.session import ask
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["firmware"]

_LOOK_S = 0.5
_STATES = ("waiting", "running", "succeeded", "failed")
_OPEN = ("waiting", "running")
_STYLE = {"waiting": "", "running": "cyan", "succeeded": "green", "failed": "red"}
_CAMPAIGN_STYLE = {"running": "cyan", "paused": "yellow", "done": "green", "stopped": ""}


def _counted(row: shapes.Campaign) -> str:
    return ", ".join(
        f"{text(f'firmware.is_{state}')} {row.states[state]}" for state in _STATES if row.states.get(state)
    )


def _why(row: shapes.FirmwareUpdate) -> str:
    return " ".join(filter(None, (row.detail, row.said)))


CAMPAIGNS: list[Column[shapes.Campaign]] = [
    Column("cli.col_id", lambda row: row.id, right=True, whole=True),
    Column("firmware.col_image", lambda row: f"{row.model} {row.version}"),
    Column("cli.col_state", lambda row: text(f"firmware.campaign_{row.state}"), lambda row: _CAMPAIGN_STYLE[row.state]),
    Column("firmware.col_ring", lambda row: f"{row.ring + 1}/{row.rings}", right=True),
    Column("firmware.col_devices", _counted),
]
UPDATES: list[Column[shapes.FirmwareUpdate]] = [
    Column("cli.col_device", lambda row: row.device),
    Column("firmware.col_ring", lambda row: row.ring + 1, right=True),
    Column("cli.col_state", lambda row: text(f"firmware.is_{row.state}"), lambda row: _STYLE[row.state]),
    Column("firmware.col_before", lambda row: row.before, drop=1),
    Column("firmware.col_why", _why),
]


@firmware.command(
    "campaign",
    help=text("firmware.help_campaign"),
    examples=[
        "iot firmware campaign 3 --where class=streetlight --dry-run",
        "iot firmware campaign 3 --where class=streetlight --canary 0.05 --fail-share 0.1 --base-url https://iot.example.vn",
    ],
)
@click.argument("image", type=IMAGE)
@option("--where", required=True, metavar="SELECTOR", help=text("firmware.opt_where"))
@option(
    "--canary", type=click.FloatRange(0, 1, min_open=True), default=0.05, metavar="X", help=text("firmware.opt_canary")
)
@option("--fail-share", type=click.FloatRange(0, 1), default=0.1, metavar="X", help=text("firmware.opt_fail"))
@option("--base-url", metavar="URL", help=text("firmware.opt_base"))
@option("--dry-run", is_flag=True, help=text("firmware.opt_dry"))
@option("--yes", is_flag=True, help=text("firmware.opt_yes"))
def campaign(
    image: int, *, where: str, canary: float, fail_share: float, base_url: str | None, dry_run: bool, yes: bool
) -> None:
    from iot_core.api import shapes

    plan = ask(lambda client: client.plan_campaign(image, where, canary=canary))
    if dry_run:
        show_one(plan, lambda: _say_plan(plan))
        return
    if plan.total > ASK_ABOVE and not yes:
        if not (is_for_people() and sys.stdin.isatty()):
            raise RequestError("firmware.sure_needed", total=plan.total)
        _say_plan(plan)
        click.confirm(text("firmware.sure", total=plan.total), abort=True)
    new = shapes.CampaignNew(image=image, where=where, canary=canary, fail_share=fail_share, base_url=base_url)
    found = ask(lambda client: client.begin_campaign(new))
    show_one(found, lambda: _say(found))


@firmware.command(
    "status",
    help=text("firmware.help_status"),
    examples=["iot firmware status", "iot firmware status 2", "iot firmware status 2 --follow"],
)
@click.argument("number", metavar="[CAMPAIGN]", type=CAMPAIGN, required=False)
@option("--follow", is_flag=True, help=text("firmware.opt_follow"))
def status(number: int | None, *, follow: bool) -> int:
    if number is None:
        show_rows(ask(lambda client: client.campaigns()).items, CAMPAIGNS, nothing="firmware.no_campaigns")
        return 0
    found = ask(lambda client: _followed(client, number) if follow else client.campaign(number))
    show_one(found, lambda: _print(found))
    return 1 if found.states.get("failed") else 0


async def _followed(client: Client, number: int) -> shapes.CampaignDetail:
    """Watch until nothing moves any more: it is over, or paused with nothing under way."""
    found = await client.campaign(number)
    ended = 0
    with bar(f"{found.model} {found.version}", len(found.devices)) as move:
        while True:
            now = len(found.devices) - sum(found.states.get(state, 0) for state in _OPEN)
            move(now - ended)
            ended = now
            if found.state != "running" and not found.states.get("running"):
                return found
            await asyncio.sleep(_LOOK_S)
            found = await client.campaign(number)


@firmware.command("pause", help=text("firmware.help_pause"), examples=["iot firmware pause 2"])
@click.argument("number", metavar="CAMPAIGN", type=CAMPAIGN)
def pause(number: int) -> None:
    found = ask(lambda client: client.turn_campaign(number, "pause"))
    show_one(found, lambda: _say(found))


@firmware.command("resume", help=text("firmware.help_resume"), examples=["iot firmware resume 2"])
@click.argument("number", metavar="CAMPAIGN", type=CAMPAIGN)
def resume(number: int) -> None:
    found = ask(lambda client: client.turn_campaign(number, "resume"))
    show_one(found, lambda: _say(found))


@firmware.command("stop", help=text("firmware.help_stop"), examples=["iot firmware stop 2"])
@click.argument("number", metavar="CAMPAIGN", type=CAMPAIGN)
def stop(number: int) -> None:
    found = ask(lambda client: client.turn_campaign(number, "stop"))
    show_one(found, lambda: _say(found))


@firmware.command("rollback", help=text("firmware.help_rollback"), examples=["iot firmware rollback 2"])
@click.argument("number", metavar="CAMPAIGN", type=CAMPAIGN)
def rollback(number: int) -> int:
    done = ask(lambda client: client.roll_back(number))
    show_one(done, lambda: _say_rolled(done))
    return 1 if done.cannot else 0


def _say_plan(plan: shapes.CampaignPlan) -> None:
    line("firmware.would", total=plan.total, rings=" + ".join(map(str, plan.rings)), sample=", ".join(plan.devices))


def _say(found: shapes.Campaign) -> None:
    line(
        "firmware.campaign_is", id=found.id, model=found.model, version=found.version,
        state=text(f"firmware.campaign_{found.state}"), ring=found.ring + 1, rings=found.rings, counted=_counted(found),
    )  # fmt: skip
    note("firmware.look", id=found.id)


def _say_rolled(done: shapes.CampaignRolledBack) -> None:
    for each in done.campaigns:
        _say(each)
    if done.cannot:
        line("firmware.cannot", devices=", ".join(done.cannot))
    if not done.campaigns and not done.cannot:
        line("firmware.nothing_to_roll_back")


def _print(found: shapes.CampaignDetail) -> None:
    facts: list[tuple[str, object]] = [
        ("firmware.col_image", f"{found.model} {found.version}"),
        ("cli.col_state", text(f"firmware.campaign_{found.state}")),
        ("firmware.col_ring", f"{found.ring + 1}/{found.rings}"),
        ("firmware.col_devices", _counted(found)),
        ("firmware.col_where", found.selector),
    ]
    if found.reason:
        facts.insert(2, ("firmware.col_why", text(f"firmware.reason_{found.reason}", share=f"{found.fail_share:.0%}")))
    if found.rolls_back is not None:
        facts.append(("firmware.col_rolls_back", found.rolls_back))
    fact_lines(facts)
    print_rows(found.devices, UPDATES)
