"""The short way for the one message nearly every device sends: from the socket to the ingest path without a task.

    datagram -> read_post -> known sender? -> seen before? -> emit -> done -> 2.04 on the same socket
                   |              |
                   '--------------'--> aiocoap: blocks, OSCORE, strangers, other resources

aiocoap spends half a millisecond on a request, mostly on objects and on two tasks for each; this spends a tenth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiocoap import Message
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from aiocoap.transports.udp6 import UDP6EndpointAddress

from drivers.coap import answers
from drivers.coap.datagram import ACK, CON, NON, Post, answer, read_post
from drivers.coap.endpoint import EMPTY_ACK_S
from iot_core.errors import StoreUnavailable
from iot_core.model import Outcome, Uplink

if TYPE_CHECKING:
    from drivers.coap.endpoint import Messages
    from iot_core.driver import DriverContext, Emit

__all__ = ["Ancillary", "Express"]

FORMATS: Final = (None, 50, 60, 110, 112)
_CHANGED: Final = int(Code.CHANGED)
_TURN: Final = 256
_LOOK_S: Final = 0.25

Ancillary = Sequence[tuple[int, int, bytes]]


class _Open:
    """A request under way: where its answer goes, and whether an empty acknowledgement went there already."""

    __slots__ = ("acknowledged", "address", "ancillary", "post", "since")

    def __init__(self, post: Post, address: tuple[Any, ...], ancillary: Ancillary, since: float) -> None:
        self.post = post
        self.address = address
        self.ancillary = ancillary
        self.since = since
        self.acknowledged = False


class Express:
    """Takes plain posts of known senders; `received` says whether it took a datagram."""

    def __init__(self, context: DriverContext, emit: Emit, messages: Messages, *, most: int, patience_s: float) -> None:
        self._authenticate = context.authenticate
        self._count = context.count
        self._limit = context.settings.coap.max_payload
        self._emit = emit
        self._messages = messages
        self._most = most
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._taken: deque[_Open] = deque()
        self._news = asyncio.Event()
        self._open: dict[_Open, None] = {}
        """What is not answered yet, in order of arrival."""
        self._idle = asyncio.Event()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    def received(self, data: bytes, ancillary: Ancillary, address: tuple[Any, ...]) -> bool:
        """Take a datagram, or leave it to aiocoap."""
        post = read_post(data)
        if (
            post is None
            or post.content_format not in FORMATS
            or len(post.payload) > self._limit
            or not self._authenticate.remembers(post.key, post.secret)
        ):
            return False
        request = _Open(post, address, ancillary, self._loop.time())
        recent = self._messages.recent
        key = (address, post.mid)
        if recent.repeated(key):
            if post.confirmable and (said := recent.answer(key)) is not None:
                self._send(request, said if isinstance(said, bytes) else said.encode())
            return True
        if self._closing or len(self._open) >= self._most:
            self._count("coap_busy")
            self._say(request, answers.busy())
            return True
        self._open[request] = None
        self._taken.append(request)
        self._news.set()
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)
        return True

    async def run(self) -> None:
        """Hand over what was taken, until cancelled."""
        handed = 0
        while True:
            while self._taken:
                await self._hand_over(self._taken.popleft())
                handed += 1
                if handed % _TURN == 0:
                    await asyncio.sleep(0)
            self._news.clear()
            await self._news.wait()

    async def settle(self, seconds: float) -> None:
        """Take no more; wait a little for what is under way."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    self._idle.clear()
                    await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()

    async def _hand_over(self, request: _Open) -> None:
        post = request.post

        async def done(outcome: Outcome) -> None:
            if request not in self._open:
                return  # it was given up meanwhile
            if outcome.stored and not outcome.problems and not request.acknowledged:
                kind, mid = (ACK, post.mid) if post.confirmable else (NON, self._messages.next_message_id())
                self._close(request, answer(kind, _CHANGED, mid, post.token))
            else:
                self._say(request, answers.outcome(outcome))

        uplink = Uplink(
            driver="coap",
            address=f"iot:{post.key}",
            topic=f"/v1/{post.key}/telemetry",
            payload=post.payload,
            content_format=post.content_format,
            done=done,
        )
        try:
            await self._emit(uplink)
        except StoreUnavailable:
            self._refuse(request)

    def _refuse(self, request: _Open) -> None:
        if request in self._open:
            self._count("coap_store_unavailable")
            self._say(request, answers.store_unavailable())

    def _say(self, request: _Open, message: Message) -> None:
        """Answer with a message of aiocoap's: in the acknowledgement, or apart once that went out empty."""
        post = request.post
        message.token = post.token
        if not request.acknowledged:
            message.mtype = Type(ACK if post.confirmable else NON)
            message.mid = post.mid if post.confirmable else self._messages.next_message_id()
            self._close(request, message.encode())
            return
        self._ended(request)
        pktinfo = request.ancillary[0][2] if request.ancillary else None
        message.remote = UDP6EndpointAddress(request.address, self._messages.message_interface, pktinfo=pktinfo)
        message.mtype = Type(CON)
        self._messages.send_message(message, _nobody_minds)

    def _close(self, request: _Open, datagram: bytes) -> None:
        self._ended(request)
        self._messages.recent.answered((request.address, request.post.mid), datagram)
        self._send(request, datagram)

    def _ended(self, request: _Open) -> None:
        self._open.pop(request, None)
        if not self._open:
            self._idle.set()

    def _send(self, request: _Open, datagram: bytes) -> None:
        self._messages.message_interface.transport.sendmsg(datagram, request.ancillary, 0, request.address)

    def _look(self) -> None:
        """Acknowledge what has waited too long for that, and give up what has waited too long for its answer."""
        now = self._loop.time()
        for request in list(self._open):
            waited = now - request.since
            if waited < EMPTY_ACK_S:
                break
            if waited > self._patience_s:
                self._refuse(request)
            elif request.post.confirmable and not request.acknowledged:
                request.acknowledged = True
                datagram = answer(ACK, 0, request.post.mid)
                self._messages.recent.answered((request.address, request.post.mid), datagram)
                self._send(request, datagram)
        self._timer = self._loop.call_later(_LOOK_S, self._look) if self._open else None


def _nobody_minds() -> None:
    """Stand in for who would want to know that an answer was refused."""
