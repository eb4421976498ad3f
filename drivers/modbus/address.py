"""Where a Modbus unit is. One scheme; what stands before the unit id says how its gateway is reached.

modbus://10.0.3.7:502/12                  Modbus TCP
modbus://rtu@10.0.3.7:4001/12             RTU frames over TCP: a serial server that passes bytes on
modbus:///dev/ttyUSB0:9600-8N1/12         RTU on a serial port; the line as a manual writes it
modbus://COM3:19200-8E1/12                ... of Windows
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from iot_core.errors import ConfigError

__all__ = ["EXPECTED", "LINES", "Address", "Endpoint", "Line", "Place", "parse", "parse_line", "parse_place"]

PORT: Final = 502
EXPECTED: Final = (
    "modbus://HOST:PORT/UNIT_ID, modbus://rtu@HOST:PORT/UNIT_ID"
    " or modbus:///dev/PORT:9600-8N1/UNIT_ID; UNIT_ID 0 to 255, on a serial line 1 to 247"
)
LINES: Final = ("9600-8N1", "9600-8E1", "19200-8E1", "19200-8N1")
"""What devices are shipped with most often; the specification's default is the third."""

_SCHEME: Final = "modbus://"
_HOST: Final = re.compile(r"(rtu@)?(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::([1-9][0-9]{0,4}))?")
_SERIAL: Final = re.compile(r"(/[^\s:?#]+(?::[^\s:?#]+)*|COM[1-9][0-9]{0,2}):([1-9][0-9]{2,6}-8[NEO][12])")
_LINE: Final = re.compile(r"([1-9][0-9]{2,6})-8([NEO])([12])")
_UNIT: Final = re.compile(r"0|[1-9][0-9]{0,2}")


class Endpoint(NamedTuple):
    """A gateway, or a single device, as TCP reaches it. `rtu`: it passes serial frames on as they are."""

    host: str
    port: int
    rtu: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rtu@' if self.rtu else ''}{host}:{self.port}"


class Line(NamedTuple):
    """A serial line and how it is set: eight data bits, always."""

    port: str
    baud: int
    parity: str
    stop_bits: int

    @property
    def rtu(self) -> bool:
        return True

    @property
    def byte_s(self) -> float:
        """How long one byte takes: start, eight bits, parity, stop."""
        return (9 + (self.parity != "N") + self.stop_bits) / self.baud

    @property
    def quiet_s(self) -> float:
        """The silence between two frames: 3.5 bytes, 1.75 ms above 19,200 baud (section 2.5.1.1)."""
        return 0.00175 if self.baud > 19_200 else 3.5 * self.byte_s

    def __str__(self) -> str:
        return f"{self.port}:{self.baud}-8{self.parity}{self.stop_bits}"


Place = Endpoint | Line


@dataclass(frozen=True, slots=True)
class Address:
    """One unit behind a place."""

    place: Place
    unit_id: int

    def __str__(self) -> str:
        return f"{_SCHEME}{self.place}/{self.unit_id}"


def parse(address: str) -> Address:
    """Take an address apart. Raises ConfigError with the expected forms.

    parse("modbus://10.0.3.7:502/12")             # Address(Endpoint("10.0.3.7", 502), unit_id=12)
    parse("modbus:///dev/ttyUSB0:9600-8N1/12")    # Address(Line("/dev/ttyUSB0", 9600, "N", 1), unit_id=12)
    """
    before, _, unit = address.removeprefix(_SCHEME).rpartition("/")
    place = _place(before)
    if not address.startswith(_SCHEME) or place is None or not _UNIT.fullmatch(unit):
        raise ConfigError("driver.modbus_bad_address", address=address, expected=EXPECTED)
    lowest, highest = (1, 247) if isinstance(place, Line) else (0, 255)
    if not lowest <= int(unit) <= highest:
        raise ConfigError("driver.modbus_bad_address", address=address, expected=EXPECTED)
    return Address(place, int(unit))


def parse_place(text: str) -> Place:
    """Take what stands before the unit id: `10.0.3.7`, `rtu@10.0.3.7:4001`, `/dev/ttyUSB0:9600-8N1`.

    Raises ConfigError.
    """
    place = _place(text.removeprefix(_SCHEME).removesuffix("/"))
    if place is None:
        raise ConfigError("modbus.bad_place", place=text)
    return place


def parse_line(port: str, settings: str) -> Line:
    """Take a serial port's settings apart: `9600-8N1`. Raises ConfigError."""
    found = _LINE.fullmatch(settings)
    if found is None:
        raise ConfigError("modbus.bad_line", line=settings)
    return Line(port, int(found[1]), found[2], int(found[3]))


def _place(text: str) -> Place | None:
    serial = _SERIAL.fullmatch(text)
    if serial is not None:
        return parse_line(serial[1], serial[2])
    host = _HOST.fullmatch(text)
    if host is None:
        return None
    port = int(host[4] or PORT)
    return Endpoint(host[2] or host[3], port, bool(host[1])) if port < 65_536 else None
