"""What the API works with; made by app.py, passed in whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from iot_core.asking import Asking
    from iot_core.broker import Broker
    from iot_core.claiming import Claiming
    from iot_core.commanding import Commanding, Twins
    from iot_core.counters import Counters
    from iot_core.ingest.load import Loader
    from iot_core.ingest.replay import Replayed, Selection
    from iot_core.profiles import Profiles
    from iot_core.registry.authority import Authority
    from iot_core.settings import Settings
    from iot_core.store.vault import Vault

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Collaborators of the handlers.

    `readers` is the small pool for what may take long: its statements are bounded, and cannot take ingest's place.
    `replay_address(address)` is awaited after a unit was mounted at an address that has uplinks in the inbox: it runs
    them through the ingest path, where the new unit must be known by then, and says how many it took.
    `load` merges rows of files. `replay_held(selection, after)` does one step of a replay that a person asked for.
    `vault` seals the secrets that must be shown or computed with again.
    `healthy` is False while ingest lags or the store is away. `broker`, `asking`, `commanding` and `claiming`
    (the drivers) are None where none run (tests).
    """

    pool: asyncpg.Pool
    readers: asyncpg.Pool
    profiles: Profiles
    settings: Settings
    counters: Counters
    replay_address: Callable[[str], Awaitable[int]]
    load: Loader
    replay_held: Callable[[Selection, int], Awaitable[Replayed]]
    healthy: Callable[[], bool]
    vault: Vault
    broker: Broker | None = None
    asking: Asking | None = None
    commanding: Commanding | None = None
    twins: Twins | None = None
    claiming: Claiming | None = None
    authority: Authority | None = None
    """Signs certificates; None where there is no state directory (tests)."""
