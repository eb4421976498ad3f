"""`iot page`: the way to the page, with a fresh code that signs in once."""

from __future__ import annotations

import click

from iot_core.cli.base import Command
from iot_core.cli.output import fact_lines, line, show_one
from iot_core.cli.session import ask
from iot_core.cli.times import local
from iot_core.messages import text

__all__ = ["page"]


@click.command("page", cls=Command, help=text("cli.help_page"), examples=["iot page", "iot page --output json"])
def page() -> None:
    made = ask(lambda client: client.sign_in_code())

    def people() -> None:
        fact_lines(
            [("cli.col_page", made.url), ("cli.col_code", made.code), ("cli.col_expires", local(made.expires_at))]
        )
        line("cli.page_next")

    show_one(made, people)
