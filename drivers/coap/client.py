"""The client: devices that are CoAP servers, observed or asked, each in its own time (RFC 7252, RFC 7641).

    units -> one Watch a resource: register -> told, told, ... -> silent? register again -> emit
                 ^                                                    |
                 '---------- refused, unreachable: ever more rarely <-'

Congestion: one request at a time to a host (NSTART, kept by aiocoap), repeated with doubling time-outs; new requests of
all watches are paced. An observation ends with the device's silence, longer than it should ever be, and begins anew: so
is found who was restarted and has forgotten us.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiocoap import Message
from aiocoap.error import Error as CoapError
from aiocoap.error import LibraryShutdown
from aiocoap.numbers.codes import Code

from drivers.coap.endpoint import LOGGER, Endpoint
from drivers.coap.oscore import Contexts, Protecting
from iot_core.errors import CommandRejected, DeviceUnreachable, NotFoundError, StoreUnavailable
from iot_core.model import Outcome, Uplink

if TYPE_CHECKING:
    from iot_core.driver import DriverContext, Emit, Units
    from iot_core.model import MountedUnit
    from iot_core.profiles import Downlink
    from iot_core.profiles.resources import CoapMap, Resource

__all__ = ["Client", "answer_of", "request_to", "uplink_of"]

log = structlog.get_logger()

ANSWER_S: Final = 95.0
"""MAX_TRANSMIT_WAIT of RFC 7252: whoever has not acknowledged by then never will."""
STARTS_PER_S: Final = 200
WOKEN_S: Final = 1.0
"""How long a device that speaks is not asked again: anybody can write its address on a datagram."""
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 300.0
MOST_WAITING: Final = 64
"""Notifications kept of one resource while the store has no room; beyond it the oldest are dropped and counted."""
GRACE_S: Final = (1.0, 5.0)
_MAX_AGE_S: Final = 60.0
_STORE_AGAIN_S: Final = 1.0
_OURS: Final = "coap:client"


class Client:
    """Watches all units whose address is `coap://...`."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._endpoint: Endpoint | None = None
        self._pace = _Pace()
        self._contexts = Contexts(context.credentials, list)
        self._devices: dict[str, _Device] = {}
        self._unusable: dict[str, str] = {}
        """Address -> the model that cannot be asked, as the log was told."""
        self._remotes: dict[Any, _Device] = {}
        """Devices that were asked in vain, by where they are."""

    async def run(self, units: Units, emit: Emit) -> None:
        """Watch until cancelled; units come and go."""
        endpoint = await Endpoint.create_client_context(loggername=LOGGER, transports=["udp6"])
        endpoint.request_interfaces.insert(0, Protecting(endpoint, endpoint))
        self._contexts = Contexts(self._context.credentials, lambda: units.with_scheme("coap"))
        endpoint.harden(self._context.count)
        endpoint.messages.awake = self._woke
        endpoint.messages.count = self._context.count
        self._endpoint = endpoint
        try:
            await self._listen_as_before(endpoint)
            async with asyncio.TaskGroup() as group:
                while True:
                    mounted = {unit.address: unit for unit in units.with_scheme("coap")}
                    self._contexts.registry_changed()
                    self._reconcile(mounted, group, emit)
                    await units.changed()
        finally:
            self._endpoint = None
            self._devices.clear()
            self._remotes.clear()
            await endpoint.shutdown()

    async def send(self, unit: MountedUnit, made: Downlink, expires: datetime) -> None:
        """Send a command. Raises CommandRejected for a refusal, DeviceUnreachable when nothing is heard in time."""
        device = self._device(unit)
        try:
            async with asyncio.timeout((expires - datetime.now(UTC)).total_seconds()):
                if device.sleepy:
                    await device.heard.wait()
        except TimeoutError as exc:
            raise DeviceUnreachable("driver.coap_unreachable", device=unit.device_key) from exc
        message = _to(unit, made.path, Code[made.method.upper()])
        message.payload, message.opt.content_format = made.payload, made.content_format
        await self._asked(unit, message)

    async def read(self, unit: MountedUnit) -> Uplink:
        """Ask for a device's first resource now. Raises as `send`."""
        resource = self._device(unit).resources[0]
        message = _to(unit, resource.path, Code.GET)
        message.opt.accept = resource.accept
        return uplink_of(unit.address, resource, await self._asked(unit, message))

    async def _listen_as_before(self, endpoint: Endpoint) -> None:
        """Take the port of the run before: what observed devices say to it shows that a sleeper is awake."""
        if self._context.sessions is None or not endpoint.by_socket:
            return
        with suppress(StoreUnavailable, OSError):  # another port serves as well, but for who sleeps
            known = await self._context.sessions.recall(_OURS)
            sock = endpoint.messages.message_interface.transport.get_extra_info("socket")
            sock.bind(("::", int(known.get(_OURS, b"0"))))
            if not known:
                await self._context.sessions.remember({_OURS: str(sock.getsockname()[1]).encode()})

    def _woke(self, remote: Any) -> None:
        device = self._remotes.get(_place(remote))
        if device is not None:
            device.woke()

    async def _protect(self, unit: MountedUnit) -> None:
        """Let aiocoap protect what goes to a unit that has a key. Raises StoreUnavailable."""
        assert self._endpoint is not None
        found = await self._contexts.of(unit.unit_id)
        for uri in (unit.address, f"{unit.address}/*"):
            if found is None:
                self._endpoint.client_credentials.pop(uri, None)
            else:
                self._endpoint.client_credentials[uri] = found[0]

    def _device(self, unit: MountedUnit) -> _Device:
        found = self._devices.get(unit.address)
        if found is None:
            raise DeviceUnreachable("driver.coap_unreachable", device=unit.device_key)
        return found

    async def _asked(self, unit: MountedUnit, message: Message) -> Message:
        if self._endpoint is None:
            raise DeviceUnreachable("driver.coap_unreachable", device=unit.device_key)
        try:
            await self._protect(unit)
            response = await answer_of(self._endpoint.request(message))
        except (CoapError, OSError, TimeoutError, ValueError, StoreUnavailable) as exc:
            raise DeviceUnreachable("driver.coap_unreachable", device=unit.device_key) from exc
        if not response.code.is_successful():
            raise CommandRejected("driver.coap_refused", device=unit.device_key, answer=response.code.dotted)
        return response

    def watched(self) -> int:
        """Count the devices that are watched."""
        return len(self._devices)

    def _reconcile(self, mounted: Mapping[str, MountedUnit], group: asyncio.TaskGroup, emit: Emit) -> None:
        found = {address: self._resources(unit) for address, unit in mounted.items()}
        self._unusable = {address: model for address, model in self._unusable.items() if address in mounted}
        for address, device in list(self._devices.items()):
            if mounted.get(address) != device.unit or found[address] != device.asked:
                device.stop()
                del self._devices[address]
                for place in [place for place, each in self._remotes.items() if each is device]:
                    del self._remotes[place]  # in place: the devices share it
        for address, unit in mounted.items():
            if address not in self._devices and (asked := found[address]) is not None:
                device = self._devices[address] = _Device(unit, asked, self._context.count, self._remotes)
                for resource in device.resources:
                    watch = Watch(
                        device, resource, pace=self._pace, emit=emit, count=self._context.count, protect=self._protect
                    )
                    assert self._endpoint is not None
                    device.tasks.append(group.create_task(watch.run(self._endpoint), name=f"coap {unit.device_key}"))

    def _resources(self, unit: MountedUnit) -> CoapMap | None:
        """Give what the unit's model is asked for, as its file says now; say once what is wrong with it."""
        try:
            asked = self._context.profiles.get(unit.profile).coap
        except NotFoundError:
            asked = None
        if asked is None and self._unusable.get(unit.address) != unit.profile:
            self._unusable[unit.address] = unit.profile
            log.warning("coap.no_resources", device=unit.device_key, profile=unit.profile)
        elif asked is not None:
            self._unusable.pop(unit.address, None)
        return asked


