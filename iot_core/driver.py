"""The driver contract: how one protocol reaches the ingest path, and nothing else.

    core                                  driver
     |  run(units, emit)  ---------------->|   until cancelled
     |<------------- await emit(uplink) ---|   waits for queue room
     |  await uplink.done(outcome) ------->|   once, after COMMIT: acknowledge now
     |  send(unit, command) -------------->|   how far it came: sent, delivered, succeeded
     |  read(unit) ----------------------->|   ask now; the uplink is the answer

A driver is found through the entry point group `iot_core.drivers`; the entry point names the class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from iot_core.errors import CommandRejected
from iot_core.model import Uplink

if TYPE_CHECKING:
    import asyncio
    import ssl
    from datetime import datetime

    from iot_core.model import Command, CommandState, Credential, MountedUnit
    from iot_core.profiles import Profiles
    from iot_core.settings import Settings

Emit = Callable[[Uplink], Awaitable[None]]
"""Hand an uplink to the ingest path. Waits for queue room; raises StoreUnavailable when the store is away."""


class Units(Protocol):
    """A live view of the mounted units."""

    def at(self, address: str) -> MountedUnit | None:
        """Return the unit mounted at `address`, or None."""
        ...

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        """Return the units whose address starts with `scheme:` (`modbus`, `mqtt`, `iot`, ...)."""
        ...

    async def changed(self) -> None:
        """Wait until a unit was mounted, dismounted or changed. Several changes may be told as one."""
        ...


class Authenticate(Protocol):
    """Check a device's secret against the registry, through a cache."""

    async def __call__(self, device_key: str, secret: str) -> bool: ...

    def remembers(self, device_key: str, secret: str) -> bool:
        """Say without waiting whether this is known to be right; False only means that it is not known."""
        ...


class Count(Protocol):
    """Count an event by name (`coap_unauthorized`); shown by /metrics. Never given anything a sender chose."""

    def __call__(self, event: str, by: int = 1, /) -> None: ...


@dataclass(frozen=True, slots=True)
class BrokerEndpoint:
    """Where the MQTT driver connects, and as whom. `window` is how many messages the broker keeps in flight."""

    host: str
    port: int
    username: str | None
    password: str | None
    window: int
    kind: str
    """`mosquitto`, `embedded` or `external`."""
    socket: str = ""
    """Path of a Unix socket for the core itself, empty where there is none; devices always use host and port."""


async def _nobody_asked(uplink: Uplink) -> None:
    """Stand in where no commands are sent."""
    if uplink.settle is not None:
        await uplink.settle([uplink.token], {})


class Credentials(Protocol):
    """The credentials that are kept for units, by kind (`login`, `oscore`; `oscore_next` waits to take over)."""

    async def of(self, unit_id: int, kind: str) -> Credential | None:
        """Give a unit's credential, None where none is kept. Raises StoreUnavailable."""
        ...

    async def reserve(self, unit_id: int, kind: str, count: int) -> int:
        """Take `count` numbers that were never given before, for nonces; give the first. Raises StoreUnavailable."""
        ...

    async def take_over(self, unit_id: int, kind: str, used: Credential) -> bool:
        """Let the one that waits take over, which its device has used; False when it does not wait any more.

        Raises StoreUnavailable.
        """
        ...


class Sessions(Protocol):
    """What a driver must know of its sessions again after a restart, by address, in the driver's own form."""

    async def recall(self, address: str) -> Mapping[str, bytes]:
        """Give what was remembered of an address and of those below it (`ADDRESS/...`). Raises StoreUnavailable."""
        ...

    async def remember(self, states: Mapping[str, bytes]) -> None:
        """Remember states by address, in place of those before. Raises StoreUnavailable."""
        ...

    async def waiting(self, address: str, since: datetime, after: int) -> Sequence[tuple[int, bytes, Uplink]]:
        """Give some of the uplinks that are held of an address until it is born: number, mark and message.

        Received after `since`, with a number above `after`, the oldest first; none when there are no more. Raises
        StoreUnavailable.
        """
        ...

    async def mend(self, mark: bytes, payload: bytes) -> None:
        """Hold a message with this payload in place of the one that it came with. Raises StoreUnavailable."""
        ...

    async def let_go(self, mark: bytes) -> None:
        """Hold a message no longer: it went through the path again. Raises StoreUnavailable."""
        ...


