"""What every message format can do, and the three that need no paths: native, presence, and silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason
from iot_core.profiles.classes import ClassFile
from iot_core.profiles.fields import MISSING, Field, Trace
from iot_core.profiles.native import decode_native, encode_native
from iot_core.profiles.paths import Path, find, put
from iot_core.profiles.payload import read_json

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value

__all__ = ["Context", "Format", "HeldFormat", "NativeFormat", "PresenceFormat", "QuietFormat"]

_TEXT_SHOWN: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a message says beside its values, when it is written."""

    time: datetime | None = None
    seq: int | None = None
    run: str = ""
    address: str = ""
    content_format: int | None = None
    channel: str = ""

    @property
    def arrival(self) -> datetime:
        """When the message is taken to be heard."""
        return self.time or datetime.now(UTC)


class Format(Protocol):
    """One way to say values in a payload."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that it can say."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it feeds; `""` is the unit itself."""
        ...

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        """Decode; total."""
        ...

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        """Play it backwards, in as many messages as the wire needs. Raises ValueError for what it cannot hold."""
        ...


def fields_of(spoken: object) -> Iterator[Field[Any]]:
    """Give the fields of a format, whatever it is made of."""
    for name in ("fields", "groups", "group", "frames", "layout", "tail", "ports", "decoded"):
        inner = getattr(spoken, name, None)
        if name == "fields" and inner is not None:
            yield from inner
        elif name == "layout" and inner is not None:
            for part in inner.parts():
                yield from part.fields
        elif isinstance(inner, tuple):
            for each in inner:
                yield from fields_of(each)
        elif isinstance(inner, Mapping):
            for each in inner.values():
                yield from fields_of(each)
        elif inner is not None:
            yield from fields_of(inner)


@dataclass(frozen=True, slots=True)
class NativeFormat:
    """The native contract, with the units of its class for SenML."""

    class_file: ClassFile

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(metric.key for metric in self.class_file.device_class.metrics)

    @property
    def channels(self) -> tuple[str, ...]:
        return ("",)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:  # noqa: ARG002 - nothing on the way to show
        return decode_native(uplink, self.class_file)

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        return (
            encode_native(
                values, time=context.time, seq=context.seq, run=context.run, content_format=context.content_format
            ),
        )


@dataclass(frozen=True, slots=True)
class QuietFormat:
    """Messages of no interest: they show that the device is there, and are not held."""

    @property
    def keys(self) -> tuple[str, ...]:
        return ()

    @property
    def channels(self) -> tuple[str, ...]:
        return ()

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:  # noqa: ARG002 - whatever it says
        return Decoded(online=True)

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:  # noqa: ARG002 - it holds no values
        return ()


@dataclass(frozen=True, slots=True)
class HeldFormat:
    """What stands in for a format whose profile cannot be read: whatever comes is held, until the file is mended."""

    detail: str
    keys: tuple[str, ...] = ()
    """What the profile said that it can say, when it was last good."""

    @property
    def channels(self) -> tuple[str, ...]:
        return ()

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:  # noqa: ARG002 - nobody knows how to read it
        return Decoded(problems=(Problem(Reason.PROFILE, self.detail),))

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:  # noqa: ARG002 - nor how to write
        return ()


@dataclass(frozen=True, slots=True)
class PresenceFormat:
    """A message that only says whether the device is there, in its own words: as text, or at a path of JSON."""

    online: str
    offline: str
    path: Path | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return ()

    @property
    def channels(self) -> tuple[str, ...]:
        return ()

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        try:
            said = self._said(uplink.payload)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            trace("presence", "online", said, said == self.online)
        if said in {self.online, self.offline}:
            return Decoded(online=said == self.online)
        detail = f"presence is {self.online} or {self.offline}"
        return Decoded(problems=(Problem(Reason.BAD_FIELD, detail, said[:_TEXT_SHOWN]),))

    def _said(self, payload: bytes) -> str:
        plain = payload[: 4 * _TEXT_SHOWN].decode("utf-8", "replace").strip()
        if self.path is None or plain in {self.online, self.offline}:  # an older firmware may say the bare word
            return plain
        found = find(read_json(payload), self.path)
        if found is True or found is False:
            return str(found).lower()
        return "" if found is MISSING else str(found)

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:  # noqa: ARG002 - it holds no values
        return (self.online.encode() if self.path is None else msgspec.json.encode(put({}, self.path, self.online)),)