class _Device:
    """What the watches of one device share: whether it answers, said once when that changes."""

    def __init__(
        self, unit: MountedUnit, asked: CoapMap, count: Callable[[str], None], remotes: dict[Any, _Device]
    ) -> None:
        self.unit = unit
        self.asked = asked
        self.resources = asked.resources
        self.sleepy = asked.sleepy
        self.tasks: list[asyncio.Task[None]] = []
        self.heard = asyncio.Event()
        self.awake = asyncio.Event()
        self._count = count
        self._remotes = remotes
        self._away_since: float | None = None

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()

    def spoke(self) -> None:
        self.heard.set()
        if self.sleepy:  # who waits for it goes on now; whoever comes later waits for the next time
            self.heard = asyncio.Event()
        if self._away_since is not None:
            after = round(asyncio.get_running_loop().time() - self._away_since, 1)
            log.info("coap.recovered", device=self.unit.device_key, after_s=after)
            self._away_since = None

    def woke(self) -> None:
        self.awake.set()  # who waits to ask it again asks now
        self.awake = asyncio.Event()

    def is_at(self, remote: Any) -> None:
        """Learn where it is, so that it is known when it wakes."""
        self._remotes[_place(remote)] = self

    def is_away(self, why: str) -> None:
        self._count("coap_unreachable")
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            log.warning("coap.unreachable", device=self.unit.device_key, why=why)


