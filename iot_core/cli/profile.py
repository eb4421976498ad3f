"""`iot profile`: the device models known here, checked and tried without any server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.config import found as found_config
from iot_core.cli.endings import REFUSED, complain, sentence
from iot_core.cli.keys import CLASS, MODEL
from iot_core.cli.output import Column, fact_lines, print_rows, show_one, show_rows
from iot_core.cli.profile_check import check
from iot_core.cli.profile_new import new
from iot_core.cli.profile_try import try_
from iot_core.cli.times import span
from iot_core.cli.words import symbol
from iot_core.messages import text, title
from iot_core.settings import load as load_settings

if TYPE_CHECKING:
    from iot_core.model import Metric
    from iot_core.profiles import Profile, Profiles

__all__ = ["find", "own_folder", "profile", "profiles_of", "target"]

folder_option = option("--folder", type=click.Path(path_type=Path), metavar="DIR", help=text("cli.opt_folder"))


@click.group(
    "profile",
    cls=Group,
    help=text("cli.help_profile"),
    examples=["iot profile list", "iot profile show native-streetlight", "iot profile check my_model.yaml"],
)
def profile() -> None:
    pass


PROFILE_COLUMNS: list[Column[Profile]] = [
    Column("cli.col_model", lambda row: row.model),
    Column("cli.col_vendor", lambda row: row.vendor),
    Column("cli.col_name", lambda row: title(row.title)),
    Column("cli.col_class", lambda row: row.class_key),
    Column("cli.col_address", lambda row: row.address),
    Column("cli.col_interval", lambda row: span(row.interval)),
]


@profile.command(
    "list",
    help=text("cli.help_profile_list"),
    examples=["iot profile list", "iot profile list --class water_meter --output json"],
)
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("cli.opt_class"))
@folder_option
def list_(class_key: str | None, folder: Path | None) -> None:
    profiles = profiles_of(folder)
    found = [one for one in profiles.all() if class_key in {None, one.class_key}]
    show_rows(found, PROFILE_COLUMNS, nothing="cli.profile_none", data=_data)
    for each in profiles.broken:  # a running core keeps its last good version, or holds what its devices say
        complain(sentence(each.error))
    if profiles.broken:
        click.get_current_context().exit(REFUSED)


@profile.command("show", help=text("cli.help_profile_show"), examples=["iot profile show native-streetlight"])
@click.argument("model", type=MODEL)
@folder_option
def show(model: str, folder: Path | None) -> None:
    found = profiles_of(folder).get(model)
    metrics = found.device_class.metrics

    def people() -> None:
        _print_facts(found)
        click.echo(f"\n{text('cli.head_metrics')}")
        print_rows(metrics, [*METRIC_COLUMNS, _said_column(found)])

    show_one(_data(found) | {"class_metrics": metrics}, people)


@profile.command("schema", help=text("profile.help_schema"), examples=["iot profile schema > profile.schema.json"])
@option("--of", type=click.Choice(["profile", "class"]), default="profile", help=text("profile.opt_schema"))
def schema(of: str) -> None:
    import json

    from iot_core.profiles.reference import class_schema, profile_schema

    made = profile_schema() if of == "profile" else class_schema()
    click.echo(json.dumps(made, indent=1, ensure_ascii=False))


for command in (new, check, try_):
    profile.add_command(command)


def own_folder() -> Path | None:
    """Give the folder of own profiles that the settings name."""
    own = load_settings(found_config(None)).profiles
    return Path(own) if own else None


def profiles_of(folder: Path | None) -> Profiles:
    """Load what `iot up` would load here, or what lies in `folder`; a broken file of it is named in `.broken`."""
    from iot_core.profiles.load import load_tolerant

    return load_tolerant(folder if folder is not None else own_folder())


def find(name: str, folder: Path | None) -> Profile:
    """Find a model by its name, or compile a file."""
    from iot_core.profiles import load_file

    profiles, wanted = profiles_of(folder), target(name)
    return load_file(wanted, profiles) if isinstance(wanted, Path) else profiles.get(wanted)


def target(name: str) -> Path | str:
    """Tell a file or folder from a model: a model's name has neither a suffix nor a slash."""
    path = Path(name)
    return path if path.suffix or path.is_dir() or len(path.parts) > 1 else name


def _data(one: Profile) -> dict[str, object]:
    """Give a model as scripts read it, in the words of the API."""
    return {
        "model": one.model,
        "vendor": one.vendor,
        "title": one.title,
        "class": one.class_key,
        "source": one.source,
        "interval_s": one.interval.total_seconds(),
        "address": one.address,
        "topics": one.topics,
        "metrics": one.metrics,
        "channels": one.channels,
        "commands": list(one.commands),
        "examples": [each.name for each in one.examples],
        "file": one.file,
    }


def _print_facts(one: Profile) -> None:
    fact_lines(
        [
            ("cli.col_model", one.model),
            ("cli.col_vendor", one.vendor),
            ("cli.col_title", title(one.title)),
            ("cli.col_class", f"{one.class_key} ({title(one.device_class.title)})"),
            ("cli.col_address", one.address),
            ("cli.col_topics", ", ".join(one.topics)),
            ("profile.col_channels", ", ".join(name for name in one.channels if name)),
            ("profile.col_commands", ", ".join(one.commands)),
            ("cli.col_interval", span(one.interval)),
            ("profile.col_detect", _recognised(one)),
            ("cli.col_source", one.source),
        ]
    )


def _recognised(one: Profile) -> str:
    """Say what a scan knows a Modbus model by."""
    detect = one.modbus.detect if one.modbus is not None else None
    if detect is None:
        return ""
    if detect.nothing:
        return text("profile.detect_nothing", reason=detect.nothing)
    code = "profile.detect_certain" if detect.certain else "profile.detect_signs"
    return text(code, signs=len(detect.signs) + len(detect.device_id))


def _range(metric: Metric) -> str:
    if metric.minimum is None and metric.maximum is None:
        return "-"
    return " … ".join("" if end is None else f"{end:g}" for end in (metric.minimum, metric.maximum))


def _said_column(one: Profile) -> Column[Metric]:
    said = set(one.metrics)
    return Column("profile.col_said", lambda row: text("cli.yes") if row.key in said else "")


METRIC_COLUMNS: list[Column[Metric]] = [
    Column("cli.col_metric", lambda row: row.key),
    Column("cli.col_title", lambda row: title(row.title)),
    Column("cli.col_type", lambda row: row.type.value),
    Column("cli.col_unit", lambda row: symbol(row.ucum)),
    Column("cli.col_range", _range),
]
