"""OSCORE (RFC 8613): a context for each unit that has a key, made when it first speaks, never trusting old numbers.

    request -> kid = the unit's number -> context (cache, else iot.credential) -> unprotect -> Telemetry -> protect
                                       '- wrong key: the one that waits -> unprotect -> takes over -'

A key made anew waits beside the old one. What opens with it and is fresh (Echo, too) shows that the device has it: it
takes over in the database before anything is answered, and the old one opens nothing any more.

What was received before is not kept on disk: after a restart a context accepts nothing until its device has repeated
one request with the Echo option that we made up (appendix B.1.2), so an old message replayed then is never accepted.
Our own sequence numbers are reserved in the database, a chunk at a time, before the first of them is used.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiocoap import Message, interfaces, oscore
from aiocoap.credentials import _Objectish
from aiocoap.numbers.codes import Code
from aiocoap.transports.oscore import TransportOSCORE

from iot_core.errors import NotFoundError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from iot_core.driver import Credentials
    from iot_core.model import Credential, MountedUnit

__all__ = ["Contexts", "Protected", "Protecting", "UnitContext", "kid_of", "unit_of"]

KIND: Final = "oscore"
WAITING: Final = "oscore_next"
CORE_ID: Final = b"\x00"
CHUNK: Final = 1_000
MOST: Final = 20_000
"""Contexts kept in memory; one that was dropped begins with Echo again."""
_WINDOW: Final = 64
_LONGEST_KID: Final = 7


def kid_of(unit_id: int) -> bytes:
    """Give the sender id of a unit's device: its number, in as few bytes as hold it."""
    return unit_id.to_bytes((unit_id.bit_length() + 7) // 8 or 1, "big")


def unit_of(kid: object) -> int | None:
    """Give the unit's number back; None for an id that we never gave."""
    if not isinstance(kid, bytes) or not 0 < len(kid) <= _LONGEST_KID:
        return None
    number = int.from_bytes(kid, "big")
    return number if number and kid_of(number) == kid else None


class UnitContext(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils, _Objectish):  # type: ignore[misc]
    """Keys and numbers between the core and one unit."""

    def __init__(self, unit_id: int, kept: Credential, first: int) -> None:
        self.unit_id = unit_id
        self.kept = kept
        self.stale = False
        """The registry changed: look whether the key is still this one."""
        self.alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
        self.hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
        self.sender_id = CORE_ID
        self.recipient_id = kid_of(unit_id)
        self.id_context = None
        self.derive_keys(bytes.fromhex(str(kept.public.get("salt", ""))), kept.secret)
        self.echo_recovery = secrets.token_bytes(8)
        self.recipient_replay_window = oscore.ReplayWindow(_WINDOW, _nothing)  # not initialised: Echo first
        self.sender_sequence_number = first
        self._reserved = first + CHUNK

    def __repr__(self) -> str:
        return f"UnitContext({self.unit_id})"  # aiocoap writes contexts into its log

    @property
    def left(self) -> int:
        """How many reserved numbers there are yet."""
        return self._reserved - self.sender_sequence_number

    def extend(self, first: int) -> None:
        """Go on with a chunk that was reserved."""
        self.sender_sequence_number, self._reserved = first, first + CHUNK

    def new_sequence_number(self) -> int:
        """Take a number. Raises ContextUnavailable when none is reserved."""
        if self.left <= 0:
            raise oscore.ContextUnavailable("no sequence number is reserved")
        return int(super().new_sequence_number())

    def unprotect(self, protected_message: Message, request_id: Any = None) -> Any:
        """Open a message, and hand on what acknowledges it after COMMIT (`Messages.dispatch_message`).

        One that cannot be opened is acknowledged at once, or its sender would repeat it in vain (RFC 8613, 8.4).
        """
        acknowledge = getattr(protected_message, "acknowledge", None)
        try:
            opened, used = super().unprotect(protected_message, request_id)
        except (oscore.ProtectionInvalid, oscore.NotAProtectedMessage):
            if acknowledge is not None:
                acknowledge()
            raise
        if acknowledge is not None:
            opened.acknowledge = acknowledge
        return opened, used

    def post_seqnoincrease(self) -> None:
        """Nothing to store: the chunk is."""


class Contexts:
    """Contexts in use, by unit; the oldest are dropped beyond the bound."""

    def __init__(self, credentials: Credentials | None, mounted: Callable[[], Iterable[MountedUnit]]) -> None:
        self._credentials = credentials
        self._mounted = mounted
        self._contexts: OrderedDict[int, tuple[UnitContext, str]] = OrderedDict()
        self._changes = 0
        self._waiting: dict[int, UnitContext | None] = {}
        """Keys that wait, of units that said what the key in force does not open; None where none waits."""
        self._taking_over = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._contexts)

    def registry_changed(self) -> None:
        """Look at each key again before it is used next."""
        for context, _ in self._contexts.values():
            context.stale = True
        self._changes += 1
        waiting = {unit_id: context for unit_id, context in self._waiting.items() if context is not None}
        for context in waiting.values():
            context.stale = True
        self._waiting = dict(waiting)

    async def find(self, kid: object) -> tuple[UnitContext, str] | None:
        """Give the context for a sender id and the key of its device; None for a stranger. Raises StoreUnavailable."""
        unit_id = unit_of(kid)
        return None if unit_id is None else await self.of(unit_id)

    async def of(self, unit_id: int) -> tuple[UnitContext, str] | None:
        """Give a unit's context with numbers to send by; None where it has no key, or is mounted nowhere."""
        if self._credentials is None:
            return None
        known = self._contexts.get(unit_id)
        if known is None or known[0].stale:
            known = await self._look(unit_id, known)
            if known is None:
                self._contexts.pop(unit_id, None)
                self._waiting.pop(unit_id, None)
                return None
            self._contexts[unit_id] = known
        self._contexts.move_to_end(unit_id)
        if len(self._contexts) > MOST:
            dropped, _ = self._contexts.popitem(last=False)
            self._waiting.pop(dropped, None)
        if known[0].left < CHUNK // 4:
            known[0].extend(await self._credentials.reserve(unit_id, KIND, CHUNK))
        return known

    async def waiting(self, unit_id: int) -> UnitContext | None:
        """Give the context of the key that waits to take over; None where none does. Raises StoreUnavailable."""
        assert self._credentials is not None
        known = self._waiting.get(unit_id)
        if unit_id in self._waiting and (known is None or not known.stale):
            context = known
        else:
            before = self._changes
            context = await self._look_waiting(unit_id, known)
            if context is not None:
                context.stale = before != self._changes
            if before == self._changes or context is not None:
                self._waiting[unit_id] = context
        if context is not None and context.left < CHUNK // 4:
            context.extend(await self._credentials.reserve(unit_id, WAITING, CHUNK))
        return context

    async def takes_over(self, context: UnitContext, device_key: str) -> bool:
        """Let a key that was used be the one in force; False when it was withdrawn. Raises StoreUnavailable."""
        assert self._credentials is not None
        async with self._taking_over:
            known = self._contexts.get(context.unit_id)
            if known is not None and known[0] is context:
                return True  # by another message in the same moment
            if not await self._credentials.take_over(context.unit_id, KIND, context.kept):
                self._waiting.pop(context.unit_id, None)
                return False
            self._contexts[context.unit_id] = context, device_key
            self._waiting.pop(context.unit_id, None)
            return True

    async def _look_waiting(self, unit_id: int, known: UnitContext | None) -> UnitContext | None:
        assert self._credentials is not None
        kept = await self._credentials.of(unit_id, WAITING)
        if kept is None:
            return None
        if known is not None and known.kept == kept:
            return known
        try:
            return UnitContext(unit_id, kept, await self._credentials.reserve(unit_id, WAITING, CHUNK))
        except NotFoundError:  # forgotten or taken over in this moment
            return None

    async def _look(self, unit_id: int, known: tuple[UnitContext, str] | None) -> tuple[UnitContext, str] | None:
        assert self._credentials is not None
        unit = next((each for each in self._mounted() if each.unit_id == unit_id), None)
        kept = None if unit is None else await self._credentials.of(unit_id, KIND)
        if unit is None or kept is None:
            return None
        if known is not None and known[0].kept == kept:
            known[0].stale = False
            return known[0], unit.device_key
        try:
            first = await self._credentials.reserve(unit_id, KIND, CHUNK)
        except NotFoundError:  # forgotten in this moment
            return None
        return UnitContext(unit_id, kept, first), unit.device_key


