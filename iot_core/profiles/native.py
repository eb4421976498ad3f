"""The native telemetry message (docs/protocol.md): metric keys at top level. This is the hot path: flat on purpose."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Quality, Reason, Sample
from iot_core.profiles.payload import read_cbor, read_json
from iot_core.profiles.senml import CBOR_FORMAT, JSON_FORMAT, read_pack, resolve, sheets, write_pack
from iot_core.profiles.times import parse_time
from iot_core.profiles.units import conversion
from iot_core.profiles.values import apply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from iot_core.model import Uplink, Value
    from iot_core.profiles.classes import ClassFile
    from iot_core.profiles.senml import Record

__all__ = ["FORMATS", "decode_native", "decode_status", "encode_native", "sample_of"]

JSON: Final = 50
CBOR: Final = 60
_CBOR_FIRST: Final = b"\x80"
_CBOR_LAST: Final = b"\xd9"
"""No JSON begins so (it would be the middle of a letter); an array, a map and the tag 55799 of CBOR do."""
FORMATS: Final = (JSON, CBOR, JSON_FORMAT, CBOR_FORMAT)
MAX_RUN: Final = 64
MAX_SEQ: Final = 2**63 - 2
"""The range that ends with it is stored with its end excluded, and that must be a bigint as well."""
_QUALITY: Final = {
    **{quality.name.lower(): quality for quality in Quality},
    # Circular 10/2021/TT-BTNMT: measuring, calibrating, device error.
    "00": Quality.GOOD,
    "01": Quality.CALIBRATION,
    "02": Quality.BAD,
}


def decode_native(uplink: Uplink, class_file: ClassFile) -> Decoded:
    """Read JSON, CBOR or SenML by its content format; without one CBOR shows by its first byte, else it is JSON."""
    content = uplink.content_format
    if content is None and _CBOR_FIRST <= uplink.payload[:1] <= _CBOR_LAST:
        content = CBOR
    try:
        if content is None or content == JSON:
            data = read_json(uplink.payload)
        elif content == CBOR:
            data = read_cbor(uplink.payload)
        elif content in {JSON_FORMAT, CBOR_FORMAT}:
            return _decode_senml(uplink, class_file)
        else:
            return Decoded(problems=(Problem(Reason.WRONG_FORMAT, f"content format {content}"),))
    except DecodeError as exc:
        return Decoded(problems=(Problem(exc.reason, exc.detail),))
    if type(data) is dict:
        return _decode_object(data)
    if type(data) is list:
        return _decode_array(data)
    return Decoded(problems=(Problem(Reason.NOT_AN_OBJECT, part=data),))


def decode_status(payload: bytes) -> Decoded:
    """Read presence: `online` or `offline` (the last will)."""
    if len(payload) <= 32 and (state := payload.strip()) in {b"online", b"offline"}:
        return Decoded(online=state == b"online")
    said = payload[:40].decode("utf-8", "replace")
    return Decoded(problems=(Problem(Reason.BAD_FIELD, "status is online or offline", said),))


def _decode_object(data: dict[Any, Any]) -> Decoded:
    stamp = data.pop("time", None)
    time = None
    problems: list[Problem] = []
    if stamp is not None:
        time = parse_time(stamp)
        if time is None:
            problems.append(Problem(Reason.BAD_TIME, part={"time": stamp}))
    return Decoded((sample_of(data, time, problems),), problems)


def _decode_array(data: list[Any]) -> Decoded:
    samples: list[Sample] = []
    problems: list[Problem] = []
    for element in data:
        if type(element) is not dict:
            problems.append(Problem(Reason.NOT_AN_OBJECT, part=element))
            continue
        stamp = element.get("time")
        time = None if stamp is None else parse_time(stamp)
        if time is None:
            problems.append(Problem(Reason.NO_TIME if stamp is None else Reason.BAD_TIME, part=element))
            continue
        del element["time"]
        samples.append(replace(sample_of(element, time, problems), element=True))
    if not data:
        problems.append(Problem(Reason.NO_VALUES))
    return Decoded(samples, problems)


def sample_of(  # noqa: C901 - the hot path: a function for each field would cost more than it reads
    fields: dict[Any, Any], time: datetime | None, problems: list[Problem], quality: Quality = Quality.GOOD
) -> Sample:
    """Take seq, run, quality, correction and extra out of the fields; the rest are values. None is unknown.

    A field that is wrong becomes a Problem, and the values stand. Nonsense for a quality makes them uncertain.
    """
    seq: int | None = None
    run = ""
    correction = False
    extra: Mapping[str, object] | None = None
    if "seq" in fields:
        seq = fields.pop("seq")
        if seq is not None and (type(seq) is not int or not 0 <= seq <= MAX_SEQ):
            problems.append(Problem(Reason.BAD_FIELD, "seq is a whole number from 0 on", {"seq": seq}))
            seq = None
    if "run" in fields:
        run = "" if fields["run"] is None else fields["run"]
        del fields["run"]
        if type(run) is not str or len(run) > MAX_RUN or "\x00" in run:
            problems.append(Problem(Reason.BAD_FIELD, f"run is a text of at most {MAX_RUN} characters", {"run": run}))
            run, seq = "", None  # a seq without its run could not be told from another run's
    if "quality" in fields:
        said = fields.pop("quality")
        known = _QUALITY.get(said) if type(said) is str else None
        if known is None and said is not None:
            problems.append(Problem(Reason.BAD_FIELD, f"quality is one of {', '.join(_QUALITY)}", {"quality": said}))
            known = Quality.UNCERTAIN
        quality = quality if known is None else max(quality, known)
    if "correction" in fields:
        correction = fields.pop("correction")
        if correction is not None and type(correction) is not bool:
            problems.append(Problem(Reason.BAD_FIELD, "correction is true or false", {"correction": correction}))
        correction = correction is True
    if "extra" in fields:
        extra = fields.pop("extra")
        if extra is not None and (type(extra) is not dict or b"\\u0000" in msgspec.json.encode(extra)):
            problems.append(Problem(Reason.BAD_FIELD, "extra is an object, without NUL", {"extra": extra}))
            extra = None
    if None in fields.values():
        fields = {key: value for key, value in fields.items() if value is not None}
    if not fields:
        problems.append(Problem(Reason.NO_VALUES))
    return Sample(fields, time, "", seq, run, quality, correction, extra)


def _in_unit_of(record: Record, class_file: ClassFile) -> object:
    """Give a record's value in the unit of measure of its metric. Raises DecodeError for a unit that cannot be it."""
    value = record.value
    key = record.metric_key
    if key == "seq":
        return int(value) if isinstance(value, float) and value.is_integer() else value
    metric = class_file.device_class.metric(key)
    if not record.unit or metric is None or isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        return value
    linear = conversion(record.unit, metric.ucum, class_file.molar_mass.get(key))
    if linear is None:
        raise DecodeError(Reason.BAD_FIELD, f"{key} is in {metric.ucum}, not {record.unit[:40]}")
    return apply(linear, value)


