"""The resources of a device that is a CoAP server: what to ask it for, and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from iot_core.profiles.classes import read_duration
from iot_core.profiles.profile import Route
from iot_core.profiles.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot_core.profiles.document import Document, Place
    from iot_core.profiles.formats import Format

__all__ = ["CoapMap", "CoapSpec", "Resource", "compile_resources"]

FORMATS: Final = ("native", "json", "cbor", "protobuf", "senml", "text", "bytes", "presence")
_SETTINGS: Final = frozenset({"observe", "every", "accept"})
_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*(\?[^\s#]+)?")


class CoapSpec(Table, frozen=True, kw_only=True):
    """The keys of `coap`: a device that is a CoAP server, which we ask (address `coap://{address}`: `HOST:PORT`)."""

    sleepy: bool = False
    """It sleeps most of the time: its silence is asked about rarely, and a command waits until it is heard."""
    resources: dict[str, Any]
    """Path below the unit's address -> the format spoken there, with `observe`, `every` and `accept` beside it."""


class ResourceSpec(Table, frozen=True, kw_only=True):
    """What stands beside the format of a resource."""

    observe: bool = True
    """Ask to be told of changes (RFC 7641); a device that cannot is asked every `every`."""
    every: str = ""
    """How often it is asked, or at the least speaks: the profile's interval unless said."""
    accept: int | None = None
    """The Content-Format to ask for: 50 JSON, 60 CBOR, 110 SenML JSON, 112 SenML CBOR."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: its path (and query) below the unit's address."""

    path: str
    observe: bool
    every: timedelta
    accept: int | None


@dataclass(frozen=True, slots=True)
class CoapMap:
    """All resources of a model."""

    resources: tuple[Resource, ...]
    sleepy: bool = False


def compile_resources(
    document: Document, place: Place, interval: timedelta, read: Callable[[Place, str], Format]
) -> tuple[CoapMap, tuple[Route, ...]]:
    """Compile `coap`; `read` compiles a format. Raises ConfigError."""
    spec = document.read(place, CoapSpec)
    resources: list[Resource] = []
    routes: list[Route] = []
    for path in document.table((*place, "resources")):
        where: Place = (*place, "resources", path)
        if not _PATH.fullmatch(path):
            raise document.error(where, "a path without a leading slash, such as 3416/0 or sensors/air?unit=c")
        table = document.table(where)
        kinds = [key for key in table if key not in _SETTINGS]
        if len(kinds) != 1 or kinds[0] not in FORMATS:
            raise document.error(where, f"exactly one of {', '.join(FORMATS)}")
        said = document.convert(where, {key: table[key] for key in table if key in _SETTINGS}, ResourceSpec)
        every = read_duration(document, (*where, "every"), said.every) if said.every else interval
        if every.total_seconds() < 1:
            raise document.error((*where, "every"), "at least 1s")
        resources.append(Resource(path, said.observe, every, said.accept))
        routes.append(Route(path, read((*where, kinds[0]), kinds[0]), re.compile(re.escape(path))))
    return CoapMap(tuple(resources), spec.sleepy), tuple(routes)
