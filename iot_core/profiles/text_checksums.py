"""Checksums that are written in a text behind what they cover: NMEA 0183 sentences, DSMR telegrams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

from iot_core.errors import DecodeError
from iot_core.model import Reason
from iot_core.profiles.checksums import crc

__all__ = ["TEXT_CHECKSUMS", "TextChecksum"]

_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class TextChecksum:
    """A mark, and behind it the checksum in hexadecimal digits."""

    name: str
    begin: str
    """The characters of which one may stand at the beginning."""
    mark: str
    digits: int
    make: Callable[[bytes], int]
    """Reckons over what stands between the two, or with them where `whole`."""
    whole: bool = False

    def opened(self, text: str) -> str:
        """Give the text that it covers. Raises DecodeError when there is no checksum, or a wrong one."""
        covered, found, said = text.strip().rpartition(self.mark)
        if not found or len(said) < self.digits:
            raise DecodeError(Reason.TRUNCATED, f"{self.name}: {self.mark} and {self.digits} digits must end it")
        inner = covered[1:] if covered[:1] in self.begin else covered
        digits = self.over(covered if self.whole else inner)
        if said.upper() != digits:
            raise DecodeError(Reason.CHECKSUM, f"{self.name}: {said[:_SHOWN]} is written, {digits} expected")
        return inner

    def closed(self, text: str) -> str:
        """Write the text with it."""
        covered = f"{self.begin[0]}{text}"
        return f"{covered}{self.mark}{self.over(covered if self.whole else text)}"

    def over(self, text: str) -> str:
        """Reckon the digits."""
        return f"{self.make((text + self.mark if self.whole else text).encode()):0{self.digits}X}"


TEXT_CHECKSUMS: Final[Mapping[str, TextChecksum]] = {
    "nmea": TextChecksum("nmea", "$!", "*", 2, lambda data: reduce(xor, data, 0)),  # NMEA 0183, 5.2.3.8
    "dsmr": TextChecksum(  # DSMR 5.0.2 P1, 6.2: from `/` to `!`, both with it; CRC-16/ARC, the highest digit first
        "dsmr", "/", "!", 4, lambda data: crc(data, bits=16, polynomial=0x8005, reflected=True), whole=True
    ),
}
"""Name -> what `checksum` of a text means."""
