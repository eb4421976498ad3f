"""Which gateways may be asked at all: Modbus has no passwords, so this list keeps us to the field. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from drivers.modbus.address import Line, Place
from iot_core.errors import ConfigError

__all__ = ["require_allowed"]


def require_allowed(place: Place, allowed: Sequence[str]) -> None:
    """Raise ConfigError for a gateway outside the networks and host names of `modbus.gateways` (empty: all may).

    A serial line is at this machine, so it may. A host name must stand in the list: what it resolves to may change.
    """
    if not allowed or isinstance(place, Line) or any(_covers(each, place.host) for each in allowed):
        return
    raise ConfigError("modbus.not_allowed", place=str(place), allowed=", ".join(allowed))


def _covers(entry: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return entry.lower() == host.lower()
