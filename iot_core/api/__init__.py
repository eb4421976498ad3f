"""The HTTP API and the page. Its shapes are shared with the client, which has no server parts installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from iot_core.api.services import Services

__all__ = ["make_app"]


def make_app(services: Services) -> web.Application:
    """Build the application: API, page, health, metrics."""
    from iot_core.api.application import build  # noqa: PLC0415 - the client imports this package for its shapes alone

    return build(services)
