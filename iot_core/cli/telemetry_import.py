"""`iot telemetry import`: rows of a file into the store, merged; what cannot be taken is kept aside."""

from __future__ import annotations

import csv
import gzip
import json
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.rows import ASIDE, FIXED, FORMATS, csv_cells, read_csv, read_ndjson
from iot_core.cli.session import ask
from iot_core.cli.telemetry_export import format_of
from iot_core.errors import ConfigError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot_core.client import Client

__all__ = ["load"]

BATCH = 1_000
BATCH_BYTES = 2_000_000
SHOWN = 5


@click.command(
    "import",
    cls=Command,
    help=text("load.help_import"),
    examples=["iot telemetry import june.csv", "iot telemetry import all.ndjson.gz --replace"],
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@option("--format", "form", type=click.Choice(FORMATS), help=text("load.opt_format"))
@option("--replace", is_flag=True, help=text("load.opt_replace"))
def load(file: Path, *, form: str | None, replace: bool) -> int:
    done = ask(lambda client: _run(client, file, form or format_of(file), replace=replace))
    click.echo(text("load.imported", rows=done.rows, file=file))
    if done.refused:
        click.echo(text("load.aside", refused=done.refused, file=done.aside), err=True)
    return 1 if done.refused else 0


class _Load:
    """A file on its way in: counts what was taken, keeps the rest aside."""

    def __init__(self, file: Path, form: str) -> None:
        self.file = file
        self.form = form
        self.size = file.stat().st_size
        self.rows = self.refused = 0
        stem = file.name.removesuffix(".gz")
        self.aside = file.with_name(f"{stem}.rejected.{form}")
        self._out: IO[str] | None = None
        self._head: list[str] = []

    def keep(self, line: int, row: Any, why: str) -> None:
        """Keep a row aside, with its line and the reason; the first ones are said."""
        self.refused += 1
        if self.refused <= SHOWN:
            click.echo(f"{self.file}:{line}: {why}", err=True)
        if self._out is None:
            self._out = self.aside.open("w", encoding="utf-8-sig" if self.form == "csv" else "utf-8", newline="")
        if self.form == "ndjson":
            plain = row if isinstance(row, dict) else {"text": row}
            self._out.write(json.dumps({"line": line, "why": why, **plain}, ensure_ascii=False) + "\n")
            return
        writer = csv.writer(self._out, lineterminator="\r\n")
        values = row.get("values", {}) if isinstance(row, dict) else {}
        head = [*ASIDE, *FIXED, *values]
        if head != self._head:  # each kind of row under its own heading
            self._head = head
            writer.writerow(head)
        full = {"device": "", "time": "", "values": {}} | (row if isinstance(row, dict) else {})
        writer.writerow([line, why, *csv_cells(full, list(values))])

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


async def _run(client: Client, file: Path, form: str, *, replace: bool) -> _Load:
    from iot_core.cli.progress import bar

    done = _Load(file, form)
    batch: list[tuple[int, dict[str, Any]]] = []
    size = 0

    async def send() -> None:
        if not batch:
            return
        answer = await client.load([row for _, row in batch], replace=replace)
        done.rows += answer.rows
        by_row: dict[int, list[str]] = {}
        for each in answer.refused:
            by_row.setdefault(each.index, []).append(
                each.said if each.detail in each.said else f"{each.said} {each.detail}"
            )
        for index, why in by_row.items():
            done.keep(*batch[index], " ".join(why))
        batch.clear()

    try:
        with _reading(file) as (source, position), bar(text("load.step_import"), done.size) as advance:
            shown = 0
            for line, row in (read_csv if form == "csv" else read_ndjson)(source):
                if isinstance(row, str):
                    done.keep(line, None, text(row))
                    continue
                batch.append((line, row))
                size += len(str(row))
                if len(batch) >= BATCH or size >= BATCH_BYTES:
                    await send()
                    size = 0
                    advance(position() - shown)
                    shown = position()
            await send()
    except UnicodeDecodeError as exc:
        raise ConfigError("load.not_utf8", file=file) from exc
    except (OSError, EOFError, csv.Error) as exc:
        raise ConfigError("load.cannot_read", file=file, detail=str(exc)) from exc
    finally:
        done.close()
    return done


@contextmanager
def _reading(file: Path) -> Iterator[tuple[IO[str], Any]]:
    """Open a file as text, with a function that says how far its bytes are read."""
    import io

    with file.open("rb") as raw:
        plain = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        with io.TextIOWrapper(plain, encoding="utf-8", newline="") as source:
            yield source, raw.tell
