"""Where a unit is reached, from what a technician typed and the template of its profile. Pure.

template                 typed                  address
iot:{address}            -                      iot:aq-001 (the device's key)
mqtt:tele/{address}      lamp-7                 mqtt:tele/lamp-7
modbus://{address}       10.0.3.7/12            modbus://10.0.3.7:502/12
modbus://{address}       /dev/ttyUSB0:9600-8n1/12    modbus:///dev/ttyUSB0:9600-8N1/12
coap://{address}         10.0.3.8               coap://10.0.3.8:5683
sparkplug:{address}      park/node-1/lamp-7     sparkplug:park/node-1/lamp-7
camera://{address}       10.0.3.9               camera://10.0.3.9 (another driver's: as it was typed)
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv6Address
from typing import Final

from iot_core.errors import RequestError

__all__ = ["NATIVE", "address_of", "signs_in"]

NATIVE: Final = "iot:"
_SPARKPLUG: Final = "sparkplug:"
_SCHEMES: Final = ("iot:", "mqtt:", "modbus:", "lorawan:", "sparkplug:", "coap:")
_MODBUS: Final = re.compile(
    r"modbus://(?P<rtu>rtu@)?(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?/(?P<unit>[0-9]{1,3})"
)
_SERIAL: Final = re.compile(
    r"modbus://(?P<port>/[^\s:?#]+(?::[^\s:?#]+)*|(?i:com)[1-9][0-9]{0,2})"
    r":(?P<line>[1-9][0-9]{2,6}-8[NEOneo][12])/(?P<unit>[0-9]{1,3})"
)
_MODBUS_EXPECTED: Final = "modbus://HOST:PORT/UNIT_ID, rtu@HOST:PORT/UNIT_ID or /dev/PORT:9600-8N1/UNIT_ID"
_MODBUS_PORT: Final = 502
_COAP: Final = re.compile(
    r"coap://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?(?P<base>/[^?#]*)?"
)
_COAP_PORT: Final = 5683
_NAMED: Final = re.compile(r"[a-z][a-z0-9+.-]*://")


def address_of(key: str, template: str, typed: str | None) -> str:
    """Give the whole address of a device's unit. Raises RequestError saying what was expected."""
    if template.startswith(NATIVE):
        if typed not in {None, key, NATIVE + key}:
            raise RequestError("registry.address_is_key", key=key, address=typed)
        return NATIVE + key
    before, _, after = template.partition("{address}")
    if typed is None:
        raise RequestError("registry.address_needed", key=key, expected=before + "..." + after)
    whole = typed.startswith(before) and typed.endswith(after) and len(typed) > len(before + after)
    address = typed if whole else before + typed + after
    if not _is_clean(typed) or typed == before or _names_another_scheme(typed, before):
        raise RequestError("registry.bad_address", key=key, address=typed, expected=before + "..." + after)
    own = _OWN_FORMS.get(address.partition(":")[0])
    return own(key, address) if own is not None else address


def signs_in(address: str, *, behind_gateway: bool) -> bool:
    """Say whether a unit shows a secret of its own: natively always, else unless a gateway speaks for it."""
    if address.startswith(_SPARKPLUG):  # an edge node also signs in for the devices behind it
        return address.count("/") == 1 and not behind_gateway
    return address.startswith(NATIVE) or (address.startswith("mqtt:") and not behind_gateway)


def _is_clean(typed: str) -> bool:
    """Refuse what would match more than one sender, or cannot be read back: wildcards, blanks, controls.

    A space inside is what people put into the names of a bridge's devices.
    """
    blank = any(letter.isspace() and letter != " " for letter in typed)
    wild = any(letter in "+#" or unicodedata.category(letter).startswith("C") for letter in typed)
    return bool(typed) and typed == typed.strip() and not blank and not wild


def _names_another_scheme(typed: str, before: str) -> bool:
    return (typed.startswith(_SCHEMES) or bool(_NAMED.match(typed))) and not typed.startswith(before)


def _is_host(typed: str) -> bool:
    """Refuse what no resolver takes: `10.0.3..8`, a label of more than 63 letters, `[::1::]`."""
    if typed.startswith("["):
        try:
            return bool(IPv6Address(typed.strip("[]")))
        except ValueError:
            return False
    return all(0 < len(label) < 64 for label in typed.removesuffix(".").split("."))


def _modbus(key: str, address: str) -> str:
    """Spell an address in the one way that drivers/modbus/address.py reads."""
    serial, parts = _SERIAL.fullmatch(address), _MODBUS.fullmatch(address)
    if serial is not None and 1 <= int(serial["unit"]) <= 247:
        port = serial["port"] if serial["port"].startswith("/") else serial["port"].upper()
        return f"modbus://{port}:{serial['line'].upper()}/{int(serial['unit'])}"
    port_number = int((parts and parts["port"]) or _MODBUS_PORT)
    if parts is None or not 0 < port_number < 65_536 or int(parts["unit"]) > 255 or not _is_host(parts["host"]):
        raise RequestError("registry.bad_address", key=key, address=address, expected=_MODBUS_EXPECTED)
    return f"modbus://{parts['rtu'] or ''}{parts['host'].lower()}:{port_number}/{int(parts['unit'])}"


def _sparkplug(key: str, address: str) -> str:
    levels = address.removeprefix(_SPARKPLUG).split("/")
    if len(levels) not in {2, 3} or not all(levels):
        expected = "sparkplug:GROUP/NODE, or sparkplug:GROUP/NODE/DEVICE"
        raise RequestError("registry.bad_address", key=key, address=address, expected=expected)
    return address


def _coap(key: str, address: str) -> str:
    parts = _COAP.fullmatch(address)
    port = int((parts and parts["port"]) or _COAP_PORT)
    if parts is None or not 0 < port < 65_536 or not _is_host(parts["host"]):
        raise RequestError("registry.bad_address", key=key, address=address, expected="coap://HOST:PORT")
    return f"coap://{parts['host'].lower()}:{port}{(parts['base'] or '').rstrip('/')}"


_OWN_FORMS: Final = {"modbus": _modbus, "coap": _coap, "sparkplug": _sparkplug}
