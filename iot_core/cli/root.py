"""The command `iot` itself: which commands there are, and how an error ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

import iot_core
from iot_core.cli.base import LazyGroup, global_options, option
from iot_core.cli.endings import INTERRUPTED, REFUSED, code_of, complain, ours, reason, sentence, usage_sentence
from iot_core.errors import ConfigError, IotError, RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint

__all__ = ["iot"]

SOURCES = {
    "up": "iot_core.cli.up:up",
    "device": "iot_core.cli.device:device",
    "area": "iot_core.cli.area:area",
    "telemetry": "iot_core.cli.telemetry:telemetry",
    "alarm": "iot_core.cli.alarm_deeds:alarm",
    "command": "iot_core.cli.command:command",
    "twin": "iot_core.cli.twin:twin",
    "schedule": "iot_core.cli.schedule:schedule",
    "firmware": "iot_core.cli.campaign:firmware",
    "rule": "iot_core.cli.rule:rule",
    "inbox": "iot_core.cli.inbox:inbox",
    "batch": "iot_core.cli.batch:batch",
    "ca": "iot_core.cli.ca:ca",
    "held": "iot_core.cli.held:held",
    "push": "iot_core.cli.push:push",
    "escalation": "iot_core.cli.escalation:escalation",
    "center": "iot_core.cli.center:center",
    "report": "iot_core.cli.report:report",
    "open-data": "iot_core.cli.report:open_data",
    "login": "iot_core.cli.login:login",
    "logout": "iot_core.cli.login:logout",
    "context": "iot_core.cli.login:context",
    "user": "iot_core.cli.user:user",
    "token": "iot_core.cli.token:token",
    "maintenance": "iot_core.cli.maintenance:maintenance",
    "key": "iot_core.cli.key:key",
    "audit": "iot_core.cli.audit:audit",
    "undo": "iot_core.cli.audit:undo",
    "profile": "iot_core.cli.profile:profile",
    "config": "iot_core.cli.config:config",
    "db": "iot_core.cli.db:db",
    "page": "iot_core.cli.page:page",
    "completion": "iot_core.cli.completion:completion",
}
PLUGINS = "iot_core.commands"
DESCRIBED_PLUGINS = frozenset({"bench", "demo", "sim", "grafana", "modbus"})


class Root(LazyGroup):
    """The whole of `iot`: own commands, plug-in groups, and one way to end for every error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name own commands, then those of plug-ins, which can never replace one of ours."""
        own = super().list_commands(ctx)
        return [*own, *sorted(self._plugins().keys() - set(own))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find an own command, else load the plug-in of that name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        entry = self._plugins().get(cmd_name)
        return None if entry is None else _loaded(entry)

    def short_helps(self, ctx: click.Context, width: int) -> list[tuple[str, str]]:  # noqa: ARG002 - click's signature
        """Say what each command is for without importing any."""
        return [(name, self._short(name)) for name in self.list_commands(ctx)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def main(  # type: ignore[override]  # one way to end, whatever mode is asked for
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, and turn every expected error into one sentence and an exit code; never a traceback."""
        extra["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(Root, self).main(args, prog_name or "iot", **extra)))

    def _short(self, name: str) -> str:
        if name in self.sources or name in DESCRIBED_PLUGINS:
            return text(f"cli.short_{name}")
        return text("cli.short_plugin", module=self._plugins()[name].value)

    @staticmethod
    def _plugins() -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {entry.name: entry for entry in entry_points(group=PLUGINS)}


def _loaded(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except Exception as exc:
        # A plug-in is somebody else's code: whatever it raises, the rest of `iot` works on.
        raise ConfigError("cli.plugin_broken", name=entry.name, module=entry.value, detail=str(exc)) from exc
    if not isinstance(command, click.Command):
        raise ConfigError("cli.plugin_broken", name=entry.name, module=entry.value, detail=type(command).__name__)
    return command


def _guarded(work: Any) -> int:  # noqa: PLR0911 - an exit code for each kind of end
    """Run `work` and give the exit code."""
    try:
        result = work()
    except (IotError, OSError) as exc:
        return _ended_by(exc if isinstance(exc, IotError) else _refused(exc))
    except UnicodeEncodeError:  # a word of the command line that is half a character
        return _ended_by(RequestError("cli.not_utf8"))
    except BaseExceptionGroup as exc:
        expected = ours(exc)
        if expected is None:
            raise
        return _ended_by(expected)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return exc.exit_code
    except click.ClickException as exc:
        complain(usage_sentence(exc))
        return exc.exit_code
    except click.Abort as exc:
        if isinstance(exc.__context__, KeyboardInterrupt | EOFError):  # at a question, too
            return INTERRUPTED
        complain(text("cli.declined"))  # somebody was asked and said no
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _refused(error: OSError) -> RequestError:
    """Give the sentence for a file that a person named; anything else that the system refuses is no such thing."""
    if error.filename is None:
        raise error
    return RequestError("cli.file_refused", file=error.filename, detail=reason(error))


def _ended_by(error: IotError) -> int:
    complain(sentence(error))
    return code_of(error)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"iot {iot_core.__version__}")
        ctx.exit()


EXAMPLES: Sequence[str] = (
    "iot up",
    "iot demo",
    "iot device list --state alarm",
    "iot alarm list --output json",
    "IOT_TOKEN=... iot --url https://iot.example.vn inbox",
)

iot = Root(
    "iot",
    sources=SOURCES,
    help=text("cli.help_iot"),
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
iot.params = [*global_options()]
option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help=text("cli.opt_version")
)(iot)
