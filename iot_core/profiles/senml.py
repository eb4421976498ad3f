"""SenML (RFC 8428), JSON and CBOR: a pack of records, base fields resolved, each with its own time and value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Problem, Reason
from iot_core.profiles.payload import read_cbor, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["CBOR_FORMAT", "JSON_FORMAT", "Record", "read_pack", "resolve", "sheets", "write_pack"]

JSON_FORMAT: Final = 110
CBOR_FORMAT: Final = 112
# RFC 8428 table 4: CBOR labels.
_LABELS: Final[Mapping[object, str]] = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
_NUMBERS: Final = {name: label for label, name in _LABELS.items()}
_VALUES: Final = ("v", "vb", "vs", "vd")
_RELATIVE_BELOW: Final = 2**28
"""RFC 8428 section 4.5.3: a time below this is relative to now."""
_ENDS: Final = re.compile(r"[/:.\-]")
_VERSION: Final = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One resolved record. `time` is None for "now"; `relative` says that it was counted back from the arrival."""

    name: str
    value: object
    unit: str
    time: datetime | None
    relative: bool

    @property
    def metric_key(self) -> str:
        """The end of the name: what follows its last separator."""
        return _ENDS.split(self.name)[-1]


def read_pack(payload: bytes, content_format: int | None) -> list[dict[str, Any]]:
    """Read a pack: a list of records with text labels. None: told by its first byte."""
    if content_format is None:
        content_format = JSON_FORMAT if payload.lstrip()[:1] == b"[" else CBOR_FORMAT
    data = read_cbor(payload) if content_format == CBOR_FORMAT else read_json(payload)
    if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
        raise DecodeError(Reason.NOT_SENML, "a pack is an array of records")
    if content_format == CBOR_FORMAT:
        return [{_label(key): value for key, value in record.items()} for record in data]
    return data


def resolve(pack: list[dict[str, Any]], now: datetime, problems: list[Problem]) -> list[Record]:
    """Resolve base fields. A record that breaks the rules becomes a Problem; the others stand.

    Beside records that count back from now, "now" is a time as well: that of the arrival.
    """
    records = list(_resolve_all(pack, now, problems))
    if any(record.relative for record in records):
        return [replace(each, time=now, relative=True) if each.time is None else each for each in records]
    return records


def sheets(records: Iterable[Record], name_of: Callable[[Record], str]) -> list[list[Record]]:
    """Put the records of one time on one sheet. A name said twice begins another: merging decides which one stays."""
    found: dict[tuple[datetime | None, bool, int], list[Record]] = {}
    times_said: dict[tuple[datetime | None, bool, str], int] = {}
    for record in records:
        said = (record.time, record.relative, name_of(record))
        turn = times_said[said] = times_said.get(said, -1) + 1
        found.setdefault((record.time, record.relative, turn), []).append(record)
    return list(found.values())


def _resolve_all(pack: list[dict[str, Any]], now: datetime, problems: list[Problem]) -> Iterator[Record]:
    base: dict[str, Any] = {}
    for record in pack:
        for key in ("bn", "bt", "bu", "bv"):
            if key in record:
                base[key] = record[key]
        try:
            resolved = _resolve(record, base, now)
        except DecodeError as exc:
            problems.append(Problem(exc.reason, exc.detail, record))
            continue
        if resolved is not None:
            yield resolved


def write_pack(fields: Mapping[str, object], time: datetime | None, content_format: int | None) -> bytes:
    """Write one time's fields as a pack, units left out (they are the class's)."""
    pack: list[dict[str, object]] = []
    for name, value in fields.items():
        kind = "vb" if isinstance(value, bool) else "vs" if isinstance(value, str) else "v"
        pack.append({"n": name, kind: value})
    if pack and time is not None:
        pack[0] = {"bt": time.timestamp(), **pack[0]}
    if content_format == CBOR_FORMAT:
        return cbor2.dumps([{_NUMBERS[key]: value for key, value in record.items()} for record in pack])
    return msgspec.json.encode(pack)


def _label(key: object) -> str:
    return _LABELS.get(key, key if isinstance(key, str) else f"{key}_unknown")


def _resolve(record: dict[str, Any], base: dict[str, Any], now: datetime) -> Record | None:
    for key in record:
        if str(key).endswith("_"):  # section 4.4: must be understood
            raise DecodeError(Reason.NOT_SENML, f"unknown mandatory field {key[:40]}")
    version = record.get("bver", _VERSION)
    if not isinstance(version, int) or version > _VERSION:
        raise DecodeError(Reason.NOT_SENML, f"version {str(version)[:20]}")
    if not any(key in record for key in _VALUES):
        if "s" in record or any(key in record for key in ("bn", "bt", "bu", "bv", "bs", "bver")):
            if "bv" in record and "n" in record:
                return _record(record, base, now, record["bv"])
            return None  # a sum is no reading; a record of base fields alone says nothing itself
        raise DecodeError(Reason.NOT_SENML, "a record without a value")
    given = [record[key] for key in _VALUES if key in record]
    if len(given) != 1:
        raise DecodeError(Reason.NOT_SENML, "more than one value in a record")
    value = given[0]
    if "v" in record and "bv" in base:
        value = _number(record["v"], "v") + _number(base["bv"], "bv")
    elif "vd" in record:
        value = f"data:{value}"[:200]  # no metric holds bytes: the check refuses it by its type
    return _record(record, base, now, value)


def _record(record: dict[str, Any], base: dict[str, Any], now: datetime, value: object) -> Record:
    parts = (base.get("bn", ""), record.get("n", ""), record.get("u", base.get("bu", "")))
    if not all(isinstance(part, str) for part in parts):
        raise DecodeError(Reason.NOT_SENML, "names and units are text")
    name = parts[0] + parts[1]
    if not name:
        raise DecodeError(Reason.NOT_SENML, "a record without a name")
    time, relative = _time(_number(base.get("bt", 0), "bt") + _number(record.get("t", 0), "t"), now)
    return Record(name, value, parts[2], time, relative)


def _time(seconds: float, now: datetime) -> tuple[datetime | None, bool]:
    if seconds == 0:
        return None, False
    relative = seconds < _RELATIVE_BELOW
    try:
        # Microseconds: what a float of this size can carry, and what the store keeps.
        stamp = now.timestamp() + seconds if relative else seconds
        return datetime.fromtimestamp(round(stamp, 6), UTC), relative
    except (ValueError, OverflowError, OSError):
        raise DecodeError(Reason.BAD_TIME, f"t {seconds}") from None


def _number(value: object, name: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DecodeError(Reason.NOT_SENML, f"{name} is a number")
    if name in {"bt", "t"} and not math.isfinite(value):
        raise DecodeError(Reason.BAD_TIME, f"{name} is not finite")
    return value
