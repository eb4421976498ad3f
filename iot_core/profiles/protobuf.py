"""Protobuf by field numbers: bytes -> plain data and back, as a profile says which number is what.

    tag = number << 3 | wire type;  0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes

Total and bounded: each byte is read once for each level that the profile itself declares.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from iot_core.errors import DecodeError
from iot_core.model import Problem, Reason

__all__ = ["Kind", "Member", "Message", "read_protobuf", "write_protobuf"]

Kind = Literal[
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "enum", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "float", "double", "string", "bytes", "message",
]  # fmt: skip
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
_PACKED_AS: Final[Mapping[str, str]] = {
    "fixed32": "<I", "sfixed32": "<i", "float": "<f", "fixed64": "<Q", "sfixed64": "<q", "double": "<d"
}  # fmt: skip
_WIDTH: Final[Mapping[str, int]] = {
    "int32": 32, "uint32": 32, "sint32": 32, "enum": 32, "int64": 64, "uint64": 64, "sint64": 64, "bool": 64
}  # fmt: skip
_LONGEST_VARINT: Final = 10
_WIRES: Final[Mapping[int, str]] = {_VARINT: "a varint", _EIGHT: "8 bytes", _LENGTH: "bytes", _FOUR: "4 bytes"}


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a message."""

    name: str
    kind: Kind
    repeated: bool = False
    default: object = None
    """What it says where it does not stand in the message; None: nothing."""
    message: Message | None = None

    @property
    def wire(self) -> int:
        """The wire type of one of it."""
        if self.kind in _WIDTH:
            return _VARINT
        return {4: _FOUR, 8: _EIGHT}[struct.calcsize(_PACKED_AS[self.kind])] if self.kind in _PACKED_AS else _LENGTH


Message = Mapping[int, Member]


def read_protobuf(data: bytes, message: Message, problems: list[Problem]) -> dict[str, Any]:
    """Read a message: what is repeated is a list, `bytes` are hexadecimal, numbers that are not listed are passed over.

    A field that stands there as another type goes to `problems`. Raises DecodeError for what is no message.
    """
    if not data:
        raise DecodeError(Reason.EMPTY)
    return _read(data, message, problems)


def _read(data: bytes, message: Message, problems: list[Problem]) -> dict[str, Any]:
    said: dict[str, Any] = {member.name: [] for member in message.values() if member.repeated}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        raw, at = _part(data, at, number, wire)
        member = message.get(number)
        if member is None:
            continue
        try:
            found = _values(member, wire, raw, problems)
        except DecodeError as exc:
            problems.append(Problem(exc.reason, f"{number} {member.name}: {exc.detail}", _shown(raw)))
            continue
        if member.repeated:
            said[member.name].extend(found)
        elif found:
            said[member.name] = found[-1]  # of several the last counts (protobuf's own rule)
    for member in message.values():
        if member.default is not None:
            said.setdefault(member.name, member.default)
    return said


def _part(data: bytes, at: int, number: int, wire: int) -> tuple[int | bytes, int]:
    """Take what follows a tag. Raises DecodeError where the bytes end before it, or no message goes on like this."""
    if wire not in _WIRES or not 0 < number < 1 << 29:
        raise DecodeError(Reason.NOT_PROTOBUF, f"byte {at}: wire type {wire} of field {number}")
    if wire == _VARINT:
        return _varint(data, at)
    length = {_EIGHT: 8, _FOUR: 4}.get(wire, 0)
    if wire == _LENGTH:
        length, at = _varint(data, at)
    if length > len(data) - at:
        raise DecodeError(Reason.TRUNCATED, f"field {number}: {len(data) - at} of {length} bytes")
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    raw = 0
    for count in range(_LONGEST_VARINT):
        if at >= len(data):
            raise DecodeError(Reason.TRUNCATED, f"{len(data)} bytes, and a number goes on")
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return raw & (1 << 64) - 1, at
    raise DecodeError(Reason.NOT_PROTOBUF, f"byte {at}: a number of more than {_LONGEST_VARINT} bytes")


