"""Telemetry out to files and in from files: streamed, so that neither end ever holds all of it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
from aiohttp import web

from iot_core.api import shapes
from iot_core.api.households import without_households
from iot_core.api.problems import from_validation
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.spans import keys_of
from iot_core.api.telemetry import row_shape
from iot_core.errors import RequestError
from iot_core.ingest.load import Refused, Row
from iot_core.messages import text
from iot_core.model import DeviceClass, Quality
from iot_core.registry.scope import Scope, Scoped, scoped
from iot_core.store import read

_MOST_DEVICES: Final = 200_000
_PART: Final = 1_000
_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOST_BYTES: Final = 8 * 1024 * 1024
_WRITE_S: Final = 60.0
_TYPE: Final = "application/x-ndjson"
_NAMED: Final = 100
"""Classes that are named as left out: more would make a header that clients refuse."""


async def export(call: Call[shapes.ExportQuery]) -> web.StreamResponse:
    """Stream every stored row of some devices as lines of JSON (ExportRow), by device and time."""
    asked = call.query
    key, after = _after(asked.after)
    async with call.reader() as connection:
        keys = keys_of(asked.devices) or None
        found = await scoped(
            connection,
            Scope(class_key=asked.class_key, area=asked.area, keys=keys, within=call.areas),
            most=_MOST_DEVICES,
        )
        found = await without_households(call, connection, found)
    devices = [each for each in found if key is None or each.key >= key]
    gone = Counter(each.class_key for each in devices if each.class_key not in call.services.profiles.classes)
    response = web.StreamResponse(headers={"Content-Type": _TYPE, "Cache-Control": "no-store"})
    if gone:
        named = sorted(gone.items())[:_NAMED]
        response.headers[shapes.LEFT_OUT] = ", ".join(f"{class_key}={number}" for class_key, number in named)
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    for device in devices:
        device_class = call.services.profiles.classes.get(device.class_key)
        if device_class is None:
            continue
        start = asked.start or _BEGIN
        if device.key == key and after is not None:
            start = max(start, after + _MICROSECOND)
        await _pour(call, response, device, device_class, (start, asked.end))
    await response.write_eof()
    return response


async def _pour(
    call: Call[Any],
    response: web.StreamResponse,
    device: Scoped,
    device_class: DeviceClass,
    span: tuple[datetime, datetime | None],
) -> None:
    """Write one device's rows in parts; between two of them no connection is held, so a slow reader costs none."""
    start, end = span
    encode = msgspec.json.Encoder().encode
    while True:
        async with call.reader() as connection:
            rows = await read.part(connection, device_class, device.id, start=start, end=end, limit=_PART)
        lines = [encode(_line(row, device)) for row in rows]
        if lines:
            async with asyncio.timeout(_WRITE_S):
                await response.write(b"\n".join(lines) + b"\n")
        if len(rows) < _PART:
            return
        start = rows[-1].time + _MICROSECOND
        await asyncio.sleep(0)


def _line(row: read.Row, device: Scoped) -> shapes.ExportRow:
    plain = row_shape(row)
    return shapes.ExportRow(
        device=device.key, name=device.name, class_key=device.class_key, time=plain.time, received_at=plain.received_at,
        quality=plain.quality, bad=plain.bad, values=plain.values, extra=plain.extra,
    )  # fmt: skip


def _after(said: str | None) -> tuple[str | None, datetime | None]:
    if said is None:
        return None, None
    key, _, time = said.partition(" ")
    try:
        return key, datetime.fromisoformat(time).astimezone(UTC)
    except ValueError as exc:
        raise RequestError("api.invalid", key="after", expected="KEY TIME") from exc


async def load(call: Call[NoQuery], body: shapes.TelemetryLoad) -> shapes.TelemetryLoaded:
    """Merge rows of a file; each row that cannot be taken is named, the others are stored. Twice changes nothing."""
    rows: dict[int, Row] = {}
    refused: list[Refused] = []
    for index, plain in enumerate(body.rows):
        try:
            rows[index] = _row(msgspec.convert(plain, shapes.TelemetryRow))
        except msgspec.ValidationError as exc:
            refused.append(_invalid(index, plain, from_validation(exc)))
    try:
        refused += await call.services.load(call.services.pool, rows, replace=body.replace)
    except asyncpg.DataError as exc:  # a text with a NUL, for instance: find the row by halving
        refused += await _halved(call, rows, exc, replace=body.replace)
    whole = {each.index for each in refused if each.whole}
    return shapes.TelemetryLoaded(
        rows=len(body.rows) - len(whole),
        refused=tuple(
            shapes.RowRefused(
                index=each.index, code=each.code, said=_said(each, call.lang), detail=each.detail, whole=each.whole
            )
            for each in sorted(refused, key=lambda each: each.index)
        ),
    )


def _invalid(index: int, plain: Mapping[str, Any], error: RequestError) -> Refused:
    key = error.facts["key"]
    if error.code != "api.invalid":
        return Refused(index, error.code, str(key))
    if key == "time":
        return Refused(index, "load.not_a_time", str(plain["time"]))
    return Refused(index, "load.invalid", f"{key}: {error.facts['expected']}")


async def _halved(call: Call[Any], rows: dict[int, Row], refusal: Exception, *, replace: bool) -> list[Refused]:
    if len(rows) == 1:
        return [Refused(next(iter(rows)), "api.bad_value", str(refusal).partition("\n")[0])]
    items = list(rows.items())
    refused: list[Refused] = []
    for half in (dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])):
        try:
            refused += await call.services.load(call.services.pool, half, replace=replace)
        except asyncpg.DataError as exc:
            refused += await _halved(call, half, exc, replace=replace)
    return refused


def _row(plain: shapes.TelemetryRow) -> Row:
    return Row(
        device=plain.device, time=plain.time.astimezone(UTC), values=plain.values, quality=Quality[plain.quality.name],
        received_at=plain.received_at and plain.received_at.astimezone(UTC), bad=plain.bad, extra=plain.extra,
    )  # fmt: skip


def _said(refused: Refused, lang: str) -> str:
    return text(refused.code, lang, detail=refused.detail, key=refused.detail)


routes = (
    get("/telemetry/export", export, lines=shapes.ExportRow, reach=Reach.OWN),
    post("/telemetry/import", load, Action.LOAD, most=_MOST_BYTES),
)
