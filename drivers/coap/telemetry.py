"""The resource `/v1/KEY/telemetry`: one POST becomes one uplink, and its answer says what became of it.

path 4.04 -> method 4.05 -> busy 5.03 -> sender 4.01 -> format 4.15 -> size 4.13 -> store 5.03 -> outcome 2.04/4.00
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiocoap import Message, resource
from aiocoap.numbers.codes import Code
from aiocoap.util.linkformat import Link, LinkFormat

from drivers.coap import answers
from drivers.coap.blocks import Block, Incomplete, TooLarge, Uploads
from iot_core.errors import NotFoundError, StoreUnavailable
from iot_core.model import Outcome, Uplink, is_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.coap.inflight import InFlight
    from iot_core.driver import DriverContext, Emit, Units

log = structlog.get_logger()

FORMATS = (50, 60, 110, 112)
_RAW = (42, 0)
"""JSON, CBOR, SenML JSON, SenML CBOR: the native contract. No Content-Format at all is left to the profile."""

_METHODS = {
    "config": Code.GET, "commands": Code.GET, "config/reported": Code.POST, "commands/result": Code.POST,
}  # fmt: skip
"""What a device fetches, and what it says of that."""

PATIENCE_S = 30.0
"""How long an answer may wait for a commit. A confirmable request is kept alive by an empty ACK after 1 s."""

UPLOADS_IN_MEMORY = 64
"""Unfinished block-wise uploads of full size that fit in memory together."""


class Telemetry(resource.Resource, resource.PathCapable):  # type: ignore[misc] # aiocoap is untyped
    """What devices post to."""

    def __init__(self, context: DriverContext, units: Units, emit: Emit, in_flight: InFlight) -> None:
        super().__init__()
        self._units = units
        self._profiles = context.profiles
        self._authenticate = context.authenticate
        self._count = context.count
        self._emit = emit
        self._in_flight = in_flight
        self._config = context.config
        self._commands = context.commands
        self._said = context.said
        self._limit = context.settings.coap.max_payload
        self._uploads = Uploads(self._limit, self._limit * UPLOADS_IN_MEMORY)

    def get_resources_as_linkheader(self) -> LinkFormat:
        """Describe the resource without naming a device: octets and text too, where a profile reads them."""
        own = any(each.address.startswith("iot:") and not each.native for each in self._profiles.all())
        formats = (*FORMATS, *(_RAW if own else ()))
        return LinkFormat([Link("", ct=" ".join(str(number) for number in formats), rt="iot.telemetry")])

    async def needs_blockwise_assembly(self, request: Message) -> bool:
        """Assemble here: aiocoap's own assembly has no bound and would take blocks from anybody."""
        del request
        return False

    async def render(self, request: Message) -> Message:
        """Answer one request, or one block of it."""
        key, told = _device_key(request.opt.uri_path), _told(request.opt.uri_path)
        if key is None and told is None:
            answer = Message(code=Code.NOT_FOUND)
        elif request.code != (Code.POST if told is None else _METHODS[told[1]]):
            answer = Message(code=Code.METHOD_NOT_ALLOWED)
        elif self._in_flight.full:
            self._count("coap_busy")
            answer = answers.busy()
        elif told is not None:
            answer = await self._in_flight.carry(self._tell(*told, request))
        else:
            answer = await self._in_flight.carry(self._answer(key or "", request))
        answer.opt.no_response = request.opt.no_response
        if request.opt.block1 is not None:
            answer.opt.block1 = request.opt.block1
        return answer

    async def protected(self, key: str, request: Message) -> Message:
        """Answer a request that OSCORE has shown to come from the device `key`."""
        path = tuple(request.opt.uri_path)
        told = _told(path[1:]) if path[:2] == ("v1", key) else None
        if told is None and path != ("v1", key, "telemetry"):
            return Message(code=Code.NOT_FOUND)
        if request.code != (Code.POST if told is None else _METHODS[told[1]]):
            return Message(code=Code.METHOD_NOT_ALLOWED)
        if self._in_flight.full:
            self._count("coap_busy")
            return answers.busy()
        if told is not None:
            answer = await self._in_flight.carry(self._tell(*told, request, known=True))
        else:
            answer = await self._in_flight.carry(self._answer(key, request, known=True))
        if request.opt.block1 is not None:
            answer.opt.block1 = request.opt.block1
        return answer

    async def _tell(self, key: str, what: str, request: Message, *, known: bool = False) -> Message:
        """Give a device its configuration or its commands, or take what it says of them."""
        try:
            if not known and not await self._sent_by(key, request.opt.uri_query):
                self._count("coap_unauthorized")
                return answers.unauthorized()
            async with asyncio.timeout(PATIENCE_S):
                if _METHODS[what] == Code.POST:
                    return await self._hear(key, what, request)
                made = await (self._document(key) if what == "config" else self._asked(key))
                return answers.part(made, request.opt.block2)
        except (OSError, TimeoutError, StoreUnavailable):
            self._count("coap_store_unavailable")
            return answers.store_unavailable()

    async def _hear(self, key: str, what: str, request: Message) -> Message:
        """Take what a device says of its configuration or a command, or one block of it."""
        try:
            body = self._body(key, what, request)
        except TooLarge as exc:
            self._count("coap_too_large")
            return answers.too_large(exc.limit)
        except Incomplete:
            self._count("coap_incomplete")
            return answers.incomplete()
        if body is None:
            return Message(code=Code.CONTINUE)
        settled = asyncio.Event()
        await self._said(_heard(key, what, body, settled))
        await settled.wait()
        return Message(code=Code.CHANGED)

    async def _document(self, key: str) -> bytes:
        return b"" if self._config is None else await self._config(key)

    async def _asked(self, key: str) -> bytes:
        return msgspec.json.encode([] if self._commands is None else await self._commands(key))

    async def _answer(self, key: str, request: Message, *, known: bool = False) -> Message:
        try:
            return await self._receive(key, request, known=known)
        except StoreUnavailable:
            self._count("coap_store_unavailable")
            return answers.store_unavailable()
        except TooLarge as exc:
            self._count("coap_too_large")
            return answers.too_large(exc.limit)
        except Incomplete:
            self._count("coap_incomplete")
            return answers.incomplete()
        except Exception:  # a bug met by one request must not silence a city
            self._count("coap_failed")
            log.exception("coap.failed", device=key)
            return Message(code=Code.INTERNAL_SERVER_ERROR)

    async def _receive(self, key: str, request: Message, *, known: bool) -> Message:
        if not known and not await self._sent_by(key, request.opt.uri_query):
            self._count("coap_unauthorized")
            return answers.unauthorized()
        content_format = None if request.opt.content_format is None else int(request.opt.content_format)
        if content_format is not None and content_format not in FORMATS and not self._speaks_its_own(key):
            self._count("coap_wrong_format")
            return answers.wrong_format(content_format, FORMATS)
        body = self._body(key, "telemetry", request)
        if body is None:
            return Message(code=Code.CONTINUE)
        return await self._deliver(key, content_format, body)

    async def _sent_by(self, key: str, query: Sequence[str]) -> bool:
        tokens = [part.removeprefix("token=") for part in query if part.startswith("token=")]
        return len(tokens) == 1 and is_key(key) and await self._authenticate(key, tokens[0])

    def _speaks_its_own(self, key: str) -> bool:
        """Say whether the device's profile reads its payload whatever it is called: octets, text, a vendor's number."""
        unit = self._units.at(f"iot:{key}")
        if unit is None:
            return False
        try:
            return not self._profiles.get(unit.profile).native
        except NotFoundError:  # held with that reason, and read again once the profile is there
            return True

    def _body(self, key: str, what: str, request: Message) -> bytes | None:
        """Give the whole body, or None while blocks are missing."""
        if (request.opt.size1 or 0) > self._limit or len(request.payload) > self._limit:
            raise TooLarge(self._limit)
        block = request.opt.block1
        if block is None:
            return bytes(request.payload)
        sender = (request.remote.blockwise_key, key, what, tuple(request.opt.request_tag or ()))
        return self._uploads.take(sender, Block(block.start, bytes(request.payload), bool(block.more)))

    async def _deliver(self, key: str, content_format: int | None, body: bytes) -> Message:
        """Hand the uplink over and wait for its commit."""
        known: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def done(outcome: Outcome) -> None:
            if not known.done():  # the answer may have been given up meanwhile
                known.set_result(outcome)

        uplink = Uplink(
            driver="coap",
            address=f"iot:{key}",
            topic=f"/v1/{key}/telemetry",
            payload=body,
            content_format=content_format,
            done=done,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._emit(uplink)
                return answers.outcome(await known)
        except TimeoutError as exc:
            raise StoreUnavailable("no commit in time") from exc


def _told(path: Sequence[str]) -> tuple[str, str] | None:
    """Split `KEY/config`, `KEY/config/reported`, `KEY/commands` and `KEY/commands/result` after KEY."""
    what = "/".join(path[1:])
    return (path[0], what) if what in _METHODS else None


def _heard(key: str, kind: str, payload: bytes, settled: asyncio.Event) -> Uplink:
    async def settle(_: Sequence[object], __: object) -> None:
        settled.set()

    return Uplink(driver="coap", address=f"iot:{key}", kind=kind, payload=payload, settle=settle)


def _device_key(path: Sequence[str]) -> str | None:
    """Take KEY out of `KEY/telemetry`, what is left of the path behind `/v1`."""
    return path[0] if len(path) == 2 and path[1] == "telemetry" else None
