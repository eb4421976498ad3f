"""Is a device that was just hung up as it should be? Held against what its model can say, and kept on record.

A native profile serves every maker's device of its class, so what such a device does not say is no fault of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import msgspec

from iot_core.errors import ConflictError, RequestError
from iot_core.registry.addresses import NATIVE
from iot_core.registry.audit import Change, record

if TYPE_CHECKING:
    from iot_core.model import Value
    from iot_core.profiles import Profile, Profiles

__all__ = ["Checked", "MetricCheck", "Said", "checked", "keep", "records"]

_SLACK: Final = timedelta(seconds=30)
"""By so much a device's clock may be behind, or its reading older than its message."""
_UNIT: Final = """
SELECT d.id, d.class_key, u.id AS unit_id, u.profile, u.serial, u.firmware, u.address, s.last_received_at
FROM iot.device d JOIN iot.unit u ON u.device_id = d.id AND u.mounted_to IS NULL
LEFT JOIN iot.device_status s ON s.device_id = d.id WHERE d.key = $1 ORDER BY u.id DESC LIMIT 1
"""
_HELD: Final = "SELECT count(*) FROM iot.held_uplink WHERE device_id = $1 AND received_at >= $2"
_KEEP: Final = """
INSERT INTO iot.commissioning (device_id, unit_id, by, passed, record) VALUES ($1, $2, $3, $4, $5) RETURNING id, at
"""
_RECORDS: Final = """
SELECT c.id, c.at, c.by, c.record FROM iot.commissioning c JOIN iot.device d ON d.id = c.device_id
WHERE d.key = $1 ORDER BY c.id DESC LIMIT 100
"""


class Said(Protocol):
    """The newest value of a metric."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> Value: ...
    @property
    def time(self) -> datetime: ...
    @property
    def bad(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class MetricCheck:
    """What became of one metric: `ok`, `missing`, `bad` or `excused`."""

    metric: str
    result: str
    value: float | int | bool | str | None = None
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How a device does since a moment."""

    device: str
    profile: str
    serial: str | None
    firmware: str | None
    address: str
    since: datetime
    heard_at: datetime | None
    metrics: tuple[MetricCheck, ...]
    held: int
    harmless: str | None = None
    command: str | None = None
    command_state: str | None = None
    notes: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was heard, said all that is expected of it, and a command that was tried came through."""
        results = [each.result for each in self.metrics]
        return (
            self.heard_at is not None
            and "ok" in results
            and not {"missing", "bad"} & set(results)
            and not self.held
            and self.command_state != "failed"
        )


async def checked(
    connection: asyncpg.Connection,
    profiles: Profiles,
    key: str,
    latest: Sequence[Said],
    *,
    since: datetime,
    without: Collection[str] = (),
) -> Checked:
    """Check what a device said since a moment; `latest` are its newest values.

    Raises ConflictError where no unit is mounted, RequestError for a metric in `without` that it has not.
    """
    row = await connection.fetchrow(_UNIT, key)
    if row is None:
        raise ConflictError("asking.not_mounted", key=key)
    profile = profiles.get(row["profile"])
    device_class = profiles.classes[row["class_key"]]
    expected = [metric.key for metric in device_class.metrics if metric.key in profile.metrics]
    unknown = sorted(set(without) - set(expected))
    if unknown:
        raise RequestError("commissioning.no_metric", metric=unknown[0], known=", ".join(expected))
    heard_at = row["last_received_at"]
    fresh = {each.metric: each for each in latest if each.time >= since - _SLACK}
    lenient = row["address"].startswith(NATIVE)
    return Checked(
        device=key,
        profile=profile.model,
        serial=row["serial"],
        firmware=row["firmware"],
        address=row["address"],
        since=since,
        heard_at=heard_at if heard_at is not None and heard_at >= since else None,
        metrics=tuple(_check(each, fresh.get(each), excused=lenient or each in without) for each in expected),
        held=await connection.fetchval(_HELD, row["id"], since),
        harmless=next((each.key for each in device_class.commands if each.harmless and _can(profile, each.key)), None),
    )


async def keep(connection: asyncpg.Connection, done: Checked, *, by: str) -> tuple[int, datetime]:
    """Keep the record; give its number and when it was made."""
    async with connection.transaction():
        row = await connection.fetchrow(_UNIT, done.device)
        if row is None:
            raise ConflictError("asking.not_mounted", key=done.device)
        kept = await connection.fetchrow(_KEEP, row["id"], row["unit_id"], by, done.passed, _plain(done))
        said = {"commissioning": kept["id"], "passed": done.passed}
        await record(connection, by, "device.commission", Change(f"device/{done.device}", after=said))
        return kept["id"], kept["at"]


async def records(connection: asyncpg.Connection, key: str) -> list[dict[str, Any]]:
    """Give the records of a device, the newest first, as they were kept."""
    rows = await connection.fetch(_RECORDS, key)
    return [{**row["record"], "id": row["id"], "at": row["at"], "by": row["by"]} for row in rows]


def _can(profile: Profile, command: str) -> bool:
    return profile.native or command in profile.commands


def _check(metric: str, said: Said | None, *, excused: bool) -> MetricCheck:
    if said is None:
        return MetricCheck(metric, "excused" if excused else "missing")
    return MetricCheck(metric, "bad" if said.bad else "ok", said.value, said.time)


def _plain(done: Checked) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins({**asdict(done), "passed": done.passed})
    return plain
