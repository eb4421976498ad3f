"""Which device was meant, when the key that was typed is none."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from iot_core.errors import IotError, NotFoundError

if TYPE_CHECKING:
    from iot_core.client import Client

__all__ = ["better"]

FEW = 3
CANDIDATES = 1_000


async def better(client: Client, error: NotFoundError) -> NotFoundError:
    """Say an unknown device again with the keys that are near it; any other error stays as it is."""
    if error.code != "registry.no_device":
        return error
    key = str(error.facts.get("key", ""))
    try:
        names = difflib.get_close_matches(key, await _candidates(client, key), n=FEW)
    except IotError:
        return error  # the first error is the one to tell
    return NotFoundError("cli.device_unknown_like", key=key, names=", ".join(names)) if names else error


async def _candidates(client: Client, key: str) -> list[str]:
    """Take devices that share the beginning of the key; when none does, the first ones there are."""
    begin = key.partition("-")[0]
    for search in (begin, None):
        found = await client.devices(search=search, limit=CANDIDATES)
        if found.items:
            return [device.key for device in found.items]
    return []
