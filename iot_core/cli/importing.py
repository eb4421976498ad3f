"""A list of devices on its way into the registry: checked as a whole, then written piece by piece.

rows -> doubles out, gateways first -> pieces --dry run--> problems      each piece judged beside those before it
good rows -> pieces --for good--> secrets on the disk, then the next piece
             SECRETS.asked: the requests without an answer, so that one that a cut took is asked for again
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from iot_core.cli.output import note
from iot_core.cli.pieces import Pieces, gateways_first
from iot_core.cli.progress import bar
from iot_core.cli.session import ask
from iot_core.errors import ConflictError
from iot_core.messages import text

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence

    from iot_core.api import shapes
    from iot_core.client import Client

__all__ = ["CHUNK", "check", "write"]

CHUNK = 2_500
_DONE = "api.done_already"


def check(rows: Sequence[shapes.DeviceRow]) -> tuple[dict[str, Any], list[shapes.DeviceRow]]:
    """Say what would become of a list, and which of its rows are good, in the order in which they can be written."""
    from iot_core.api import shapes

    total = _nothing_yet()
    ordered = gateways_first(rows)
    gateways = {row.gateway for row in rows if row.gateway is not None}
    pieces = Pieces()

    async def work(client: Client) -> None:
        with bar(text("lists.checking"), len(rows)) as advance:
            for piece in _pieces(ordered):
                fresh = pieces.without_doubles(piece)
                before = tuple(sorted(gateways & pieces.added))
                body = shapes.DeviceImport(rows=fresh, dry_run=True, skip_bad=True, before=before)
                done = await client.import_devices(body)
                _count(total, done)
                total["added"] -= pieces.note(fresh, done)
                advance(len(piece))

    ask(work)
    total["problems"] += pieces.problems
    wrong = {each.row for each in total["problems"]}
    return total, [row for row in ordered if row.row not in wrong]


def write(rows: Sequence[shapes.DeviceRow], secrets: pathlib.Path, *, skip_bad: bool, new: bool) -> dict[str, Any]:
    """Write rows that were found good; each piece is whole, so an import that was cut off is simply run again.

    `new`: some are, so there will be secrets. Stops behind a piece that is wrong now, unless that is to be skipped.
    """
    from iot_core.api import shapes

    total = _nothing_yet()
    asked = _Asked(secrets.with_name(f"{secrets.name}.asked"), kept=new)

    async def work(client: Client) -> None:
        with bar(text("lists.writing"), len(rows)) as advance:
            pieces = list(_pieces(rows))
            for number, piece in enumerate(pieces, 1):
                body = shapes.DeviceImport(rows=piece, skip_bad=skip_bad, more=number < len(pieces))
                done, before = await _once(client, body, asked)
                total["secrets"] += _keep(secrets, done.added, again=before)
                asked.answered(body)
                _count(total, done)
                advance(len(piece))
                if done.problems and not skip_bad:
                    return

    ask(work)
    return total


async def _once(client: Client, body: shapes.DeviceImport, asked: _Asked) -> tuple[shapes.DevicesImported, bool]:
    """Write a piece, and say whether it was asked for before: then the answer that a cut took comes, with its secrets.

    The idempotency key does that, for ten minutes.
    """
    key, before = asked.key_of(body)
    try:
        return await client.import_devices(body, key=key), before
    except ConflictError as error:
        if not before or error.code != _DONE:
            raise
        note("lists.answer_lost", rows=len(body.rows), first=body.rows[0].row, operation=error.facts["operation"])
    asked.answered(body)
    key, _ = asked.key_of(body)
    return await client.import_devices(body, key=key), before


class _Asked:
    """Requests that have no answer yet, in a file beside the secrets: what was asked -> its idempotency key.

    Without `kept` nothing is written: where nobody is new, no secret can be lost.
    """

    def __init__(self, path: pathlib.Path, *, kept: bool) -> None:
        self._path = path
        self._kept = kept
        self._keys: dict[str, str] = {}
        with suppress(OSError, ValueError, AttributeError):
            found = json.loads(path.read_text(encoding="ascii"))
            self._keys = {digest: key for digest, key in found.items() if isinstance(key, str)}

    def key_of(self, body: shapes.DeviceImport) -> tuple[str, bool]:
        """Give the key to ask with, on the disk by now, and whether it was asked before."""
        digest = _digest(body)
        before = digest in self._keys
        if not before:
            self._keys[digest] = uuid.uuid4().hex
            self._write()
        return self._keys[digest], before

    def answered(self, body: shapes.DeviceImport) -> None:
        """Note that an answer came, and is on the disk."""
        del self._keys[_digest(body)]
        self._write()

    def _write(self) -> None:
        if not self._keys:
            self._path.unlink(missing_ok=True)
            return
        if not self._kept:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("w", encoding="ascii") as out:
            json.dump(self._keys, out)
            out.flush()
            os.fsync(out.fileno())
        new.replace(self._path)


def _digest(body: shapes.DeviceImport) -> str:
    import msgspec

    return sha256(msgspec.json.encode(body)).hexdigest()


def _pieces(rows: Sequence[shapes.DeviceRow]) -> Iterator[tuple[shapes.DeviceRow, ...]]:
    for begin in range(0, len(rows), CHUNK):
        yield tuple(rows[begin : begin + CHUNK])


def _nothing_yet() -> dict[str, Any]:
    return {"added": 0, "changed": 0, "unchanged": 0, "problems": [], "operations": [], "secrets": 0}


def _count(total: dict[str, Any], done: shapes.DevicesImported) -> None:
    total["added"] += len(done.added)
    total["changed"] += done.changed
    total["unchanged"] += done.unchanged
    total["problems"] += done.problems
    total["operations"] += done.operations


def _keep(path: pathlib.Path, added: Sequence[shapes.SecretOnce], *, again: bool) -> int:
    """Append secrets to a file that only its owner reads, and have them on the disk before going on.

    `again`: they may stand there already.
    """
    import csv

    told = [each for each in added if each.secret is not None]
    if again and path.exists():
        with path.open(encoding="utf-8", newline="") as out:
            there = {row[-1] for row in csv.reader(out) if row}
        told = [each for each in told if each.secret not in there]
    if told:
        path.touch(mode=0o600)  # one that is there keeps the mode that its owner gave it
        with path.open("a", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows((each.key, each.address, each.secret) for each in told)
            out.flush()
            os.fsync(out.fileno())
    return len(told)
