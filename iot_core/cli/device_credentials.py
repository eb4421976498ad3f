"""`iot device login` and `iot device oscore`: what the core keeps to speak with a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from iot_core.cli.base import Command, option
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.cli.session import ask
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["login", "oscore", "say_oscore"]


@click.command(
    "login",
    cls=Command,
    help=text("credential.help_login"),
    examples=["iot device login cam-01 --user admin", "iot device login cam-01 --user admin --password-file pw.txt"],
)
@click.argument("key", type=DEVICE)
@option("--user", "username", metavar="NAME", help=text("credential.opt_user"))
@option("--password-file", type=click.File(), metavar="FILE", help=text("credential.opt_password_file"))
@option("--forget", is_flag=True, help=text("credential.opt_forget"))
def login(key: str, *, username: str | None, password_file: TextIO | None, forget: bool) -> None:
    if forget:
        gone = ask(lambda client: client.forget_login(key))
        show_one(gone, lambda: line("credential.forgotten", key=key))
        return
    name = username if username is not None else click.prompt(text("credential.ask_user"), err=True)
    if password_file is not None:
        password = password_file.read().rstrip("\r\n")
    else:  # never as an argument: those stand in the list of processes
        password = click.prompt(text("credential.ask_password"), hide_input=True, err=True)
    kept = ask(lambda client: client.set_login(key, name, password))
    show_one(kept, lambda: line("credential.login_kept", key=key, username=name))


@click.command(
    "oscore",
    cls=Command,
    help=text("credential.help_oscore"),
    examples=[
        "iot device oscore wm-0102",
        "iot device oscore wm-0102 --output json",
        "iot device oscore wm-0102 --at-once",
        "iot device oscore wm-0102 --forget",
    ],
)
@click.argument("key", type=DEVICE)
@option("--at-once", is_flag=True, help=text("credential.opt_at_once"))
@option("--forget", is_flag=True, help=text("credential.opt_forget"))
def oscore(key: str, *, at_once: bool, forget: bool) -> None:
    if forget:
        gone = ask(lambda client: client.forget_oscore(key))
        show_one(gone, lambda: line("credential.forgotten", key=key))
        return
    made = ask(lambda client: client.new_oscore(key, at_once=at_once))
    show_one(made, lambda: say_oscore(made))


def say_oscore(made: shapes.OscoreContext) -> None:
    """Say what goes into the device."""
    line("credential.oscore_into", key=made.device)
    fact_lines(
        [
            ("credential.url", made.url),
            ("credential.master_secret", made.master_secret),
            ("credential.master_salt", made.master_salt),
            ("credential.sender_id", made.sender_id),
            ("credential.recipient_id", made.recipient_id),
            ("credential.algorithm", f"{made.algorithm}, {made.hkdf}"),
        ]
    )
    line("cli.secret_once")
    if made.pending:
        line("credential.oscore_pending", key=made.device)
