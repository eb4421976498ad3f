"""click's commands, groups and options as all of `iot` uses them: two languages, examples, options in any place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from iot_core.messages import LANGUAGES, text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = ["Command", "Globals", "Group", "LazyGroup", "Option", "option"]

OUTPUTS = ("table", "json", "csv")


class Globals:
    """The options that every command takes, wherever they stand on the line; the last one said wins."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.state = ""
        self.output = "table"
        self.lang = ""


class Option(click.Option):
    """An option whose marks (`[required]`) speak the language of the rest."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Translate what click adds to a help text."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        return record[0], record[1].replace("[required]", text("cli.required"))


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declare an option of ours."""
    return click.option(*names, cls=Option, **attributes)


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Globals), param.name, value)


def global_options(*, shown: Collection[str] | None = None) -> list[click.Parameter]:
    """Make the options that every command takes; `shown` names those that its own help lists (None: all)."""
    makers: dict[str, dict[str, Any]] = {
        "--url": {"help": text("cli.opt_url"), "metavar": "URL"},
        "--token": {"help": text("cli.opt_token"), "metavar": "TOKEN"},
        "--state": {"help": text("cli.opt_state"), "metavar": "DIR"},
        "--output": {"help": text("cli.opt_output"), "type": click.Choice(OUTPUTS)},
        "--lang": {"help": text("cli.opt_lang"), "type": click.Choice(LANGUAGES)},
    }
    return [
        Option([name], hidden=shown is not None and name not in shown, expose_value=False, callback=_keep, **attributes)
        for name, attributes in makers.items()
    ]


class _Spoken(click.Command):
    """Help in the language of the process: usage, options, examples."""

    examples: Sequence[str] = ()

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usage line."""
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix=text("cli.usage") + " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and where the common ones are described."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [record for param in options if (record := param.get_help_record(ctx)) is not None]
        if records:
            with formatter.section(text("cli.options")):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        common = ", ".join(param.opts[0] for param in options if param.hidden)
        if common:
            formatter.write_paragraph()
            formatter.write_text(text("cli.everywhere", options=common))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section(text("cli.examples")):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Describe `--help` in the language of the rest."""
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = text("cli.opt_help")
        return found


class Command(_Spoken):
    """A command with examples; it takes the common options too."""

    def __init__(
        self, *args: Any, examples: Sequence[str] = (), shown: Collection[str] = (), **attributes: Any
    ) -> None:
        attributes.setdefault("options_metavar", text("cli.options_metavar"))
        super().__init__(*args, **attributes)
        self.examples = examples
        taken = {name for param in self.params for name in param.opts}
        self.params += [param for param in global_options(shown=shown) if not taken & set(param.opts)]


class Group(_Spoken, click.Group):
    """A group of commands with examples."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        attributes.setdefault("options_metavar", text("cli.options_metavar"))
        attributes.setdefault("subcommand_metavar", text("cli.command_metavar"))
        super().__init__(*args, **attributes)
        self.examples = examples
        self.params += global_options(shown=())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their short helps."""
        rows = self.short_helps(ctx, formatter.width)
        if rows:
            with formatter.section(text("cli.commands")):
                formatter.write_dl(rows)

    def short_helps(self, ctx: click.Context, width: int) -> list[tuple[str, str]]:
        """Name every command with its short help."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return [(name, command.get_short_help_str(width)) for name, command in found if command is not None]


class LazyGroup(Group):
    """A group whose commands are named in `sources` as `module:attribute`, and imported when they are invoked."""

    def __init__(self, *args: Any, sources: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sources = sources

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands without importing them."""
        return [*self.sources, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is asked for."""
        source = self.sources.get(cmd_name)
        if source is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = source.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
