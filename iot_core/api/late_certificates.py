"""aiohttp without the machine's certificates, until a connection needs them.

aiohttp reads all certificates that the machine trusts when it is imported: more than half of the CPU time of a short
command, and most speak to a core on this machine or to one that they know by its fingerprint.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

__all__ = ["late_certificates"]

_now = ssl.create_default_context


class _Late(ssl.SSLContext):
    """What `ssl.create_default_context` makes, made at the first connection."""

    _protocols: tuple[str, ...] = ()

    @cached_property
    def _made(self) -> ssl.SSLContext:
        context = _now()
        context.set_alpn_protocols(self._protocols)
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._protocols = tuple(alpn_protocols)

    def wrap_bio(self, *asked: Any, **how: Any) -> ssl.SSLObject:
        return self._made.wrap_bio(*asked, **how)

    def wrap_socket(self, *asked: Any, **how: Any) -> ssl.SSLSocket:
        return self._made.wrap_socket(*asked, **how)


@contextmanager
def late_certificates() -> Iterator[None]:
    """Let aiohttp be imported in the block. It makes a context that verifies, and one that does not and needs none."""

    def later(*_: object, **__: object) -> ssl.SSLContext:
        return _Late(ssl.PROTOCOL_TLS_CLIENT)

    ssl.create_default_context = later
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        ssl.create_default_context = _now
        del ssl.SSLContext.set_default_verify_paths  # the one of its base is there again
