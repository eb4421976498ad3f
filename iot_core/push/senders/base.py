"""The contract of a sender, and what all of them may use."""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

from iot_core.push.addresses import PrivateAddressError, is_public, literal, resolve
from iot_core.push.answer import Answer
from iot_core.push.parcel import Parcel

__all__ = ["PLACES", "Access", "Home", "Sender", "reachable", "word"]


@dataclass(frozen=True, slots=True)
class Home:
    """Our own broker, for targets that name a topic and no host. The password stays out of every text."""

    host: str
    port: int
    username: str | None
    password: str | None
    socket: str = ""

    def __repr__(self) -> str:
        return f"Home({self.host}:{self.port})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the settings allow every sender."""

    allow_private: bool
    timeout_s: float
    home: Home | None = None


PLACES: Final = 4
"""Messages on their way at once to one target of which we do not know that it answers."""


class Sender(ABC):
    """Sends to one target. `places`: how many messages may be on their way at once while it answers."""

    places: int = PLACES

    @abstractmethod
    async def send(self, parcel: Parcel) -> Answer:
        """Try once, within the access's time. Never raises for what the other side does."""

    async def close(self) -> None:  # noqa: B027 - most keep nothing
        """Give back what is kept open."""


def word(exc: OSError) -> str:
    """Say what went wrong in a code; texts of libraries repeat hosts and more."""
    for kind, code in _WORDS.items():
        if isinstance(exc, kind):
            return code
    return "unreachable"


_WORDS: Final[dict[type[OSError], str]] = {
    PrivateAddressError: "private_address",
    ssl.SSLError: "tls",
    TimeoutError: "timeout",
    socket.gaierror: "unresolved",
}


async def reachable(host: str, port: int, access: Access) -> str:
    """Give an address of a host that may be connected to. Raises PrivateAddressError or OSError."""
    address = literal(host)
    found: list[Any] = [address] if address is not None else await resolve(host, port)
    for each in found:
        if access.allow_private or is_public(each):
            return str(each)
    raise PrivateAddressError(host)