def _values(member: Member, wire: int, raw: int | bytes, problems: list[Problem]) -> list[Any]:
    """Give what one part says: several numbers where they are packed."""
    if wire == member.wire:
        return [_value(member, raw, problems)]
    if not member.repeated or wire != _LENGTH or not isinstance(raw, bytes):
        raise DecodeError(Reason.WRONG_TYPE, f"{_WIRES[wire]} on the wire, not {member.kind}")
    found: list[Any] = []
    at = 0
    while at < len(raw):
        one: int | bytes
        if member.wire == _VARINT:
            one, at = _varint(raw, at)
        else:
            one, at = _part(raw, at, 1, member.wire)
        found.append(_value(member, one, problems))
    return found


def _value(member: Member, raw: int | bytes, problems: list[Problem]) -> Any:
    if isinstance(raw, int):
        return _number(member.kind, raw)
    if member.message is not None:
        return _read(raw, member.message, problems)
    if member.kind == "bytes":
        return raw.hex()
    if member.kind == "string":
        try:
            return raw.decode()
        except UnicodeDecodeError as exc:
            raise DecodeError(Reason.NOT_TEXT, f"byte {exc.start}: {exc.reason}") from None
    return struct.unpack(_PACKED_AS[member.kind], raw)[0]


def _number(kind: str, raw: int) -> int | bool:
    if kind == "bool":
        return bool(raw)
    width = _WIDTH[kind]
    raw &= (1 << width) - 1
    if kind.startswith("sint"):
        return raw >> 1 ^ -(raw & 1)
    return raw - (1 << width) if kind in {"int32", "int64", "enum"} and raw >> width - 1 else raw


def write_protobuf(said: Mapping[str, Any], message: Message) -> bytes:
    """Write what `read_protobuf` reads. Raises ValueError for what a field cannot hold."""
    data = bytearray()
    for number, member in message.items():
        values = said.get(member.name)
        if values is None:
            continue
        values = values if isinstance(values, list) else [values]
        parts = [_written(member, value) for value in values if value is not None]
        if member.repeated and member.wire != _LENGTH and parts:
            parts = [_measured(b"".join(parts))]
            data += _tag(number, _LENGTH) + parts[0]
            continue
        for part in parts:
            data += _tag(number, member.wire) + part
    return bytes(data)


def _written(member: Member, value: Any) -> bytes:
    if member.message is not None:
        return _measured(write_protobuf(value if isinstance(value, Mapping) else {}, member.message))
    if member.kind in {"string", "bytes"}:
        return _measured(str(value).encode() if member.kind == "string" else bytes.fromhex(str(value)))
    try:
        number = float(value)
        if member.kind in {"float", "double"}:
            return struct.pack(_PACKED_AS[member.kind], number)
        whole = value if isinstance(value, int) else round(number)
        if member.kind in _PACKED_AS:
            return struct.pack(_PACKED_AS[member.kind], whole)
    except (struct.error, TypeError, OverflowError) as exc:
        raise ValueError(f"{member.name}: {value} is no {member.kind}") from exc
    return _varint_of(member, whole)


def _varint_of(member: Member, value: int) -> bytes:
    width = 1 if member.kind == "bool" else _WIDTH[member.kind]
    signed = member.kind in {"int32", "int64", "sint32", "sint64", "enum"}
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    if not low <= value <= high:
        raise ValueError(f"{member.name}: {value} does not fit in {member.kind}")
    if member.kind.startswith("sint"):
        value = value << 1 ^ value >> 63
    return _bytes_of(value & (1 << 64) - 1)


def _bytes_of(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _tag(number: int, wire: int) -> bytes:
    return _bytes_of(number << 3 | wire)


def _measured(data: bytes) -> bytes:
    return _bytes_of(len(data)) + data


def _shown(raw: int | bytes) -> object:
    return raw if isinstance(raw, int) else raw[:64].hex()
