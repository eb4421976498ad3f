"""A broker elsewhere: somebody else runs it, and it asks us over HTTP who may log in and speak where."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from iot_core.broker.base import Broker
from iot_core.driver import BrokerEndpoint
from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.settings import Mqtt

__all__ = ["External"]


class External(Broker):
    """Only a place to connect to."""

    def __init__(self, settings: Mqtt) -> None:
        self.endpoint = BrokerEndpoint(
            host=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=settings.password or None,
            window=settings.window,
            kind="external",
        )

    def line(self) -> str:
        """Say where it is."""
        return text("broker.external", host=self.endpoint.host, port=self.endpoint.port)

    async def start(self) -> None:
        """Leave it alone; the driver connects when it answers."""

    async def stop(self) -> None:
        """Leave it alone."""

    async def watch(self) -> None:
        """Wait: it asks us, we tell it nothing."""
        await asyncio.Event().wait()

    async def refresh(self) -> None:
        """Do nothing: every question is answered from the registry."""
