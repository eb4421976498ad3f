"""`iot config`: the settings that `iot up` would use here, and whether they are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Group, option
from iot_core.cli.output import line, show_one
from iot_core.messages import text
from iot_core.settings import NAME, environment, load, masked

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["config", "config_option", "found"]

config_option = option("--config", "path", metavar="FILE", type=click.Path(path_type=Path), help=text("cli.opt_config"))


def found(path: Path | None) -> Path | None:
    """Choose the file of settings: the one named, else IOT_CONFIG, else iot.toml in this folder, else none."""
    if path is not None:
        return path
    named = environment("IOT_CONFIG")
    if named:
        return Path(named)
    here = Path(NAME)
    return here if here.is_file() else None


@click.group("config", cls=Group, help=text("cli.help_config"), examples=["iot config show", "iot config check"])
def config() -> None:
    pass


@config.command(
    "show", help=text("cli.help_config_show"), examples=["iot config show", "iot config show --output json"]
)
@config_option
def show(path: Path | None) -> None:
    file = found(path)
    settings = masked(load(file))
    show_one(settings, lambda: _print_toml(file, settings))


@config.command(
    "check",
    help=text("cli.help_config_check"),
    examples=["iot config check", "iot config check --config /etc/iot/iot.toml"],
)
@config_option
def check(path: Path | None) -> None:
    file = found(path)
    settings = load(file)
    if settings.profiles:
        from iot_core.profiles import load as load_profiles

        load_profiles(Path(settings.profiles))
    answer = {"file": None if file is None else str(file), "ok": True}
    show_one(answer, lambda: line("cli.config_fine", file=_named(file)))


def _named(file: Path | None) -> str:
    return text("cli.config_defaults") if file is None else str(file)


def _print_toml(file: Path | None, settings: Mapping[str, Any]) -> None:
    """Print what could stand in iot.toml; the first line says where it comes from."""
    click.echo(f"# {text('cli.config_from', file=_named(file))}")
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    for key, value in settings.items():
        if key not in tables:
            click.echo(f"{key} = {_toml(value)}")
    for name, table in tables.items():
        click.echo(f"\n[{name}]")
        for key, value in table.items():
            if not isinstance(value, dict):
                click.echo(f"{key} = {_toml(value)}")
        for key, own in (
            (f"{name}.{key}.{each}", own)
            for key, value in table.items()
            if isinstance(value, dict)
            for each, own in value.items()
        ):
            click.echo(f"\n[{key}]")
            for inner, value in own.items():
                if value is not None:
                    click.echo(f"{inner} = {_toml(value)}")


def _toml(value: object) -> str:
    """Write a setting as TOML; its strings, numbers and truth are written as JSON writes them."""
    return json.dumps(value, ensure_ascii=False)
