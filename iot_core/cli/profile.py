"""`iot profile`: the device models known here, checked and tried without any server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Group, option
from iot_core.cli.config import found as found_config
from iot_core.cli.endings import REFUSED
from iot_core.cli.output import Column, fact_lines, line, print_rows, show_one, show_rows
from iot_core.cli.times import span
from iot_core.cli.trial import decoded_data, print_trial
from iot_core.cli.wire import HEX, REGISTERS
from iot_core.cli.words import symbol
from iot_core.messages import text, title
from iot_core.settings import load as load_settings

if TYPE_CHECKING:
    from typing import BinaryIO

    from iot_core.model import Metric
    from iot_core.profiles import CheckResult, Profile, Profiles

__all__ = ["profile"]

FORMATS = {"json": 50, "cbor": 60, "senml-json": 110, "senml-cbor": 112}

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
@option("--class", "class_key", metavar="CLASS", help=text("cli.opt_class"))
@folder_option
def list_(class_key: str | None, folder: Path | None) -> None:
    found = [one for one in _profiles(folder).all() if class_key in {None, one.class_key}]
    show_rows(found, PROFILE_COLUMNS, nothing="cli.profile_none", data=_data)


@profile.command("show", help=text("cli.help_profile_show"), examples=["iot profile show native-streetlight"])
@click.argument("model")
@folder_option
def show(model: str, folder: Path | None) -> None:
    found = _profiles(folder).get(model)
    metrics = found.device_class.metrics

    def people() -> None:
        _print_facts(found)
        click.echo(f"\n{text('cli.head_metrics')}")
        print_rows(metrics, METRIC_COLUMNS)

    show_one(_data(found) | {"class_metrics": metrics}, people)


@profile.command(
    "check",
    help=text("cli.help_profile_check"),
    examples=["iot profile check", "iot profile check acme_aq4.yaml", "iot profile check native-streetlight"],
)
@click.argument("targets", nargs=-1, metavar="[MODEL|FILE]...")
@folder_option
def check(targets: tuple[str, ...], folder: Path | None) -> None:
    from iot_core.profiles import check as check_one

    profiles = _profiles(folder)
    wanted = targets or tuple(one.model for one in profiles.all())
    results = [result for target in wanted for result in check_one(_target(target), profiles)]
    failed = sum(not result.ok for result in results)
    columns = CHECK_COLUMNS + DIFFERENCE_COLUMNS if failed else CHECK_COLUMNS
    show_rows(results, columns, nothing="cli.profile_no_examples", data=_check_data)
    line("cli.profile_checked", models=len(wanted), examples=len(results), failed=failed)
    for result in results:
        if result.error is not None:
            raise result.error
    if failed:
        click.get_current_context().exit(REFUSED)


@profile.command(
    "try",
    help=text("cli.help_profile_try"),
    examples=[
        'iot profile try native-streetlight --text \'{"power": 85.2, "on": true}\'',
        "iot profile try acme-aq4 --registers holding:4=352 --registers holding:8=65336",
        "iot profile try acme-lora --hex 0167ff9c --topic up/A4",
    ],
)
@click.argument("model")
@option("--text", "message", metavar="TEXT", help=text("cli.opt_try_text"))
@option("--hex", "hexadecimal", type=HEX, metavar="HEX", help=text("cli.opt_try_hex"))
@option("--file", "source", type=click.File("rb"), metavar="FILE", help=text("cli.opt_try_file"))
@option(
    "--registers", type=REGISTERS, multiple=True, metavar="TABLE:ADDRESS=WORD,...", help=text("cli.opt_try_registers")
)
@option("--topic", default="", metavar="TOPIC", help=text("cli.opt_try_topic"))
@option("--format", "form", type=click.Choice(list(FORMATS)), help=text("cli.opt_try_format"))
@folder_option
def try_(
    model: str,
    *,
    message: str | None,
    hexadecimal: bytes | None,
    source: BinaryIO | None,
    registers: tuple[tuple[str, list[int]], ...],
    topic: str,
    form: str | None,
    folder: Path | None,
) -> None:
    from iot_core.profiles import example_uplink, explain, uplink_of

    found = _profiles(folder).get(model)
    given = sum(one is not None for one in (message, hexadecimal, source)) + bool(registers)
    if given > 1:
        raise click.UsageError(text("cli.try_one_input"))
    if given == 0 and found.examples:
        uplink = example_uplink(found, found.examples[0])
    else:
        uplink = uplink_of(
            found,
            text=message,
            data=hexadecimal if source is None else source.read(),
            registers=dict(registers) or None,
            topic=topic,
            content_format=None if form is None else FORMATS[form],
        )
    decoded = found.decode(uplink)
    show_one(decoded_data(decoded), lambda: print_trial(found, explain(found, uplink), decoded))
    if not decoded.samples and decoded.online is None:
        click.get_current_context().exit(REFUSED)


def _profiles(folder: Path | None) -> Profiles:
    """Load what `iot up` would load here, or what lies in `folder`."""
    from iot_core.profiles import load

    if folder is None:
        own = load_settings(found_config(None)).profiles
        folder = Path(own) if own else None
    return load(folder)


def _target(name: str) -> Path | str:
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
            ("cli.col_interval", span(one.interval)),
            ("cli.col_source", one.source),
        ]
    )


def _range(metric: Metric) -> str:
    if metric.minimum is None and metric.maximum is None:
        return "-"
    return " … ".join("" if end is None else f"{end:g}" for end in (metric.minimum, metric.maximum))


METRIC_COLUMNS: list[Column[Metric]] = [
    Column("cli.col_metric", lambda row: row.key),
    Column("cli.col_title", lambda row: title(row.title)),
    Column("cli.col_type", lambda row: row.type.value),
    Column("cli.col_unit", lambda row: symbol(row.ucum)),
    Column("cli.col_range", _range),
]
CHECK_COLUMNS: list[Column[CheckResult]] = [
    Column("cli.col_model", lambda row: row.model),
    Column("cli.col_example", lambda row: row.example),
    Column(
        "cli.col_result",
        lambda row: text("cli.check_ok") if row.ok else text("cli.check_failed"),
        lambda row: "green" if row.ok else "bold red",
    ),
]
DIFFERENCE_COLUMNS: list[Column[CheckResult]] = [
    Column("cli.col_got", lambda row: "" if row.ok or row.error else row.got),
    Column("cli.col_expected", lambda row: "" if row.ok or row.error else row.expected),
]


def _check_data(result: CheckResult) -> dict[str, object]:
    return {
        "model": result.model,
        "example": result.example,
        "ok": result.ok,
        "got": result.got,
        "expected": result.expected,
    }
