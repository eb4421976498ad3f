"""Free ports on loopback."""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import ExitStack
from random import sample
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_KINDS: Final = (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
_OURS: Final = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, of which a benchmark opens thousands beside us."""


def free_ports() -> tuple[int, int, int]:
    """Find ports that nothing uses: two for TCP, one for UDP."""
    with ExitStack() as held:  # all bound at once, so that they differ
        bound = [held.enter_context(socket.socket(socket.AF_INET, kind)) for kind in _KINDS]
        for each in bound:
            _bind(each)
        api, mqtt, coap = (each.getsockname()[1] for each in bound)
        return api, mqtt, coap


def _bind(free: socket.socket) -> None:
    for port in (*sample(_OURS, 20), 0):
        try:
            free.bind((LOOPBACK, port))
        except OSError:
            continue
        return
    raise OSError("no free port")


def free_port(wanted: int = 0, *, avoid: Collection[int] = (), host: str = LOOPBACK) -> int:
    """Give `wanted` when nothing listens there, else any free port; none of `avoid`."""
    for port in (wanted, *(0,) * 20):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
        if found not in avoid:
            return found
    raise OSError("no free port")