class _Refused(Exception):
    """The device answered, and not with what was asked for."""


class Watch:
    """One resource of one device."""

    def __init__(
        self,
        device: _Device,
        resource: Resource,
        *,
        pace: _Pace,
        emit: Emit,
        count: Callable[[str], None],
        protect: Callable[[MountedUnit], Awaitable[None]],
    ) -> None:
        self._device = device
        self._resource = resource
        self._pace = pace
        self._emit = emit
        self._count = count
        self._protect = protect
        self._wait_s = FIRST_WAIT_S
        self._asked: Message | None = None

    async def run(self, endpoint: Endpoint) -> None:
        """Register, listen, register again; until cancelled."""
        while True:
            try:
                await self._pace.turn()
                await self._protect(self._device.unit)
                await self._once(endpoint)
            except LibraryShutdown:
                return
            except StoreUnavailable:  # whether it has a key is not known
                await asyncio.sleep(_STORE_AGAIN_S)
            except _Refused as exc:
                self._count("coap_refused")
                self._device.is_away(str(exc))
                await self._back_off()
            except (CoapError, OSError, TimeoutError, ValueError) as exc:  # ValueError: no host is called so
                self._device.is_away(type(exc).__name__)
                await self._back_off()

    async def _once(self, endpoint: Endpoint) -> None:
        """Ask once; where the device can be observed, listen until it is silent for too long."""
        every = self._resource.every.total_seconds()
        message = self._asked = request_to(self._device.unit.address, self._resource.path, Code.GET)
        message.opt.accept = self._resource.accept
        if not self._resource.observe:
            await self._heard(await answer_of(endpoint.request(message)))
            await asyncio.sleep(every * random.uniform(0.95, 1.0))  # noqa: S311 - spreads a load
            return
        message.opt.observe = 0
        # aiocoap's block-wise observation keeps only the newest of notifications that come in one moment.
        request = endpoint.request(message, handle_blockwise=False)
        told = _Told(self._count)
        request.observation.register_callback(told.put, _suppress_deprecation=True)
        request.observation.register_errback(told.end, _suppress_deprecation=True)
        try:
            response = await answer_of(request)
            await self._heard(await self._whole(response, endpoint), response)
            if response.opt.observe is None:
                await asyncio.sleep(every * random.uniform(0.95, 1.0))  # noqa: S311 - spreads a load
                return
            while (response := await told.next(_silence(response, every))) is not None:
                await self._heard(await self._whole(response, endpoint), response)
            self._count("coap_registered_again")
        finally:
            if not request.observation.cancelled:
                request.observation.cancel()
            request._stop_interest()  # noqa: SLF001 - aiocoap does it at the next notification only, and swallows that

    async def _whole(self, response: Message, endpoint: Endpoint) -> Message:
        """Give the response, or what is there now, asked for block by block, when it was only the first block."""
        if response.opt.block2 is None or not response.opt.block2.more:
            return response
        message = request_to(self._device.unit.address, self._resource.path, Code.GET)
        message.opt.accept = self._resource.accept
        return await answer_of(endpoint.request(message))

    async def _heard(self, response: Message, told: Message | None = None) -> None:
        """Hand on what a resource said; `told` is the notification that made us ask for it, else it is the response."""
        if not response.code.is_successful():
            raise _Refused(response.code.dotted)
        self._wait_s = FIRST_WAIT_S
        self._device.spoke()
        uplink = uplink_of(self._device.unit.address, self._resource, response)
        uplink.done = _acknowledging(told if told is not None else response)
        while True:
            try:
                await self._emit(uplink)
            except StoreUnavailable:  # a notification that needs no acknowledgement comes only once
                await asyncio.sleep(_STORE_AGAIN_S)
            else:
                return

    async def _back_off(self) -> None:
        longest = max(LONGEST_WAIT_S, self._resource.every.total_seconds()) if self._device.sleepy else LONGEST_WAIT_S
        if self._asked is not None and self._asked.remote is not None:
            self._device.is_at(self._asked.remote)
        least, awake = min(WOKEN_S, self._wait_s / 2), self._device.awake
        await asyncio.sleep(least)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s * random.uniform(0.5, 1.0) - least):  # noqa: S311 - spreads a load
                await awake.wait()
        self._wait_s = min(self._wait_s * 2, longest)


