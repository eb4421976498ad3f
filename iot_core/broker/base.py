"""What the core sees of its broker, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot_core.driver import BrokerEndpoint

__all__ = ["Broker"]


class Broker(ABC):
    """A broker that devices and the core connect to."""

    endpoint: BrokerEndpoint

    @property
    def kind(self) -> str:
        """`mosquitto`, `embedded` or `external`."""
        return self.endpoint.kind

    @abstractmethod
    def line(self) -> str:
        """Say in one line which broker serves, and what it lacks."""

    @abstractmethod
    async def start(self) -> None:
        """Start or adopt it, and return when it takes connections. Raises StartError."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it, if we started or adopted it."""

    @abstractmethod
    async def watch(self) -> None:
        """Keep it running and its accounts fresh, until cancelled."""

    @abstractmethod
    async def refresh(self) -> None:
        """Return when the accounts and rights of this moment are in force, so that a new device can log in at once."""
