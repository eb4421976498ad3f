"""`iot telemetry export`: stored rows into a file, as they are."""

from __future__ import annotations

import csv
import gzip
import sys
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.endings import reason
from iot_core.cli.rows import FIXED, FORMATS, csv_cells
from iot_core.cli.scope import area_option, class_option, device_option, from_option, to_option
from iot_core.cli.session import ask
from iot_core.errors import ConfigError, NotFoundError, RequestError
from iot_core.messages import text
from iot_core.model import is_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["export", "format_of"]

STEP = 1_000
_TEXT: Any = {"encoding": "utf-8", "newline": ""}


@click.command(
    "export",
    cls=Command,
    help=text("load.help_export"),
    examples=[
        "iot telemetry export june.csv --device aq-0012 --from 2025-06-01 --to 2025-07-01",
        "iot telemetry export all.ndjson.gz --class water_meter",
        "iot telemetry export --area ben-thanh --format ndjson > ben-thanh.ndjson",
    ],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@option("--format", "form", type=click.Choice(FORMATS), help=text("load.opt_format"))
@device_option
@class_option
@area_option
@from_option
@to_option
def export(
    file: Path | None,
    *,
    form: str | None,
    devices: tuple[str, ...],
    class_key: str | None,
    area: str | None,
    start: datetime | None,
    end: datetime | None,
) -> None:
    from iot_core.api.shapes import ExportQuery

    asked = ExportQuery(devices=",".join(devices) or None, class_key=class_key, area=area, start=start, end=end)
    chosen = form or format_of(file)
    left_out: dict[str, int] = {}
    count = ask(lambda client: _run(client, asked, file, chosen, left_out))
    click.echo(text("load.exported", rows=count, file=file or "-"), err=True)
    for each, number in left_out.items():
        click.echo(text("load.left_out", device_class=each, devices=number), err=True)


def format_of(file: Path | None) -> str:
    """Tell the format by the name: CSV unless it says otherwise."""
    suffixes = [] if file is None else file.suffixes
    return "ndjson" if {".ndjson", ".jsonl"} & set(suffixes) else "csv"


async def _run(
    client: Client, asked: shapes.ExportQuery, file: Path | None, form: str, left_out: dict[str, int] | None = None
) -> int:
    import msgspec

    from iot_core.cli.progress import bar

    await _refuse_device(client, asked, file)
    metrics = await _metrics(client, asked) if form == "csv" else []
    count = 0
    with _writing(file) as out, bar(text("load.step_export"), None) as advance:
        writer = csv.writer(out, lineterminator="\r\n")
        if form == "csv":
            out.write("\ufeff")
            writer.writerow([*FIXED, *metrics])
        async with aclosing(client.export(asked, left_out=left_out)) as lines:
            async for line in lines:
                if form == "csv":
                    writer.writerow(csv_cells(msgspec.json.decode(line), metrics))
                else:
                    out.write(line.decode() + "\n")
                count += 1
                if count % STEP == 0:
                    advance(STEP)
    return count


async def _refuse_device(client: Client, asked: shapes.ExportQuery, file: Path | None) -> None:
    """Refuse a file that is called like a device: `get`, `latest` and `stats` take a key in its place."""
    if file is None or asked.devices or file.parent.name or file.suffix or not is_key(file.name):
        return
    try:
        await client.device(file.name)
    except NotFoundError:
        return
    except RequestError as error:
        if error.code != "api.class_gone":
            raise
    raise RequestError("load.file_is_device", key=file.name)


async def _metrics(client: Client, asked: shapes.ExportQuery) -> list[str]:
    """Name the columns: the metrics of the classes that can come, and behind them those that they had once."""
    wanted = {asked.class_key} if asked.class_key else set()
    if asked.devices and not wanted:
        wanted = {await _class_of(client, key) for key in asked.devices.split(",")}
    elif asked.area and not wanted:
        wanted = await _classes_in(client, asked.area)
    classes = [each for each in (await client.classes()).items if not wanted or each.key in wanted]
    named = [metric.key for each in classes for metric in each.metrics]
    return list(dict.fromkeys([*named, *(key for each in classes for key in each.retired)]))


async def _class_of(client: Client, key: str) -> str:
    try:
        return (await client.device(key)).class_key
    except RequestError as error:
        if error.code != "api.class_gone":
            raise
        return str(error.facts["key"])


async def _classes_in(client: Client, area: str) -> set[str]:
    found: set[str] = set()
    after: str | None = None
    while page := (await client.devices(area=area, after=after)).items:
        found |= {device.class_key for device in page}
        after = page[-1].key
    return found


@contextmanager
def _writing(file: Path | None) -> Iterator[IO[Any]]:
    """Write beside the file and put it in its place when it is whole."""
    if file is None:
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        return
    part = file.with_name(file.name + ".part")
    try:
        with gzip.open(part, "wt", **_TEXT) if file.suffix == ".gz" else part.open("w", **_TEXT) as opened:
            yield opened
        part.replace(file)
    except OSError as exc:
        raise ConfigError("load.cannot_write", file=file, detail=reason(exc)) from exc
    finally:
        part.unlink(missing_ok=True)
