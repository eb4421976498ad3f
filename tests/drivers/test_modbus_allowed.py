"""Modbus has no passwords: only gateways of the list are asked."""

from __future__ import annotations

import pytest

from drivers.modbus.address import parse
from drivers.modbus.allowed import require_allowed
from iot_core.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "allowed", "may"),
    [
        ("modbus://10.0.3.7:502/1", (), True),
        ("modbus://10.0.3.7:502/1", ("10.0.3.0/24",), True),
        ("modbus://10.0.3.7:502/1", ("10.0.3.7",), True),
        ("modbus://10.0.4.7:502/1", ("10.0.3.0/24", "gw.city.example"), False),
        ("modbus://gw.city.example:502/1", ("10.0.3.0/24", "GW.city.example"), True),
        ("modbus://gw.evil.example:502/1", ("0.0.0.0/0",), False),
        ("modbus://rtu@[2001:db8::1]:4001/1", ("2001:db8::/32",), True),
        ("modbus:///dev/ttyUSB0:9600-8N1/7", ("10.0.3.0/24",), True),
    ],
)
def test_only_gateways_of_the_list_may_be_asked(address: str, allowed: tuple[str, ...], *, may: bool) -> None:
    place = parse(address).place
    if may:
        require_allowed(place, allowed)
        return
    with pytest.raises(ConfigError, match="not_allowed"):
        require_allowed(place, allowed)
