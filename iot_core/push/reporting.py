"""Makes the environmental authority's files every five minutes, and hands them over: a folder, or SFTP.

A row of the ledger is a file. What could not be handed over waits and goes first, the oldest first; a period whose data
came late gets its file late.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final

import asyncpg
import structlog
from yarl import URL

from iot_core.cancelled import notice_cancellation
from iot_core.errors import NotFoundError
from iot_core.push.report import PERIOD, SYMBOLS, File, Sample, make
from iot_core.settings import Reports, Settings
from iot_core.store.connection import AWAY, RETRY

log = structlog.get_logger()

__all__ = ["again", "forget", "hand_over", "ledger", "run_reports", "write_files"]

_LOOK_S: Final = 20.0
_SETTLE: Final = timedelta(seconds=30)
"""A period is written this long after its end: what a device says of it comes a little later."""
GAPS: Final = timedelta(days=60)
_AT_ONCE: Final = 500
_MOST_ROWS: Final = 200_000
_PAUSE_S: Final = 60
_CONNECT_S: Final = 20.0
DEVICE: Final = "SELECT id, class_key FROM iot.device WHERE key = $1 AND retired_at IS NULL"
COLUMNS: Final = """
SELECT m.key, m.bit FROM iot.metric m WHERE m.class_key = $1 AND m.retired_at IS NULL AND m.key = ANY($2)
    AND m.sql_type NOT IN ('boolean', 'smallint')
"""
FIRST: Final = """
SELECT min(period) AS first, min(period) FILTER (WHERE again) AS again FROM iot.report_file WHERE device_id = $1
"""
ADD: Final = """
INSERT INTO iot.report_file (device_id, period, name, lines, digest, body) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (device_id, period) DO UPDATE SET name = excluded.name, lines = excluded.lines, digest = excluded.digest,
    body = excluded.body, made_at = clock_timestamp(), attempts = 0, next_at = clock_timestamp(), last_error = NULL,
    sent_at = NULL, again = false
WHERE report_file.again
"""
# What was asked for anew and has no data any more keeps the file that it had.
DONE: Final = "UPDATE iot.report_file SET again = false WHERE device_id = $1 AND again AND period <= $2"
# While an older one waits to be tried again, so do those that were made since: the oldest goes first.
WAITING: Final = """
SELECT id, name, body FROM iot.report_file WHERE sent_at IS NULL
    AND NOT EXISTS (SELECT FROM iot.report_file WHERE sent_at IS NULL AND next_at > clock_timestamp())
ORDER BY period, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
SENT: Final = """
UPDATE iot.report_file SET sent_at = clock_timestamp(), attempts = attempts + 1, last_error = NULL WHERE id = ANY($1)
"""
FAILED: Final = """
UPDATE iot.report_file SET attempts = attempts + 1, last_error = $1,
    next_at = clock_timestamp() + make_interval(secs => $2) WHERE sent_at IS NULL AND next_at <= clock_timestamp()
"""
LEDGER: Final = """
SELECT f.id, d.key AS device, f.period, f.name, f.lines, f.digest, f.made_at, f.attempts, f.last_error, f.sent_at
FROM iot.report_file f JOIN iot.device d ON d.id = f.device_id
WHERE ($1::text IS NULL OR d.key = $1) AND (NOT $2 OR f.sent_at IS NULL) ORDER BY f.period DESC, f.id LIMIT $3
"""
# Files that were never handed over go too: a server that is away for so long is told apart in the log.
FORGET: Final = """
WITH gone AS (DELETE FROM iot.report_file WHERE period < clock_timestamp() - $1::interval RETURNING sent_at)
SELECT count(*) AS files, count(*) FILTER (WHERE sent_at IS NULL) AS unsent FROM gone
"""
AGAIN: Final = """
UPDATE iot.report_file f SET again = true FROM iot.device d
WHERE d.id = f.device_id AND d.key = $1 AND f.period > $2 AND f.period <= $3
"""


