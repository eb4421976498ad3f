"""The examples of a profile: a published message each, and what it says. A profile is its own test."""

from __future__ import annotations

import base64
import binascii
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from iot_core.model import Reason, Uplink
from iot_core.profiles.envelope import LorawanFormat
from iot_core.profiles.formats import Context
from iot_core.profiles.modbus import Table as RegisterTable
from iot_core.profiles.near import like
from iot_core.profiles.profile import Example
from iot_core.profiles.table import Table
from iot_core.profiles.times import parse_time

if TYPE_CHECKING:
    from iot_core.errors import ConfigError
    from iot_core.profiles.document import Document, Place
    from iot_core.profiles.profile import Profile

__all__ = ["ExampleSpec", "example_uplink", "lacking", "read_examples", "read_registers", "uplink_of"]


_LAST_REGISTER: Final = 0xFFFF
_LAST_WORD: Final = 0xFFFF
_REASONS: Final = tuple(
    each.value
    for each in (
        Reason.TRUNCATED, Reason.CHECKSUM, Reason.WRONG_FORMAT, Reason.BAD_FIELD, Reason.WRONG_TYPE, Reason.NO_VALUES,
        Reason.BAD_TIME, Reason.NO_TIME, Reason.EMPTY, Reason.NOT_TEXT, Reason.NOT_JSON, Reason.NOT_CBOR,
        Reason.NOT_SENML, Reason.NOT_PROTOBUF, Reason.NOT_AN_OBJECT, Reason.TOO_DEEP, Reason.UNKNOWN_METRIC,
        Reason.NO_BIRTH,
    )
)  # fmt: skip
"""Why a message itself can be held; the other reasons come from its device's registry or past."""


class ExampleSpec(Table, frozen=True, kw_only=True):
    """A message and what it says: exactly one of `payload`, `hex`, `base64` and `registers`.

    Whatever is held and not expected fails the example.
    """

    name: str = ""
    """What it shows: shown when it fails."""
    payload: Any = None
    """Text as it is sent, or YAML that is written as JSON."""
    hex: str | None = None
    """Bytes in hexadecimal; of a LoRaWAN model the device's own, which are put into an envelope."""
    base64: str | None = None
    """Bytes in base64, likewise."""
    registers: dict[str, list[int]] | None = None
    """Modbus: `{"holding:4": [352]}`, the address as on the wire, from 0, or in hexadecimal: `holding:0x5B00`."""
    topic: str = ""
    """MQTT: where it was published, when the model speaks on several topics."""
    port: int | None = None
    """LoRaWAN: the fPort."""
    time: str | None = None
    """When it was heard: what `ago`, `every` and SenML's relative times count back from."""
    content_format: int | None = None
    """CoAP: 50 JSON, 60 CBOR, 110 SenML JSON, 112 SenML CBOR."""
    values: dict[str, Any] | None = None
    """What its one sample says, all of it; null: not said, or unknown."""
    samples: list[dict[str, Any]] | None = None
    """Several samples, or more of one."""
    online: bool | None = None
    """What it says of presence."""
    held: str | None = None
    """Why it, or a part of it, is held. `truncated`: shorter than it must be. `checksum`. `wrong_format`: no frame,
    fPort or topic fits. `bad_field`: a place says what it cannot, or bytes are left over. `wrong_type`: no number, no
    word of the `map`. `no_values`: nothing of ours is in it. `bad_time`, `no_time`: of an element. `empty`, `not_text`,
    `not_json`, `not_cbor`, `not_senml`, `not_protobuf`, `not_an_object`, `too_deep`: it cannot be read at all.
    `no_birth`: an alias of Sparkplug B that no birth explains. `unknown_metric`:
    of the native contract."""


class SampleSpec(Table, frozen=True, kw_only=True):
    """One of `samples`. Beside `values` only what is told is compared."""

    values: dict[str, Any] | None = None
    """What it says, all of it; null: not said, or unknown."""
    time: str | None = None
    """When it was measured, with its zone; null: the message does not say."""
    channel: str | None = None
    """Whose it is; empty for the unit's own device."""
    seq: int | None = None
    """The number that the message counts itself by."""
    run: str | None = None
    """The text that is new when `seq` starts again."""
    quality: str | None = None
    """`good`, `uncertain`, `calibration` or `bad`."""
    extra: dict[str, Any] | None = None
    """What is kept beside it."""


def read_examples(document: Document, count: int) -> tuple[Example, ...]:
    """Read the examples. Raises ConfigError."""
    examples: list[Example] = []
    for index in range(count):
        place: Place = ("examples", index)
        spec = document.read(place, ExampleSpec)
        given = [key for key in ("payload", "hex", "base64", "registers") if getattr(spec, key) is not None]
        if len(given) != 1:
            raise document.error(place, "exactly one of payload, hex, base64 and registers")
        if all(each is None for each in (spec.values, spec.samples, spec.online, spec.held)):
            raise document.error(place, "what is expected: values, samples, online or held")
        if spec.held is not None and spec.held not in _REASONS:
            raise document.error((*place, "held"), f"one of {', '.join(_REASONS)}{like(spec.held, _REASONS)}")
        for number in range(len(spec.samples or ())):
            document.read((*place, "samples", number), SampleSpec)
        _check_words(document, place, spec)
        data = _bytes_of(spec)
        if data is None:
            raise document.error((*place, given[0]), _written(given[0], spec))
        if spec.port is not None and given[0] not in {"hex", "base64"}:
            raise document.error(place, "hex or base64 beside port: the device's own bytes")
        examples.append(
            Example(
                name=spec.name or f"example {index + 1}",
                line=document.line(place),
                given={
                    "payload": data,
                    "registers": read_registers(document, place, spec.registers)
                    if spec.registers is not None
                    else None,
                    "topic": spec.topic,
                    "port": spec.port,
                    "time": _time(document, place, spec.time),
                    "content_format": spec.content_format,
                },
                values=spec.values,
                samples=spec.samples,
                online=spec.online,
                held=spec.held,
            )
        )
    return tuple(examples)