def _place(remote: Any) -> object:
    """Give a remote's address and port, under OSCORE those underneath."""
    below = getattr(remote, "underlying_address", remote)
    return getattr(below, "sockaddr", below)


def _acknowledging(said: Message) -> Callable[[Outcome], Awaitable[None]]:
    """Acknowledge a confirmable notification once it is committed; where there is nothing to acknowledge, nothing."""
    acknowledge = getattr(said, "acknowledge", None)

    async def done(_: Outcome) -> None:
        if acknowledge is not None:
            acknowledge()

    return done


class _Told:
    """Notifications of one observation, in order; aiocoap's own iterator keeps only the newest."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._waiting: deque[Message] = deque()
        self._ended: Exception | None = None
        self._news = asyncio.Event()

    def put(self, message: Message) -> None:
        message.taken = True
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._count("coap_notification_dropped")
        self._waiting.append(message)
        self._news.set()

    def end(self, why: Exception) -> None:
        self._ended = why
        self._news.set()

    async def next(self, silence_s: float) -> Message | None:
        """Give the next one; None when the device is silent for too long, or has ended the observation."""
        while not self._waiting:
            if self._ended is not None:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(silence_s):
                    await self._news.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft()


class _Pace:
    """Lets at most so many requests begin a second, in the order of asking."""

    def __init__(self, per_s: float = STARTS_PER_S) -> None:
        self._gap_s = 1 / per_s
        self._next = 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._gap_s, now)
        await asyncio.sleep(self._next - now)


async def answer_of(request: Any) -> Message:
    """Wait for the answer, and never cancel aiocoap's future: an ICMP error in the same moment would be a traceback."""
    request.response.add_done_callback(_noticed)
    await asyncio.wait([request.response], timeout=ANSWER_S)
    if not request.response.done():
        raise TimeoutError
    return request.response.result()


def _noticed(answer: asyncio.Future[Message]) -> None:
    if not answer.cancelled():
        answer.exception()


def _silence(response: Message, every_s: float) -> float:
    """How long a device may be silent: as long as its last word is fresh and its profile allows, and some grace."""
    age = response.opt.max_age
    grace = random.uniform(*GRACE_S)  # noqa: S311 - spreads a load
    return max(_MAX_AGE_S if age is None else float(age), 1.5 * every_s) + grace


def uplink_of(address: str, resource: Resource, response: Message) -> Uplink:
    """Make an uplink of what a resource said."""
    content_format = response.opt.content_format
    return Uplink(
        driver="coap",
        address=address,
        topic=resource.path,
        payload=bytes(response.payload),
        content_format=None if content_format is None else int(content_format),
    )


def _to(unit: MountedUnit, path: str, code: Code) -> Message:
    try:
        return request_to(unit.address, path, code)
    except ValueError as exc:
        raise DeviceUnreachable("driver.coap_unreachable", device=unit.device_key) from exc


def request_to(address: str, path: str, code: Code) -> Message:
    """Make a request for a path below a device's address. Raises ValueError for an address that is none."""
    message = Message(code=code)
    message.set_request_uri(f"{address}/{path}")
    return message
