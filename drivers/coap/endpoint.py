"""aiocoap's server context within our bounds: duplicates, datagrams, logs."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from weakref import WeakSet

from aiocoap import Context, Message
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import CON, NON
from aiocoap.tokenmanager import TokenManager
from aiocoap.util import socknumbers

from drivers.coap.recent import Recent

LOGGER: Final = "iot.coap"
DATAGRAM: Final = 65_536
EMPTY_ACK_S: Final = 1.0
"""A confirmable request not answered by then is acknowledged empty; a sender repeats it after 2 s at the least."""

_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""A thousand devices may speak in one moment (a power cut ended); what the socket has no room for is lost."""
_ANCILLARY: Final = 256
_TURN: Final = 64
"""Datagrams read at once, before others get their turn."""
_SECRET = re.compile(r"(token=)[^&\s'\"<>]+", re.IGNORECASE)

Received = Callable[[bytes, Any, Any, Any], None]
First = Callable[[bytes, Any, Any], bool]
"""Offered each datagram first; says whether it took it."""


class Endpoint(Context):  # type: ignore[misc] # aiocoap is untyped
    """A server context whose message layer is `Messages`."""

    messages: Messages

    async def _append_tokenmanaged_messagemanaged_transport(self, connect: Any) -> None:
        tokens = TokenManager(self)
        self.messages = Messages(tokens)
        tokens.token_interface = self.messages
        self.messages.message_interface = await connect(self.messages)
        self.request_interfaces.append(tokens)

    @property
    def by_socket(self) -> bool:
        """Say whether datagrams come from one socket that we may read ourselves (aiocoap's `udp6`)."""
        return hasattr(self.messages.message_interface, "datagram_msg_received")

    def harden(self, count: Callable[[str], None], first: First = lambda *_: False) -> None:
        """Read datagrams whole and many at once, offer them to `first`, drop and count those that cannot be read.

        aiocoap's UDP transport cuts at 4,096 bytes without a word, and text in an option that is no UTF-8 raises out of
        it: a page of traceback for every datagram that a stranger cares to send.
        """
        interface = self.messages.message_interface
        if not self.by_socket:
            return
        interface.transport.max_size = DATAGRAM
        interface.datagram_msg_received = received = _guarded(interface.datagram_msg_received, count)
        sock: socket.socket = interface.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        asyncio.get_running_loop().add_reader(sock.fileno(), _reader(interface, sock, first, received))


