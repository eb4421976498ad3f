"""Which network addresses a push target may have: public ones, unless private ones are allowed in the settings.

The address is resolved and checked at the moment of connecting, and that very address is connected to: a name that
pointed somewhere harmless when the target was added cannot lead into our own network later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
from typing import Any, Final

from yarl import URL

from iot_core.errors import RequestError

RESOLVE_TIMEOUT_S: Final = 5.0
_EMBED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""An IPv4 address is the last 32 bits: NAT64 (RFC 6052), IPv4-compatible (RFC 4291), translated (RFC 7915)."""
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Where the IPv4 address stands is each network's own business (RFC 8215): never out in the world."""
_DIGITS: Final = re.compile(r"[0-9a-fA-FxX.]+")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PrivateAddressError(OSError):
    """Raised when a name leads to an address that targets must not have."""


def is_public(host: str) -> bool:
    """Say whether an IP address is out in the world, seen through every wrapping of IPv4 in IPv6."""
    address: _Address = ipaddress.ip_address(host.partition("%")[0])
    return all(inner.is_global and not inner.is_multicast for inner in _unwrapped(address))


def literal(host: str) -> str | None:
    """Give the address if a URL's host is one, in whichever spelling the system takes: `127.1`, `2130706433`.

    The system asks no name server about a host of digits and points, so what these mean must be known before.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if _DIGITS.fullmatch(host) else None
    except OSError:
        return None


def parse_url(url: str) -> URL:
    """Check the form of a target's URL. Raises RequestError; the text of a refused URL is not repeated."""
    try:
        parsed = URL(url.strip())
        port = parsed.port
    except ValueError as exc:
        raise RequestError("push.bad_url") from exc
    if parsed.scheme not in {"http", "https"} or not parsed.host or not port:
        raise RequestError("push.bad_url")
    if parsed.user is not None or parsed.password is not None:
        raise RequestError("push.userinfo")
    return parsed.with_fragment(None)


async def check_reachable(host: str, port: int, *, allow_private: bool) -> None:
    """Refuse a host that does not resolve or leads to a private address. Raises RequestError."""
    found = [literal(host)] if literal(host) is not None else await _lookup(host, port)
    if not allow_private and not all(is_public(address) for address in found if address is not None):
        raise RequestError("push.private", host=host)


def shown_url(url: str) -> str:
    """Give a URL for people: tokens that services put into queries are left out."""
    parsed = URL(url).with_user(None)
    return str(parsed.with_query(None)) + ("?…" if parsed.query_string else "")


async def allowed_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Give the addresses of a host that may be connected to. Raises PrivateAddressError when there is none, OSError."""
    address = literal(host)
    found = [address] if address is not None else await resolve(host, port)
    allowed = [each for each in found if allow_private or is_public(each)]
    if not allowed:
        raise PrivateAddressError(host)
    return allowed


async def resolve(host: str, port: int) -> list[str]:
    """Give the addresses of a name. Raises OSError.

    In a daemon thread of its own, so that a dead name server delays neither other targets nor our end.
    """
    return [address for _, address in await _getaddrinfo(host, port, socket.AF_UNSPEC)]


async def _lookup(host: str, port: int) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            return await resolve(host, port)
    except (OSError, UnicodeError) as exc:
        raise RequestError("push.unresolved", host=host) from exc


async def _getaddrinfo(host: str, port: int, family: int) -> list[tuple[int, str]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[int, str]]] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            result = [(int(info[0]), str(info[4][0])) for info in infos]
        except (OSError, UnicodeError) as exc:
            error = exc if isinstance(exc, OSError) else OSError("not a host name")
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="push resolve", daemon=True).start()
    return await answer


def _unwrapped(address: _Address) -> list[_Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _LOCAL_NAT64:
        return [ipaddress.IPv6Address("::1")]
    if any(address in network for network in _EMBED):
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner: list[_Address] = [address]
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    return inner