def _decode_senml(uplink: Uplink, class_file: ClassFile) -> Decoded:
    samples: list[Sample] = []
    problems: list[Problem] = []
    records = resolve(read_pack(uplink.payload, uplink.content_format), uplink.received_at, problems)
    for sheet in sheets(records, lambda record: record.metric_key):
        fields: dict[str, object] = {}
        for record in sheet:
            try:
                fields[record.metric_key] = _in_unit_of(record, class_file)
            except DecodeError as exc:
                problems.append(Problem(exc.reason, exc.detail, {record.name: record.value}))
        if fields:
            quality = Quality.UNCERTAIN if sheet[0].relative else Quality.GOOD
            samples.append(sample_of(fields, sheet[0].time, problems, quality))
    if not samples and not problems:
        problems.append(Problem(Reason.NO_VALUES))
    return Decoded(samples, problems)


def encode_native(
    values: Mapping[str, Value], *, time: datetime | None, seq: int | None, run: str, content_format: int | None
) -> bytes:
    """Write what `decode_native` reads."""
    fields: dict[str, object] = {}
    if seq is not None:
        fields["seq"] = seq
    if run:
        fields["run"] = run
    fields.update(values)
    if content_format in {JSON_FORMAT, CBOR_FORMAT}:
        return write_pack(fields, time, content_format)
    if time is not None:
        fields = {"time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"), **fields}
    return cbor2.dumps(fields) if content_format == CBOR else msgspec.json.encode(fields)
