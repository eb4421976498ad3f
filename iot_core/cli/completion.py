"""`iot completion`: what a shell needs to complete commands, options and device keys."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from iot_core.cli.base import Command
from iot_core.messages import text

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_IOT_COMPLETE"


@click.command(
    "completion",
    cls=Command,
    help=text("cli.help_completion"),
    examples=[
        'eval "$(iot completion bash)"',
        "iot completion bash > ~/.local/share/bash-completion/completions/iot",
        "iot completion fish > ~/.config/fish/completions/iot.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
def completion(shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "iot", VARIABLE).source())
