r"""Take claims of new devices, whatever they came over: read them, ask the registry, let the broker know, answer.

HTTP  POST /v1/claim  \
CoAP  POST /v1/claim   > Claiming -> registry/claims.py -> secret? -> broker.refresh() -> {"state": ...}
MQTT  iot/v1/claim    /

{"batch": "b_...", "key": ..., "serial": ..., "profile": ..., "reply": ...}      over MQTT the login says batch and key
{"state": "accepted", "device": KEY, "secret": ...} | {"state": "waiting", "retry_after": 30} | {"state": "refused"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import asyncpg
import msgspec
import structlog

from iot_core.driver import Claimed, ClaimState
from iot_core.errors import RequestError, StoreUnavailable
from iot_core.registry import claims
from iot_core.registry.claims import Ask, Given, Refusal
from iot_core.store.connection import AWAY, RETRY

if TYPE_CHECKING:
    from iot_core.driver import Count
    from iot_core.profiles import Profiles

__all__ = ["Claiming"]

log = structlog.get_logger()

_MOST_BYTES: Final = 4096
_RETRY_AFTER_S: Final = 30
_LET_IN_S: Final = 5.0
_NOTE_AGAIN_S: Final = 60.0
_MOST_NOTED: Final = 600
_TRIES: Final = 3
_AT_ONCE: Final = 4
"""Claims that are with the database at a time: more would only wait there, and take connections from everybody else."""

Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
REPLY: Final = r"^[A-Za-z0-9_-]{22,128}$"
"""128 random bits at least, in letters that a topic and a client id can hold: 22 of base64url, 32 of hexadecimal."""


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a claim; what else stands in it is not ours."""

    serial: Short
    reply: Annotated[str, msgspec.Meta(pattern=REPLY)]
    profile: Short | None = None
    batch: str = ""
    key: str = ""


class Claiming:
    """Everybody's way to the registry's claims.

    driver:  claimed = await claiming(payload, driver="coap", came_from="10.1.2.3")
    """

    def __init__(
        self, pool: asyncpg.Pool, profiles: Profiles, count: Count, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._pool = pool
        self._profiles = profiles
        self._count = count
        self._refresh = refresh
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._noted: dict[tuple[str, str, str], float] = {}
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}

    async def __call__(
        self, said: bytes, *, driver: str, came_from: str | None, login: tuple[str, str] | None = None
    ) -> Claimed:
        """Answer a claim. Raises RequestError for what is none, StoreUnavailable."""
        ask = _ask(said, driver, came_from, login)
        given = await self._given(ask)
        if given.refusal is not None:
            await self._refused(ask, given.refusal)
            return Claimed(ClaimState.REFUSED, _body({"state": "refused"}))
        if given.secret is None:
            self._count("claims_waiting")
            return Claimed(ClaimState.WAITING, _body({"state": "waiting", "retry_after": _RETRY_AFTER_S}))
        self._count("claims_accepted")
        await self.let_in()
        return Claimed(
            ClaimState.ACCEPTED, _body({"state": "accepted", "device": given.device, "secret": given.secret})
        )

    async def admits(self, batch: str, key: str, *, driver: str, came_from: str | None) -> bool:
        """Say whether somebody with this batch key may ask at all. Raises StoreUnavailable."""
        try:
            async with self._gate, self._pool.acquire() as connection:
                refusal = await claims.admitted(connection, batch, key, came_from)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        if refusal is not None:
            await self._refused(
                Ask(batch=batch, key="", serial="", reply="", driver=driver, came_from=came_from), refusal
            )
        return refusal is None

    async def let_in(self) -> None:
        """Return when the broker knows the secrets of this moment; it learns them anyway if that takes long."""
        with suppress(TimeoutError, *AWAY):
            async with asyncio.timeout(_LET_IN_S):
                await self._refresh()

    def decision(self, said: bytes) -> asyncio.Future[None]:
        """Give what is done once a person has decided about this claim's serial number; cancel it to wait no more.

        Raises RequestError for what is no claim.
        """
        serial = _ask(said, "", None, None).serial
        told = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(serial, set()).add(told)

        def forget(_: object) -> None:
            if waiting := self._awaited.get(serial):
                waiting.discard(told)
                if not waiting:
                    del self._awaited[serial]

        told.add_done_callback(forget)
        return told

    def decided(self, serials: Iterable[str]) -> None:
        """Tell those who keep a connection open that a person has decided about these."""
        for serial in serials:
            for told in self._awaited.get(serial, ()):
                if not told.done():
                    told.set_result(None)

    async def _given(self, ask: Ask) -> Given:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._gate, self._pool.acquire() as connection:
                    return await claims.claim(connection, self._profiles, ask)
            except (asyncpg.UniqueViolationError, *RETRY):  # two batches and one serial number in one moment
                if attempt == _TRIES:
                    raise
            except AWAY as exc:
                raise StoreUnavailable(type(exc).__name__) from exc
        raise AssertionError("unreachable")

    async def _refused(self, ask: Ask, refusal: Refusal) -> None:
        """Count it; audit it unless a stranger made it up or the same was written a moment ago.

        Who knows no batch leaves nothing but a count, and who knows one not more than a row a minute for each serial.
        """
        self._count(f"claims_refused_{refusal.value}")
        if refusal is Refusal.UNKNOWN:
            return
        now = asyncio.get_running_loop().time()
        self._noted = {fact: at for fact, at in self._noted.items() if at + _NOTE_AGAIN_S > now}
        fact = (ask.batch, refusal.value, "" if refusal is Refusal.WRONG_KEY else ask.serial)
        if fact in self._noted or len(self._noted) >= _MOST_NOTED:
            return
        self._noted[fact] = now
        log.warning("claim.refused", batch=ask.batch, reason=refusal.value)
        with suppress(*AWAY):
            async with self._pool.acquire() as connection:
                await claims.note_refused(connection, ask, refusal)


def _ask(said: bytes, driver: str, came_from: str | None, login: tuple[str, str] | None) -> Ask:
    if len(said) > _MOST_BYTES:
        raise RequestError("batch.claim_too_large", limit=_MOST_BYTES)
    try:
        body = msgspec.json.decode(said, type=_Said)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as exc:
        raise RequestError("batch.bad_claim", detail=str(exc)) from exc
    if any("\0" in each for each in (body.serial, body.profile or "")):
        raise RequestError("batch.bad_claim", detail="NUL")
    batch, key = login or (body.batch, body.key)
    return Ask(
        batch=batch, key=key, serial=body.serial.strip(), reply=body.reply, profile=body.profile, driver=driver,
        came_from=came_from,
    )  # fmt: skip


def _body(said: object) -> bytes:
    return msgspec.json.encode(said)
