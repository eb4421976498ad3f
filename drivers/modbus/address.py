"""Where a Modbus unit is: `modbus://HOST:PORT/UNIT_ID`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from iot_core.errors import ConfigError

PORT = 502
EXPECTED = "modbus://HOST:PORT/UNIT_ID, UNIT_ID from 0 to 255"


class Endpoint(NamedTuple):
    """A gateway, or a single device, as TCP sees it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """One unit behind an endpoint."""

    endpoint: Endpoint
    unit_id: int


def parse(address: str) -> Address:
    """Take an address apart. Raises ConfigError with the expected form.

    parse("modbus://10.0.3.7:502/12")   # Address(Endpoint("10.0.3.7", 502), unit_id=12)
    """
    try:
        parts = urlsplit(address)
        port = PORT if parts.port is None else parts.port
        unit_id = int(parts.path.removeprefix("/"))
    except ValueError as exc:
        raise ConfigError("driver.modbus_bad_address", address=address, expected=EXPECTED) from exc
    if parts.scheme != "modbus" or not parts.hostname or not port or not 0 <= unit_id <= 255:
        raise ConfigError("driver.modbus_bad_address", address=address, expected=EXPECTED)
    return Address(Endpoint(parts.hostname, port), unit_id)
