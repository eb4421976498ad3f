"""Which device, area, class or push target was meant, when the key that was typed is none."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from iot_core.errors import IotError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot_core.client import Client

__all__ = ["better"]

FEW = 3
CANDIDATES = 1_000


async def better(client: Client, error: NotFoundError) -> NotFoundError:
    """Say an unknown key again with those that are near it; any other error stays as it is."""
    if error.code not in _SOUGHT:
        return error
    candidates, code = _SOUGHT[error.code]
    key = str(error.facts.get("key", ""))
    try:
        names = difflib.get_close_matches(key, await candidates(client, key), n=FEW)
    except IotError:
        return error  # the first error is the one to tell
    return NotFoundError(code, key=key, names=", ".join(names)) if names else error


async def _devices(client: Client, key: str) -> list[str]:
    """Take devices that share the beginning of the key; when none does, the first ones there are."""
    begin = key.partition("-")[0]
    for search in (begin, None):
        found = await client.devices(search=search, limit=CANDIDATES)
        if found.items:
            return [device.key for device in found.items]
    return []


async def _areas(client: Client, _: str) -> list[str]:
    return [area.key for area in (await client.areas()).items]


async def _targets(client: Client, _: str) -> list[str]:
    return [target.key for target in (await client.push_targets()).items]


async def _classes(client: Client, _: str) -> list[str]:
    return [each.key for each in (await client.classes()).items]


_SOUGHT: dict[str, tuple[Callable[[Client, str], Awaitable[list[str]]], str]] = {
    "registry.no_device": (_devices, "cli.device_unknown_like"),
    "registry.no_area": (_areas, "cli.area_unknown_like"),
    "push.class_unknown": (_classes, "cli.class_unknown_like"),
    "push.not_found": (_targets, "cli.push_unknown_like"),
}