async def run_reports(pool: asyncpg.Pool, settings: Settings) -> None:
    """Make and hand over files until cancelled."""
    reports = settings.reports
    while True:
        try:
            async with pool.acquire() as connection:
                await forget(connection, timedelta(days=reports.keep_days))
                await write_files(connection, reports, settings.timezone, datetime.now(UTC))
            await _hand_over_waiting(pool, reports)
        except (*AWAY, *RETRY):
            notice_cancellation()
        await asyncio.sleep(_LOOK_S)


async def write_files(
    connection: asyncpg.Connection, reports: Reports, zone: str, now: datetime, most: int = _MOST_ROWS
) -> int:
    """Write a file for every station and period that has none yet and has data; say how many.

    Of each station up to `most` rows are read at once; the rest has its turn next time.
    """
    made = 0
    for key, station in reports.stations.items():
        device = await connection.fetchrow(DEVICE, key)
        if device is None:
            continue
        columns = await connection.fetch(COLUMNS, device["class_key"], list(SYMBOLS))
        end = _floor(now - _SETTLE)
        # A station's first file is of now: what was before it was configured is nobody's gap.
        known = await connection.fetchrow(FIRST, device["id"])
        begin = end - PERIOD if known["first"] is None else max(known["first"] - PERIOD, end - GAPS)
        if known["again"] is not None:
            begin = min(begin, known["again"] - PERIOD)
        missing, end = await _missing(connection, device, columns, begin=begin, end=end, most=most)
        for period, samples in missing.items():
            file = make(station, period, samples, name=reports.name, zone=zone)
            if file is not None:
                await connection.execute(
                    ADD, device["id"], period, file.name, file.lines, file.digest, file.body
                )  # fmt: skip
                made += 1
        if known["again"] is not None:
            await connection.execute(DONE, device["id"], end)
    return made


async def _missing(
    connection: asyncpg.Connection,
    device: asyncpg.Record,
    columns: Sequence[asyncpg.Record],
    *,
    begin: datetime,
    end: datetime,
    most: int,
) -> tuple[dict[datetime, list[Sample]], datetime]:
    """Read the rows of periods that have no file yet, by the end of their period; say until when all are read."""
    if not columns:
        return {}, end
    # As text, because four bytes would give 80000.3 as 80000.296875.
    names = ", ".join(f't."{column["key"]}"::text::float8 AS "{column["key"]}"' for column in columns)
    said = " OR ".join(f't."{column["key"]}" IS NOT NULL' for column in columns)  # other rows have no file, ever
    period = "date_bin('5 minutes', t.time - interval '1 microsecond', timestamptz '2000-01-01 00:00+00')"
    rows = await connection.fetch(
        f"SELECT {period} + interval '5 minutes' AS period, t.quality, t.bad, {names}"
        f' FROM telemetry."{device["class_key"]}" t WHERE t.device_id = $1 AND t.time > $2 AND t.time <= $3'
        f" AND ({said})"
        f" AND NOT EXISTS (SELECT FROM iot.report_file f WHERE f.device_id = $1 AND NOT f.again"
        f" AND f.period = {period} + interval '5 minutes') ORDER BY t.time LIMIT {most}",
        device["id"], begin, end,
    )  # fmt: skip
    if len(rows) == most and rows[0]["period"] != rows[-1]["period"]:  # of the last one there may be more
        end = rows[-1]["period"] - PERIOD
        rows = [row for row in rows if row["period"] <= end]
    found: dict[datetime, list[Sample]] = {}
    for row in rows:
        for column in columns:
            value = row[column["key"]]
            if value is not None:
                good = row["quality"] <= 1 and not row["bad"] >> column["bit"] & 1
                found.setdefault(row["period"], []).append(
                    Sample(column["key"], float(value), usable=good, calibrating=row["quality"] == 2)
                )
    return found, end