def _check_words(document: Document, place: Place, spec: ExampleSpec) -> None:
    """Refuse registers that no wire can say, unless the example shows that they are held."""
    for name, words in ({} if spec.held else spec.registers or {}).items():
        wrong = next((each for each in words if not 0 <= each <= _LAST_WORD), None)
        if wrong is not None:
            expected = f"numbers from 0 to {_LAST_WORD}; {wrong} is written {wrong & _LAST_WORD}"
            raise document.error((*place, "registers", name), expected)


def _written(key: str, spec: ExampleSpec) -> str:
    """Say how bytes are written, and what is wrong with these."""
    if key != "hex":
        return "base64: A-Z a-z 0-9 + /, with = at the end"
    digits = "".join(str(spec.hex).split())
    wrong = next((each for each in digits if each not in string.hexdigits), None)
    if wrong is not None:
        return f"two hexadecimal digits a byte, spaces between bytes; {wrong} is none"
    if len(digits) % 2:
        return f"two hexadecimal digits a byte; these are {len(digits)}"
    return "two hexadecimal digits a byte, spaces between bytes and not within one"


def lacking(document: Document, examples: tuple[Example, ...]) -> ConfigError | None:
    """Say what examples a profile still needs before it counts as tested; it decodes without them."""
    if any(each.held for each in examples) and not all(each.held for each in examples):
        return None
    return document.error(("examples",), "at least one good example and one that is held")


def uplink_of(
    profile: Profile,
    *,
    text: str | None = None,
    data: bytes | None = None,
    registers: Mapping[str, list[int]] | None = None,
    topic: str = "",
    content_format: int | None = None,
    port: int | None = None,
    time: datetime | None = None,
) -> Uplink:
    """Make the uplink that a profile would get for a text, bytes or registers; LoRaWAN bytes get an envelope."""
    scheme = profile.address.partition(":")[0]
    if data is not None and (port is not None or not _is_json(data)):
        found = next((route for route in profile.routes if isinstance(route.format, LorawanFormat)), None)
        if found is not None and isinstance(found.format, LorawanFormat):
            fitting = next(iter(found.format.ports), 1)
            own = port if port is not None else max(fitting, 1)
            data = found.format.wrap(data, own, Context(time=time, address="0101010101010101"))
            topic = topic or found.concrete("0101010101010101")
    return Uplink(
        received_at=time or datetime.now(UTC),
        driver={"iot": "mqtt", "lorawan": "mqtt", "sparkplug": "mqtt"}.get(scheme, scheme),
        address=profile.address.replace("{address}", "example"),
        topic=topic,
        payload=text.encode() if text is not None else data or b"",
        registers=registers,
        content_format=content_format,
    )


def example_uplink(profile: Profile, example: Example) -> Uplink:
    """Make the uplink of an example."""
    return uplink_of(
        profile,
        data=example.given["payload"],
        registers=example.given["registers"],
        topic=example.given["topic"],
        content_format=example.given["content_format"],
        port=example.given["port"],
        time=example.given["time"],
    )


def _is_json(data: bytes) -> bool:
    """Say whether bytes are an envelope already; a device's own may begin with a bracket, too."""
    try:
        return isinstance(msgspec.json.decode(data), (dict, list))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def read_registers(document: Document, place: Place, given: Mapping[str, list[int]]) -> Mapping[str, list[int]]:
    """Read `holding:0x5B00` as `holding:23296`. Raises ConfigError for what names no register."""
    blocks: dict[str, list[int]] = {}
    for name, words in given.items():
        table, _, address = name.partition(":")
        try:
            first = int(address, 0)
        except ValueError:
            first = -1
        if table not in get_args(RegisterTable) or not 0 <= first <= _LAST_REGISTER:
            raise document.error((*place, "registers", name), "a table and an address: holding:4, input:0x34")
        blocks[f"{table}:{first}"] = words
    return blocks


def _time(document: Document, place: Place, text: str | None) -> datetime | None:
    time = None if text is None else parse_time(text)
    if text is not None and time is None:
        raise document.error((*place, "time"), "a time with its zone, such as 2026-01-15T08:30:00Z")
    return time


def _bytes_of(spec: ExampleSpec) -> bytes | None:
    """Give the payload's bytes; a payload that is not text is written as JSON. None when it is not valid."""
    try:
        if spec.hex is not None:
            return bytes.fromhex(spec.hex)
        if spec.base64 is not None:
            return base64.b64decode(spec.base64, validate=True)
    except (ValueError, binascii.Error):
        return None
    if spec.payload is None:
        return b""
    return spec.payload.encode() if isinstance(spec.payload, str) else msgspec.json.encode(spec.payload)