class Protected(interfaces.Resource):  # type: ignore[misc] # aiocoap is untyped
    """The site in front of the site: opens what is protected, protects the answer, lets everything else through."""

    def __init__(
        self,
        site: Any,
        contexts: Contexts,
        answer: Callable[[str, Message], Awaitable[Message]],
        count: Callable[[str], None],
    ) -> None:
        self._site = site
        self._contexts = contexts
        self._answer = answer
        self._count = count

    def get_resources_as_linkheader(self) -> Any:
        """Describe what is behind it."""
        return self._site.get_resources_as_linkheader()

    async def render(self, request: Message) -> Message:
        """Never called: all comes by `render_to_pipe`."""
        raise NotImplementedError

    async def needs_blockwise_assembly(self, request: Message) -> bool:
        """Say no: inner blocks are inside the protection."""
        del request
        return False

    async def render_to_pipe(self, pipe: Any) -> None:
        """Answer one request."""
        if pipe.request.opt.oscore is None:
            await self._site.render_to_pipe(pipe)
            return
        pipe.add_response(await self._opened(pipe.request), is_last=True)

    async def _opened(self, request: Message) -> Message:  # noqa: PLR0911 - one answer for each way to fail
        try:
            found = await self._contexts.find(oscore.verify_start(request).get(oscore.COSE_KID))
            if found is None:
                self._count("coap_oscore_stranger")
                return Message(code=Code.UNAUTHORIZED, payload=b"Security context not found")
            context, device_key = found
            context, inner, request_id = await self._unprotected(context, device_key, request)
        except StoreUnavailable:
            self._count("coap_store_unavailable")
            return Message(code=Code.SERVICE_UNAVAILABLE, max_age=30)
        except oscore.ReplayErrorWithEcho as exc:
            self._count("coap_oscore_echo")
            return exc.to_message()
        except oscore.ReplayError:
            self._count("coap_oscore_replay")
            return Message(code=Code.UNAUTHORIZED, max_age=0, payload=b"Replay detected")
        except oscore.DecodeError:
            self._count("coap_oscore_undecodable")
            return Message(code=Code.BAD_OPTION, payload=b"Failed to decode COSE")
        except (oscore.ProtectionInvalid, oscore.NotAProtectedMessage):
            self._count("coap_oscore_wrong_key")
            return Message(code=Code.BAD_REQUEST, payload=b"Decryption failed")
        inner.remote = request.remote
        answer = await self._answer(device_key, inner)
        protected, _ = context.protect(answer, request_id)
        return protected

    async def _unprotected(
        self, context: UnitContext, device_key: str, request: Message
    ) -> tuple[UnitContext, Message, Any]:
        """Open a request with the key in force, else with the one that waits, which takes over then."""
        try:
            return context, *context.unprotect(request)
        except (oscore.ReplayError, oscore.ReplayErrorWithEcho):  # the key in force opened it
            raise
        except oscore.ProtectionInvalid:
            waiting = await self._contexts.waiting(context.unit_id)
            if waiting is None:
                raise
            inner, request_id = waiting.unprotect(request)
            if not await self._contexts.takes_over(waiting, device_key):
                raise
        self._count("coap_oscore_taken_over")
        return waiting, inner, request_id


class Protecting(TransportOSCORE):  # type: ignore[misc] # aiocoap is untyped
    """aiocoap's client side, which lets go of a request when nobody waits for its answer any more.

    aiocoap's own goes on until the device says something, takes that and never acknowledges it, and at the end of the
    core tells whoever has gone, which is a page of traceback for each observed device.
    """

    def request(self, request: Any) -> None:
        task = self.loop.create_task(self._request(request), name="coap oscore request")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, request))
        request.on_interest_end(task.cancel)

    def _ended(self, request: Any, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        why = None if task.cancelled() else task.exception()
        if why is not None and request._event_callbacks:  # noqa: SLF001 - somebody waits
            request.add_exception(why)


def _nothing() -> None:
    """Stand in for keeping the window on disk."""
