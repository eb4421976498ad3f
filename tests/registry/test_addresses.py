"""Addresses from what a technician types and what the profile's template says."""

from __future__ import annotations

import pytest

from iot_core.errors import RequestError
from iot_core.registry.addresses import address_of, signs_in


@pytest.mark.parametrize(
    ("template", "typed", "address"),
    [
        ("iot:{address}", None, "iot:d-1"),
        ("iot:{address}", "d-1", "iot:d-1"),
        ("iot:{address}", "iot:d-1", "iot:d-1"),
        ("mqtt:tele/{address}", "lamp-7", "mqtt:tele/lamp-7"),
        ("mqtt:tele/{address}", "mqtt:tele/lamp-7", "mqtt:tele/lamp-7"),
        ("mqtt:x/{address}/rpc", "a", "mqtt:x/a/rpc"),
        ("lorawan:{address}", "24E124136D123456", "lorawan:24E124136D123456"),
        ("modbus://{address}", "10.0.3.7:502/12", "modbus://10.0.3.7:502/12"),
        ("modbus://{address}", "10.0.3.7/12", "modbus://10.0.3.7:502/12"),
        ("modbus://{address}", "modbus://Gateway.local:1502/001", "modbus://gateway.local:1502/1"),
        ("modbus://{address}", "[fe80::1]:502/0", "modbus://[fe80::1]:502/0"),
        ("modbus://{address}", "rtu@Moxa-3:4001/012", "modbus://rtu@moxa-3:4001/12"),
        ("modbus://{address}", "/dev/ttyUSB0:9600-8n1/7", "modbus:///dev/ttyUSB0:9600-8N1/7"),
        ("modbus://{address}", "modbus://com3:19200-8E1/247", "modbus://COM3:19200-8E1/247"),
        (
            "modbus://{address}",
            "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0:9600-8N1/1",
            "modbus:///dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0:9600-8N1/1",
        ),
    ],
)
def test_an_address_is_completed_from_its_template(template: str, typed: str | None, address: str) -> None:
    assert address_of("d-1", template, typed) == address


@pytest.mark.parametrize(
    ("template", "typed", "code"),
    [
        ("iot:{address}", "d-2", "registry.address_is_key"),
        ("mqtt:tele/{address}", None, "registry.address_needed"),
        ("modbus://{address}", None, "registry.address_needed"),
        ("mqtt:tele/{address}", "+", "registry.bad_address"),
        ("mqtt:tele/{address}", "a/#", "registry.bad_address"),
        ("mqtt:tele/{address}", "a\tb", "registry.bad_address"),
        ("mqtt:tele/{address}", " a", "registry.bad_address"),
        ("mqtt:tele/{address}", "a\nuser root", "registry.bad_address"),
        ("mqtt:tele/{address}", "", "registry.bad_address"),
        ("mqtt:tele/{address}", "mqtt:tele/", "registry.bad_address"),
        ("mqtt:tele/{address}", "modbus://10.0.0.1/1", "registry.bad_address"),
        ("modbus://{address}", "10.0.3.7", "registry.bad_address"),
        ("modbus://{address}", "10.0.3.7:70000/1", "registry.bad_address"),
        ("modbus://{address}", "10.0.3..7/1", "registry.bad_address"),
        ("coap://{address}", "10.0.3..8", "registry.bad_address"),
        ("coap://{address}", "[::1::]", "registry.bad_address"),
        ("coap://{address}", f"{'a' * 64}.example.vn", "registry.bad_address"),
        ("modbus://{address}", "10.0.3.7:502/256", "registry.bad_address"),
        ("modbus://{address}", "10.0.3.7:502/x", "registry.bad_address"),
        ("modbus://{address}", "/dev/ttyUSB0/7", "registry.bad_address"),
        ("modbus://{address}", "/dev/ttyUSB0:9600-7N1/7", "registry.bad_address"),
        ("modbus://{address}", "/dev/ttyUSB0:9600-8N1/248", "registry.bad_address"),
        ("modbus://{address}", "rtu@/dev/ttyUSB0:9600-8N1/1", "registry.bad_address"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(template: str, typed: str | None, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        address_of("d-1", template, typed)
    assert caught.value.code == code
    assert caught.value.facts["key"] == "d-1"


def test_a_secret_is_for_who_signs_in() -> None:
    assert signs_in("iot:a", behind_gateway=True)
    assert signs_in("mqtt:tele/a", behind_gateway=False)
    assert not signs_in("mqtt:tele/a", behind_gateway=True)
    assert not signs_in("modbus://10.0.0.1:502/1", behind_gateway=False)
