"""How a command ends: the sentence on stderr and the exit code (told in `iot --help`)."""

from __future__ import annotations

import difflib
import errno
import os
import shlex

import click

from iot_core.errors import ConfigError, DeviceUnreachable, DriverUnavailable, IotError, StartError, StoreUnavailable
from iot_core.messages import said, text
from iot_core.settings import environment

__all__ = [
    "INTERRUPTED",
    "REFUSED",
    "UNREACHABLE",
    "USAGE",
    "Unreachable",
    "code_of",
    "complain",
    "reason",
    "sentence",
    "usage_sentence",
]

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
_NO_ANSWER = frozenset(
    {"api.unreachable", "api.no_answer", "api.not_ours", "api.cut_off", "api.cut_off_plain", "grafana.unreachable"}
)
INTERRUPTED = 130
_SAID = {
    errno.EACCES: "not_allowed",
    errno.EEXIST: "there_already",
    errno.EISDIR: "a_folder",
    errno.ENOENT: "not_there",
    errno.ENOSPC: "disk_full",
    errno.ENOTDIR: "no_folder",
    errno.EPERM: "not_allowed",
    errno.EROFS: "read_only",
}
"""What commonly goes wrong with files, as it is said to people."""
_SYSTEM_SAYS = {os.strerror(number): word for number, word in _SAID.items()}


class Unreachable(IotError):
    """Raised when no core answers where this command looked."""


def code_of(error: IotError) -> int:
    """Give the exit code of an error: the decision a script takes from it."""
    if isinstance(error, (ConfigError, StartError)) or error.code == "api.bad_url":
        return USAGE
    if isinstance(error, (Unreachable, StoreUnavailable, DriverUnavailable, DeviceUnreachable)):
        return UNREACHABLE
    if error.code in _NO_ANSWER:
        return UNREACHABLE
    return REFUSED


def ours(group: BaseExceptionGroup[BaseException]) -> IotError | None:
    """Find the one expected error that ended several tasks; None when anything else is among them."""
    found: list[IotError] = []
    for exc in group.exceptions:
        inner = ours(exc) if isinstance(exc, BaseExceptionGroup) else exc
        if not isinstance(inner, IotError):
            return None
        found.append(inner)
    return found[0]


def sentence(error: IotError) -> str:
    """Say an error; what a setting should have been is said in the language of the rest."""
    if error.code != "config.invalid":
        known = _SYSTEM_SAYS.get(str(error.facts.get("detail")))
        return text(error.code, **error.facts | {"detail": text(f"cli.file_{known}")}) if known else said(error)
    from iot_core.cli.expected import spoken

    facts = error.facts | {"expected": spoken(str(error.facts["expected"]), str(error.facts["key"]))}
    if facts.get("line") == "?":
        return text("config.invalid_nowhere", **facts)
    return text("config.invalid", **facts)


def reason(error: OSError) -> str:
    """Say why a file cannot be used; what is rare is said in the system's words."""
    known = _SAID.get(error.errno or 0)
    return text(f"cli.file_{known}") if known else error.strerror or str(error)


def complain(sentence: str) -> None:
    """Say what went wrong, on stderr; red where a person with colours reads."""
    click.secho(sentence, fg="red", err=True, color=False if environment("NO_COLOR") else None)


def usage_sentence(error: click.ClickException) -> str:
    """Say what was wrong with the line that was typed, in the language of the rest, and where help is."""
    what = _what(error)
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "iot"
    return f"{what} {text('cli.usage_next', command=f'{path} --help')}"


def _what(error: click.ClickException) -> str:
    if isinstance(error, click.MissingParameter):
        return text("cli.usage_missing", name=_name(error))
    if isinstance(error, click.NoSuchOption):
        return text("cli.usage_no_option", name=error.option_name) + _like(error.possibilities)
    if isinstance(error, click.BadParameter):
        return text("cli.usage_bad", name=_name(error), expected=_expected(error))
    unknown = getattr(error, "command_name", "")
    if unknown:
        return text("cli.usage_no_command", name=unknown) + _like(_near(error, str(unknown)))
    return _plain_usage(error)


def _plain_usage(error: click.ClickException) -> str:
    if isinstance(error, click.BadOptionUsage):
        return text("cli.usage_option", name=error.option_name)
    if error.message.startswith("No such command"):
        name = shlex.split(error.message)[-1].rstrip(".")
        return text("cli.usage_no_command", name=name) + _like(_near(error, name))
    if error.message.startswith("Got unexpected extra argument"):
        return text("cli.usage_extra", arguments=error.message.partition("(")[2].rpartition(")")[0])
    return error.message


def _name(error: click.BadParameter) -> str:
    param = error.param
    if isinstance(param, click.Argument):
        return (param.metavar or str(param.name).upper()).rstrip(".")
    if param is not None:
        return param.opts[-1]
    return str(error.param_hint or "")


def _expected(error: click.BadParameter) -> str:
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        return text("cli.expect_choice", choices=", ".join(str(choice) for choice in kind.choices))
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        return text("cli.expect_range", low=_edge(kind.min), high=_edge(kind.max))
    if isinstance(kind, (click.types.IntParamType, click.types.FloatParamType)):
        return text("cli.expect_number")
    if isinstance(kind, click.Path):
        return text("cli.expect_path" if kind.exists or kind.dir_okay else "cli.expect_file")
    return error.message


def _edge(value: float | None) -> str:
    return "…" if value is None else f"{value:g}"


def _near(error: click.ClickException, name: str) -> list[str]:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or not isinstance(context.command, click.Group):
        return []
    return difflib.get_close_matches(name, context.command.list_commands(context), n=3)


def _like(names: object) -> str:
    found = [str(name) for name in names] if isinstance(names, (list, tuple)) else []
    return " " + text("cli.did_you_mean", names=", ".join(sorted(found)[:3])) if found else ""
