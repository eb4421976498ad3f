"""`iot device labels`: a sheet to print, a label for each device."""

from __future__ import annotations

import csv
import pathlib
from typing import TYPE_CHECKING

import click

from iot_core.cli.base import Command, option
from iot_core.cli.codes import Label, content, sheet, write_private
from iot_core.cli.connect import into
from iot_core.cli.keys import DEVICE
from iot_core.cli.output import line, note, show_one
from iot_core.cli.session import ask
from iot_core.errors import NotFoundError, RequestError
from iot_core.messages import language, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["labels"]

PATH = click.Path(dir_okay=False, path_type=pathlib.Path)


@click.command(
    "labels",
    cls=Command,
    help=text("labels.help"),
    examples=[
        "iot device labels labels.html --where 'class=streetlight and area=06685'",
        "iot device labels labels.html lamp-0101 lamp-0102",
        "iot device labels labels.html --where 'label=phase-1' --secrets lamps-secrets.csv",
    ],
)
@click.argument("file", type=PATH, metavar="FILE")
@click.argument("keys", type=DEVICE, metavar="[KEY]...", nargs=-1)
@option("--where", metavar="SELECTOR", help=text("lists.opt_where"))
@option("--secrets", type=PATH, metavar="FILE", help=text("labels.opt_secrets"))
def labels(file: pathlib.Path, keys: tuple[str, ...], *, where: str | None, secrets: pathlib.Path | None) -> None:
    if bool(keys) is (where is not None):
        raise click.UsageError(text("lists.keys_or_where"))
    found, endpoints = ask(lambda client: _found(client, keys, where))
    if not found:
        raise NotFoundError("labels.none")
    known = {} if secrets is None else _read(secrets)
    made = [_label(each, known, endpoints) for each in found]
    write_private(file, sheet(made, language()).encode())
    show_one({"file": str(file), "labels": len(made)}, lambda: line("labels.written", file=file, n=len(made)))
    if known:
        note("labels.hold_secrets", file=file)


async def _found(
    client: Client, keys: tuple[str, ...], where: str | None
) -> tuple[list[shapes.DeviceFull], shapes.Endpoints]:
    got: list[shapes.DeviceFull] = []
    selectors = [where] if where is not None else [f"key={key}" for key in keys]
    for selector in selectors:
        after = None
        while page := (await client.device_rows(selector, after=after)).items:
            got += page
            after = page[-1].key
    missing = sorted(set(keys) - {each.key for each in got})
    if missing:
        raise NotFoundError("registry.no_device", key=missing[0])
    return got, await client.endpoints()


def _label(device: shapes.DeviceFull, secrets: Mapping[str, str], endpoints: shapes.Endpoints) -> Label:
    """Write a label. Its code is the key alone, which a scanner types, or with its secret all that goes into it."""
    code = device.key
    if device.key in secrets and device.address is not None:
        code = content(into(device.key, device.address, secrets[device.key], endpoints))
    serial = text("cli.serial", serial=device.serial) if device.serial else ""
    name = "" if device.name == device.key else device.name
    return Label(code, device.key, (name, device.profile or "", serial, device.area or ""))


def _read(path: pathlib.Path) -> dict[str, str]:
    """Read the secrets as `iot device import` wrote them: key, address, secret."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as exc:
        raise RequestError("labels.unreadable", file=path, detail=type(exc).__name__) from exc
    return {row[0]: row[-1] for row in rows if len(row) >= 3 and row[-1]}
