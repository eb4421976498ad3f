"""The format of raw bytes: one of several frames, perhaps written as text inside another message."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Reason
from iot_core.profiles.layout import Frame, Gathered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iot_core.model import Uplink, Value
    from iot_core.profiles.fields import Trace
    from iot_core.profiles.formats import Context

__all__ = ["ENCODINGS", "BytesFormat", "bytes_from_text"]

ENCODINGS: Final = ("raw", "hex", "base64")


@dataclass(frozen=True, slots=True)
class BytesFormat:
    """Frames, told apart by what they require and by their length; the first that fits is meant."""

    frames: tuple[Frame, ...]
    encoding: str = "raw"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for frame in self.frames for key in frame.keys))

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for frame in self.frames for name in frame.channels))

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        data = uplink.payload
        if self.encoding != "raw":
            try:
                data = bytes_from_text(data.decode("utf-8", "replace").strip(), self.encoding)
            except DecodeError as exc:
                return Decoded(problems=(Problem(exc.reason, exc.detail),))
        if trace is not None:
            trace("bytes", "", data.hex(" "), f"{len(data)} B")
        found = self._chosen(data)
        if isinstance(found, Problem):
            return Decoded(problems=(found,))
        into = Gathered(uplink.received_at, trace)
        found.read(data, into)
        samples = into.all()
        if not samples and not into.problems:
            if data or not found.keys:  # understood to its end, and it says nothing of the class, or only "unknown"
                return Decoded(online=True)
            into.problems.append(Problem(Reason.EMPTY))
        return Decoded(samples, into.problems)

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        said: set[str] = set()
        written: list[bytes] = []
        for frame in self.frames:
            carried = {key: values[key] for key in frame.keys if key in values}
            if not carried.keys() - said or (context.channel and context.channel not in frame.channels):
                continue
            said.update(carried)
            data = frame.write(carried, context.channel, context.time, context.arrival)
            if self.encoding == "hex":
                data = data.hex().encode()
            elif self.encoding == "base64":
                data = base64.b64encode(data)
            written.append(data)
        return written

    def _chosen(self, data: bytes) -> Frame | Problem:
        """Choose the frame; of several with the same marks the one of this length."""
        wrong: Problem | None = None
        for frame in self.frames:
            mismatch = frame.mismatch(data)
            if mismatch is None:
                damage = frame.damage(data)
                if damage is None:
                    return frame
                if wrong is None or wrong.reason is Reason.WRONG_FORMAT:
                    wrong = damage
            elif wrong is None:
                wrong = mismatch
        assert wrong is not None
        return wrong


def bytes_from_text(text: str, encoding: str) -> bytes:
    """Read bytes that are written as hexadecimal or base64 text. Raises DecodeError."""
    try:
        if encoding == "hex":
            return bytes.fromhex(text.removeprefix("0x").replace("_", "").replace("|", ""))
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(Reason.BAD_FIELD, f"the payload is not {encoding}") from None