async def _hand_over_waiting(pool: asyncpg.Pool, reports: Reports) -> None:
    while True:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(WAITING, _AT_ONCE)
            if not rows:
                return
            files = [(row["id"], File(row["name"], row["body"], 0)) for row in rows]
            done, error = await hand_over(reports, files)
            if done:
                await connection.execute(SENT, done)
            if error is not None:
                log.warning("reports.waiting", reason=error, files=len(rows) - len(done))
                await connection.execute(FAILED, error, _PAUSE_S)
                return


async def hand_over(reports: Reports, files: Sequence[tuple[int, File]]) -> tuple[list[int], str | None]:
    """Hand files over in order; give the ids of those that arrived, and what stopped the rest."""
    done: list[int] = []
    try:
        if reports.sftp:
            await _by_sftp(reports, files, done)
        elif reports.folder:
            for id_, file in files:
                await asyncio.to_thread(_drop, Path(reports.folder), file)
                done.append(id_)
        else:
            return done, "nowhere"
    except TimeoutError:
        return done, "timeout"
    except OSError as exc:
        return done, type(exc).__name__
    return done, None


def _drop(folder: Path, file: File) -> None:
    """Write a file under another name and rename it: whoever fetches it never sees half of one."""
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(file.body.encode())
    os.replace(part, path)  # noqa: PTH105 - the one that says that it replaces


async def _by_sftp(reports: Reports, files: Sequence[tuple[int, File]], done: list[int]) -> None:
    import asyncssh  # noqa: PLC0415 - only where somebody reports by SFTP

    url = URL(reports.sftp)
    keys: dict[str, Any] = {"client_keys": [reports.key_file]} if reports.key_file else {"client_keys": None}
    try:
        async with (
            asyncio.timeout(_CONNECT_S * 3),
            asyncssh.connect(
                url.host or "", url.port or 22, username=url.user or "", password=reports.password or None,
                known_hosts=asyncssh.import_known_hosts(f"{_host(url)} {reports.host_key}\n"), config=None,
                connect_timeout=_CONNECT_S, agent_path=None, **keys,
            ) as connection,
            connection.start_sftp_client() as client,
        ):  # fmt: skip
            for id_, file in files:
                path = PurePosixPath(url.path) / file.name
                await client.makedirs(str(path.parent), exist_ok=True)
                part = str(path.with_name(f".{path.name}.part"))
                async with client.open(part, "wb") as target:
                    await target.write(file.body.encode())
                await client.posix_rename(part, str(path))
                done.append(id_)
    except asyncssh.Error as exc:
        raise ConnectionRefusedError(type(exc).__name__) from exc


def _host(url: URL) -> str:
    return f"[{url.host}]:{url.port}" if url.port not in (None, 22) else str(url.host)


async def ledger(
    connection: asyncpg.Connection, device: str | None = None, *, waiting: bool = False, limit: int = 100
) -> Sequence[asyncpg.Record]:
    """List files with what became of them, the newest first."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(LEDGER, device, waiting, limit)
    return rows


async def again(
    connection: asyncpg.Connection, device: str, since: datetime, until: datetime
) -> tuple[int, datetime | None]:
    """Have the files of a span made anew from what is stored now, and sent again. Raises NotFoundError.

    Gives how many, and the period of the device's first file: nothing is made of what was before.
    """
    station = await connection.fetchrow(DEVICE, device)
    if station is None:
        raise NotFoundError("report.no_station", device=device)
    done: str = await connection.execute(AGAIN, device, since, until)
    known = await connection.fetchrow(FIRST, station["id"])
    return int(done.rpartition(" ")[2]), known["first"]


async def forget(connection: asyncpg.Connection, keep: timedelta) -> int:
    """Delete the ledger's rows of long ago; say how many."""
    gone = await connection.fetchrow(FORGET, keep)
    if gone["unsent"]:
        log.warning("reports.given_up", files=gone["unsent"])
    return int(gone["files"])


def _floor(at: datetime) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // PERIOD.total_seconds() * PERIOD.total_seconds(), UTC)
