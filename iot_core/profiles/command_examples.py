"""Examples of a command: its parameters, and what must go out. A profile is its own test in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from iot_core import sparkplug
from iot_core.errors import CommandRejected, RequestError
from iot_core.model import CommandType, Value
from iot_core.profiles.commands import checked_params
from iot_core.profiles.examples import read_registers
from iot_core.profiles.table import Table

if TYPE_CHECKING:
    from iot_core.profiles.commands import CommandCodec, Downlink
    from iot_core.profiles.document import Document, Place

__all__ = ["CommandExample", "CommandExampleSpec", "read_command_examples", "sent"]

_WAYS: Final = ("payload", "hex", "registers", "metrics", "refused")
_ADDRESS: Final = "group/node"
"""For Sparkplug, whose topics are made of it; elsewhere `{address}` stands as it is."""


class CommandExampleSpec(Table, frozen=True, kw_only=True):
    """Parameters, and what goes out for them: exactly one of `payload`, `hex`, `registers`, `metrics` and `refused`."""

    params: dict[str, Any] = msgspec.field(default_factory=dict)
    """As a person gives them: by the names and units of the class."""
    payload: Any = None
    """The text that is sent, or YAML that is compared with its JSON or CBOR."""
    hex: str | None = None
    """The bytes that are sent, in hexadecimal."""
    registers: dict[str, list[int]] | None = None
    """Modbus: what is written, `{"holding:4": [50]}`, addresses as on the wire; of a `mask` only its bits."""
    metrics: dict[str, Any] | None = None
    """Sparkplug B: the metrics that are written."""
    refused: bool | None = None
    """The wire has no word for these parameters."""


@dataclass(frozen=True, slots=True)
class CommandExample:
    """One of them, its parameters checked by the class."""

    line: int
    params: Mapping[str, Value]
    expected: Mapping[str, Any]


def read_command_examples(document: Document, place: Place, command: CommandType) -> tuple[CommandExample, ...]:
    """Read the examples of the command at a place, which is known to be one. Raises ConfigError."""
    count = len(document.at((*place, "examples")) or ())
    return tuple(_read(document, (*place, "examples", index), command) for index in range(count))


def _read(document: Document, place: Place, command: CommandType) -> CommandExample:
    spec = document.read(place, CommandExampleSpec)
    given = [way for way in _WAYS if getattr(spec, way) is not None]
    if len(given) != 1 or spec.refused is False:
        raise document.error(place, f"exactly one of {', '.join(_WAYS)} (true)")
    try:
        params = checked_params(command, spec.params)
    except RequestError as exc:
        raise document.error((*place, "params"), str(exc)) from exc
    said = getattr(spec, given[0])
    if spec.hex is not None:
        try:
            said = bytes.fromhex(spec.hex).hex()
        except ValueError:
            raise document.error((*place, "hex"), "bytes in hexadecimal") from None
    if spec.registers is not None:
        said = read_registers(document, place, spec.registers)
    return CommandExample(document.line(place), params, {given[0]: said})


def sent(codec: CommandCodec, example: CommandExample) -> dict[str, Any]:
    """Write the command, and give of it what the example speaks of."""
    (way,) = example.expected
    try:
        downlink = codec.encode(example.params, _ADDRESS if codec.metrics else "{address}")
    except CommandRejected as exc:
        return {"refused": True} if way == "refused" else {"refused": str(exc)}
    if way == "refused":  # it was to be, and is not: say what goes out instead
        way = "registers" if downlink.writes else "metrics" if codec.metrics else "payload"
        if way == "payload" and codec.kind == "hex":
            way = "hex"
    match way:
        case "payload":
            return {way: _content(downlink, codec.kind, text=isinstance(example.expected.get(way), str))}
        case "registers":
            return {way: {f"{each.table}:{each.address}": list(each.words) for each in downlink.writes}}
        case "metrics":
            return {way: {each.name: each.value for each in sparkplug.read(downlink.payload).metrics}}
        case _:
            return {"hex": downlink.payload.hex()}


def _content(downlink: Downlink, kind: str, *, text: bool) -> object:
    if kind == "cbor":
        return cbor2.loads(downlink.payload)
    said = downlink.payload.decode(errors="replace")
    return said if text or kind != "json" else msgspec.json.decode(said)
