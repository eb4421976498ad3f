"""`iot db verify`: every rollup against the rows it is made of."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.config import config_option
from iot_core.cli.database import on_database
from iot_core.cli.keys import CLASS
from iot_core.cli.output import Column, is_for_people, line, show_rows
from iot_core.cli.times import When
from iot_core.messages import text

if TYPE_CHECKING:
    import asyncpg

    from iot_core.settings import Settings
    from iot_core.store.verify import Difference

__all__ = ["verify"]

DIFFERS = 1
"""Exit code where something differs and was not repaired."""
_SHOWN = 20
"""Buckets that a person is told; a script gets all."""


@click.command(
    "verify",
    cls=Command,
    shown=("--state", "--output"),
    help=text("db.help_verify"),
    examples=["iot db verify", "iot db verify --class water_meter --since 2026-11-01", "iot db verify --repair"],
)
@config_option
@option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("db.opt_class"))
@option("--since", type=When(), metavar="TIME", help=text("db.opt_since"))
@option("--repair", "mend", is_flag=True, help=text("db.opt_repair"))
def verify(path: Path | None, class_key: str | None, since: datetime | None, mend: bool) -> None:
    async def work(connection: asyncpg.Connection, _: Settings) -> _Result:
        return await _verify(connection, class_key, since, mend=mend)

    result = on_database(path, work)
    shown = result.differences[: _SHOWN if is_for_people() else None]
    show_rows(shown, _COLUMNS, nothing="db.verify_nothing", data=_data)
    line("db.verify_done", buckets=result.buckets, differences=len(result.differences), pending=result.pending)
    if result.differences:
        line("db.verify_mended" if mend else "db.verify_mend")
        click.get_current_context().exit(0 if mend else DIFFERS)


class _Result:
    def __init__(self) -> None:
        self.buckets = 0
        self.pending = 0
        self.differences: list[Difference] = []


async def _verify(
    connection: asyncpg.Connection, class_key: str | None, since: datetime | None, *, mend: bool
) -> _Result:
    from iot_core.cli.progress import bar
    from iot_core.errors import NotFoundError
    from iot_core.store import verify as checks
    from iot_core.store.refresh import Refresh
    from iot_core.store.tables import stored_rollups
    from iot_core.store.tier import find_tier

    rollups = await stored_rollups(connection)
    if class_key is not None and class_key not in rollups:
        raise NotFoundError("db.no_class", device_class=class_key, known=", ".join(rollups))
    tier = (await find_tier(connection)).tier
    refresh = Refresh(rollups, tier)
    await refresh.once(connection)
    chosen = [rollup for key, rollup in rollups.items() if class_key in (None, key)]
    spans = {
        rollup.class_key: [
            (max(first, rollup.calendar.hour_of(since)) if since else first, end)
            for first, end in await checks.weeks_of(connection, rollup)
            if since is None or end > since
        ]
        for rollup in chosen
    }
    result = _Result()
    with bar(text("db.verifying"), sum(map(len, spans.values()))) as advance:
        for rollup in chosen:
            wrong: list[Difference] = []
            async for checked in checks.verify(connection, rollup, tier, spans[rollup.class_key]):
                result.buckets += checked.buckets
                result.pending += checked.pending
                wrong += checked.differences
                advance(1)
            result.differences += wrong
            if mend and wrong:
                await checks.repair(connection, rollup, tier, wrong)
    if mend and result.differences:
        await refresh.once(connection)
    return result


def _data(each: Difference) -> dict[str, Any]:
    return {
        "device_class": each.class_key,
        "size": each.size,
        "time": each.time,
        "device_id": each.device_id,
        "columns": list(each.columns),
    }


_COLUMNS: list[Column[Difference]] = [
    Column("db.col_class", lambda each: each.class_key),
    Column("db.col_bucket", lambda each: each.size, whole=True),
    Column("db.col_time", lambda each: each.time),
    Column("db.col_device", lambda each: each.device_id, right=True),
    Column("db.col_differs", lambda each: ", ".join(each.columns), raw=True),
]
