"""Bytes -> plain data, total and bounded: JSON and CBOR of any sender become values or one DecodeError."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import cbor2
import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Reason

__all__ = ["MAX_DEPTH", "read_cbor", "read_json", "too_deep"]

MAX_DEPTH: Final = 32
_decode = msgspec.json.Decoder().decode
_ALL_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 20


def read_json(payload: bytes) -> Any:
    """Read JSON. Text that fails only for NaN or Infinity is read, so that the good values beside them survive."""
    try:
        # A whole number of 20 digits or more fits no column, and one of 310 stops every function of `math`.
        long = _LONG_NUMBER in payload.translate(_ALL_ZERO)
        data = _read_leniently(payload) if long else _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        data = _read_leniently(payload)
    except RecursionError:
        raise DecodeError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels") from None
    # Few brackets cannot nest deeply, so that a plain message is not walked.
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and too_deep(data):
        raise DecodeError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels")
    return data


def read_cbor(payload: bytes) -> Any:
    """Read CBOR; of its tags those of times and decimal fractions, for no other says what telemetry needs."""
    if not payload:
        raise DecodeError(Reason.EMPTY)
    payload = payload.removeprefix(_SELF_DESCRIBED)
    try:
        data = cbor2.loads(payload, max_depth=MAX_DEPTH, semantic_decoders=_TAGS, tag_hook=_refuse_tag)
    except RecursionError:
        raise DecodeError(Reason.TOO_DEEP) from None
    except (cbor2.CBORError, ValueError, OverflowError, MemoryError, TypeError) as exc:
        deep = "depth" in str(exc)
        raise DecodeError(Reason.TOO_DEEP if deep else Reason.NOT_CBOR, str(exc)[:200]) from None
    return _plain(data)


def too_deep(data: object) -> bool:
    """Say whether nested lists and mappings go deeper than the bound; walks level by level, never recursing."""
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(child for child in each.values() if isinstance(child, (dict, list)))
            elif isinstance(each, list):
                below.extend(child for child in each if isinstance(child, (dict, list)))
        if not below:
            return False
        level = below
    return True


def _read_leniently(payload: bytes) -> Any:
    if not payload.strip():
        raise DecodeError(Reason.EMPTY) from None
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DecodeError(Reason.NOT_TEXT, f"byte {exc.start}: {exc.reason}") from None
    try:
        data = json.loads(text, parse_int=_parse_int)
        if too_deep(data):
            raise RecursionError  # noqa: TRY301 - the same answer as for what the parser itself refuses
        msgspec.json.encode(data)  # half a surrogate pair is no text: no later step could write it down
    except RecursionError:
        raise DecodeError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels") from None
    except UnicodeEncodeError:
        raise DecodeError(Reason.NOT_TEXT, "half a surrogate pair") from None
    except ValueError as exc:
        raise DecodeError(Reason.NOT_JSON, str(exc)[:200]) from None
    return data


def _parse_int(text: str) -> float | int:
    """Read an integer; one of hundreds of digits is read as the float that it is for every other reader."""
    return int(text) if len(text) <= 19 else float(text)


_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
"""Tag 55799, which only says that CBOR follows (RFC 8949 section 3.4.6)."""


def _refuse_tag(*_: object) -> object:
    raise ValueError("tagged CBOR")


_MOST_EXPONENT: Final = 400


def _said(content: object, _: object) -> object:
    """Give a time as it stands: text of RFC 3339 or seconds, which whoever reads it knows apart."""
    return content


def _decimal(content: object, _: object) -> float:
    """Read a decimal fraction (RFC 8949 section 3.4.4): 21.5 as 215 and -1."""
    match content:
        case [int() as exponent, int() as mantissa] if abs(exponent) <= _MOST_EXPONENT:
            return float(f"{int(mantissa)}e{int(exponent)}")
    raise ValueError("no decimal fraction")


# Times and the decimal fraction (which SenML uses, RFC 8428 section 6) are taken. Shared references (28, 29) build
# bombs, rationals (30) eat time, 35 compiles what it is given: all other tags are refused.
_TAGS: Final = dict.fromkeys((*range(512), 1004, 43000, 55799), _refuse_tag) | {0: _said, 1: _said, 4: _decimal}


def _plain(data: object) -> Any:
    """Keep what JSON can say as well; `undefined` and unassigned simple values are unknown."""
    if data is None or isinstance(data, (bool, int, str)):
        return data
    if isinstance(data, float):
        return data if math.isfinite(data) else float(data)
    if isinstance(data, bytes):
        return data.hex()
    if isinstance(data, list):
        return [_plain(each) for each in data]
    if isinstance(data, dict):
        return {key if isinstance(key, (str, int)) else str(key): _plain(value) for key, value in data.items()}
    if data is cbor2.undefined or isinstance(data, cbor2.CBORSimpleValue):
        return None
    raise DecodeError(Reason.NOT_CBOR, f"unexpected {type(data).__name__}")