class ClaimState(StrEnum):
    """What becomes of a claim for now."""

    ACCEPTED = "accepted"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim; `body` is the JSON that goes to the device."""

    state: ClaimState
    body: bytes


class Claim(Protocol):
    """Takes the claims of new devices (docs/provisioning.md)."""

    async def __call__(
        self, said: bytes, *, driver: str, came_from: str | None, login: tuple[str, str] | None = None
    ) -> Claimed:
        """Answer one; `login` is batch and key where they are not in the body.

        Raises RequestError for what is no claim, StoreUnavailable.
        """
        ...

    async def admits(self, batch: str, key: str, *, driver: str, came_from: str | None) -> bool:
        """Say whether somebody with this batch key may ask at all. Raises StoreUnavailable."""
        ...

    async def let_in(self) -> None:
        """Return when the broker knows the secrets of this moment, or it takes too long."""
        ...

    def decision(self, said: bytes) -> asyncio.Future[None]:
        """Give what is done once a person has decided about this claim, so that it is worth asking again.

        Cancelled by whoever waits no more. Raises RequestError for what is no claim.
        """
        ...


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What every driver may use. Collaborators are passed in; a driver reads no environment and no registry."""

    settings: Settings
    profiles: Profiles
    authenticate: Authenticate
    broker: BrokerEndpoint
    count: Count
    credentials: Credentials | None = None
    said: Callable[[Uplink], Awaitable[None]] = _nobody_asked
    """Told what native devices say of commands and configuration: uplinks of the kinds `commands/result` and
    `config/reported`, settled after COMMIT like any other. Waits for room."""
    config: Callable[[str], Awaitable[bytes]] | None = None
    """Gives a native device's configuration, by its key, to one that fetches it."""
    commands: Callable[[str], Awaitable[Sequence[Command]]] | None = None
    """Gives what a native device is asked to do, by its key, to one that fetches it; from then on it counts as sent."""
    claim: Claim | None = None
    """Where claims of new devices go; None where nobody takes them."""
    claim_tls: ssl.SSLContext | None = None
    """What the claims' TLS listener shows; None where there is none."""
    sessions: Sessions | None = None
    """What drivers remember over a restart; None where nothing is."""
    spool: Path | None = None
    """A folder of the state directory where a driver keeps what it cannot hand over while the store is away."""


class Driver(ABC):
    """Speaks one protocol to many devices. Cancel `run` to stop it."""

    scheme: ClassVar[str]
    """Its name: the `driver` of its uplinks and the key of its settings."""

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    @abstractmethod
    async def run(self, units: Units, emit: Emit) -> None:
        """Deliver uplinks until cancelled. Raise DriverUnavailable to be restarted with back-off."""

    @abstractmethod
    async def send(self, unit: MountedUnit, command: Command) -> CommandState:
        """Send a command, and say how far it came.

        SENT: it left, and nobody has said that it arrived. DELIVERED: the device confirmed that it has it. SUCCEEDED:
        the device shows that it did it. Raise CommandRejected if the device said no, DeviceUnreachable if nothing.
        """

    async def configure(self, unit: MountedUnit, document: bytes) -> None:
        """Give a native device its configuration, kept for it while it is offline.

        Raise DeviceUnreachable when nobody takes it, CommandRejected where devices of this protocol fetch it.
        """
        del document
        raise CommandRejected("driver.no_commands", device=unit.device_key, command="config", protocol=self.scheme)

    async def holds(self, unit: MountedUnit, command: Command) -> bool:
        """Say whether the device stands as the command would leave it, without changing anything.

        Raise DeviceUnreachable if it said nothing, CommandRejected where nobody can look.
        """
        raise CommandRejected("driver.no_commands", device=unit.device_key, command=command.name, protocol=self.scheme)

    async def read(self, unit: MountedUnit) -> Uplink:
        """Ask a device now, in between whatever else is asked; the caller emits what it said.

        Raise DeviceUnreachable if it said nothing, CommandRejected where devices of this protocol speak by themselves.
        """
        raise CommandRejected("driver.no_read", device=unit.device_key, protocol=self.scheme)

    def survey(self, request: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Look for devices that nobody registered, read-only; give what is found, and how far it is, one by one.

        What `request` says is between the driver and its own command. Raise CommandRejected where nobody can look.
        """
        del request
        raise CommandRejected("driver.no_survey", protocol=self.scheme)

    async def listening(self) -> None:  # noqa: B027 - most drivers have nothing to wait for
        """Wait until what devices send from now on reaches us. Returns at once where nothing has to come up first."""

    def connected(self) -> bool:
        """Say whether what devices send can reach us; silence means nothing while it cannot."""
        return True

    def address_line(self) -> str:
        """Say where this driver listens or looks, for the line printed at start."""
        return ""