def _reader(interface: Any, sock: socket.socket, first: First, received: Received) -> Callable[[], None]:
    """Read what is there, up to a turn of it: aiocoap's own reader goes around the event loop for each datagram."""

    def read() -> None:
        with suppress(BlockingIOError, InterruptedError):  # nothing on the queue of ICMP errors, as nearly always
            interface.datagram_errqueue_received(*sock.recvmsg(DATAGRAM, _ANCILLARY, socknumbers.MSG_ERRQUEUE))
        for _ in range(_TURN):
            try:
                data, ancillary, flags, address = sock.recvmsg(DATAGRAM, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                interface.error_received(exc)
                return
            if not first(data, ancillary, address):
                received(data, ancillary, flags, address)
                return  # of two requests with one token in one turn, aiocoap would drop the first before it began

    return read


def _guarded(received: Received, count: Callable[[str], None]) -> Received:
    def guarded(*datagram: Any) -> None:
        try:
            received(*datagram)
        except (ValueError, LookupError, struct.error):
            count("coap_unreadable")

    return guarded


class _Tuning(TransportTuning):  # type: ignore[misc] # aiocoap is untyped
    EMPTY_ACK_DELAY = EMPTY_ACK_S


class Messages(MessageManager):  # type: ignore[misc] # aiocoap is untyped
    """The message layer with a bounded memory."""

    def __init__(self, tokens: TokenManager) -> None:
        super().__init__(tokens)
        self.recent = Recent()
        self.told = Recent()
        """Confirmable notifications: answered once they are committed."""
        self.count: Callable[[str], None] = lambda _: None
        self.awake: Callable[[Any], None] | None = None
        """Told who says something that nobody asked for: a sleeper that is awake, with a registration we gave up."""
        self._answered: WeakSet[Any] = WeakSet()
        """Requests whose first answer is there: what comes now are notifications."""
        self._under_way: dict[Any, Message] = {}

    def dispatch_message(self, message: Message) -> None:
        """Hand a notification on with its acknowledgement, which aiocoap would send at once.

        Who observes calls `message.acknowledge` after COMMIT; until then the device repeats it, which is ignored. Under
        OSCORE what leaves the protection is another message, on which our context puts it (`UnitContext.unprotect`).
        """
        waits = message.mtype is CON and message.code.is_response() and message.opt.observe is not None
        request = self.token_manager.outgoing_requests.get((message.token, message.remote))
        asked, follows = request is not None, request in self._answered
        if request is not None and message.code.is_response():
            self._answered.add(request)
        if self.awake is not None and message.code.is_response() and not asked:
            self._hurry(message.remote)
            self.awake(message.remote)
        if not waits or not asked:
            super().dispatch_message(message)
            return
        key = (*_key(message), message.token)  # a device that was restarted may count from the same number again
        if self.told.repeated(key):
            if self.told.answer(key) is not None:
                self._send_empty_ack(message.remote, message.mid, reason="its acknowledgement was lost")
            return
        message.acknowledge = partial(self._acknowledge, message, key)
        # What asks for no acknowledgement is not acknowledged by aiocoap either; the rest of its way is the same.
        message.mtype = NON
        super().dispatch_message(message)
        if follows and message.opt.oscore is None and not getattr(message, "taken", False):
            # One that was overtaken on its way (RFC 7641, 3.4) is for nobody: its device would repeat it in vain, and
            # then take us off its list.
            self.count("coap_notification_overtaken")
            self._acknowledge(message, key)

    def _acknowledge(self, message: Message, key: Hashable) -> None:
        if self.told.answer(key) is None and self._active_exchanges is not None:  # None: it is shut down
            self.told.answered(key, True)
            self._send_empty_ack(message.remote, message.mid, reason="committed")

    def _hurry(self, remote: Any) -> None:
        """Repeat at once, once, what is on its way to a remote that speaks: later it may be asleep again."""
        message = self._under_way.pop(remote, None)
        if message is not None and (remote, message.mid) in (self._active_exchanges or ()):
            self._send_via_transport(message)

    def _schedule_retransmit(self, message: Message, timeout: float, retransmission_counter: int) -> Any:
        if self.awake is not None:
            self._under_way[message.remote] = message
        return super()._schedule_retransmit(message, timeout, retransmission_counter)

    def _remove_exchange(self, message: Message) -> None:
        self._under_way.pop(message.remote, None)
        super()._remove_exchange(message)

    def next_message_id(self) -> int:
        """Reserve a message id."""
        return int(self._next_message_id())

    def _continue_backlog(self, remote: Any) -> None:
        """Send what waited for an exchange to end. One exchange a remote is under way at most (NSTART is 1).

        aiocoap looks through all exchanges with everybody to find that out.
        """
        waiting = self._backlogs.get(remote)
        while waiting:
            message, monitor = waiting.pop(0)
            self._send_initially(message, monitor)
            if message.mtype is CON:
                return
        self._backlogs.pop(remote, None)

    def _process_request(self, request: Message) -> None:
        request.transport_tuning = _Tuning()
        super()._process_request(request)

    def _deduplicate_message(self, message: Message) -> bool:
        key = _key(message)
        if not self.recent.repeated(key):
            return False
        answer = self.recent.answer(key)
        if message.mtype is CON and answer is not None:
            if isinstance(answer, bytes):
                pktinfo = message.remote.pktinfo
                ancillary = [] if pktinfo is None else [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, pktinfo)]
                self.message_interface.transport.sendmsg(answer, ancillary, 0, message.remote.sockaddr)
            else:
                self._send_initially(answer)
        return True

    def _store_response_for_duplicates(self, message: Message) -> None:
        self.recent.answered(_key(message), message)
        message.request = None  # else each remembered answer keeps its request's payload


def _key(message: Message) -> tuple[Hashable, int]:
    remote = message.remote
    return (getattr(remote, "sockaddr", remote), message.mid)


class _Redact(logging.Filter):
    """Blots out the secret of a URI, should a version of aiocoap ever write one."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if "token=" in said.lower():
            record.msg, record.args = _SECRET.sub(r"\1********", said), ()
        return True


_redact = _Redact()


def keep_secrets_out_of_the_log() -> None:
    """Let aiocoap write only what an operator can act on, and never a token."""
    logger = logging.getLogger(LOGGER)
    logger.addFilter(_redact)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
