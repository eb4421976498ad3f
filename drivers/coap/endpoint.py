"""aiocoap's server context within our bounds: duplicates, datagrams, logs."""

from __future__ import annotations

import logging
import re
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from aiocoap import Context, Message
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.types import CON
from aiocoap.tokenmanager import TokenManager

LOGGER = "iot.coap"
REMEMBERED = 20_000
"""How many messages the duplicate filter knows at most; beyond it, merging by time and seq tells repetitions."""

DATAGRAM = 65_536
_SECRET = re.compile(r"(token=)[^&\s'\"<>]+", re.IGNORECASE)


class Endpoint(Context):  # type: ignore[misc] # aiocoap is untyped
    """A server context whose message layer is `Messages`."""

    async def _append_tokenmanaged_messagemanaged_transport(self, connect: Any) -> None:
        tokens = TokenManager(self)
        messages = Messages(tokens)
        tokens.token_interface = messages
        messages.message_interface = await connect(messages)
        self.request_interfaces.append(tokens)

    def harden(self, count: Callable[[str], None]) -> None:
        """Read datagrams whole, and drop and count those that cannot be read.

        aiocoap's UDP transport cuts at 4,096 bytes without a word, and text in an option that is no UTF-8 raises out of
        it: a page of traceback for every datagram that a stranger cares to send.
        """
        for tokens in self.request_interfaces:
            interface = tokens.token_interface.message_interface
            transport = getattr(interface, "transport", None)
            if transport is not None:
                transport.max_size = DATAGRAM
            if hasattr(interface, "datagram_msg_received"):
                interface.datagram_msg_received = _guarded(interface.datagram_msg_received, count)


def _guarded(received: Callable[..., None], count: Callable[[str], None]) -> Callable[..., None]:
    def guarded(*arguments: object) -> None:
        try:
            received(*arguments)
        except (ValueError, LookupError, struct.error):
            count("coap_unreadable")

    return guarded


class Messages(MessageManager):  # type: ignore[misc] # aiocoap is untyped
    """The message layer with a bounded memory.

    aiocoap remembers every request for 247 s, with its answer and a timer each: at 1,000 requests a second some
    hundred megabytes. Here the oldest are forgotten early, and no timer is needed.
    """

    def __init__(self, tokens: TokenManager) -> None:
        super().__init__(tokens)
        self._recent_messages = OrderedDict[tuple[Any, int], Message | None]()
        self._seen = OrderedDict[tuple[Any, int], float]()

    def _deduplicate_message(self, message: Message) -> bool:
        key = (message.remote, message.mid)
        self._forget(time.monotonic() - message.transport_tuning.EXCHANGE_LIFETIME)
        if key not in self._recent_messages:
            self._recent_messages[key] = None
            self._seen[key] = time.monotonic()
            return False
        answer = self._recent_messages[key]
        if message.mtype is CON and answer is not None:
            self._send_initially(answer)
        return True

    def _forget(self, before: float) -> None:
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if seen >= before and len(self._seen) < REMEMBERED:
                return
            del self._seen[key]
            self._recent_messages.pop(key, None)

    def _store_response_for_duplicates(self, message: Message) -> None:
        super()._store_response_for_duplicates(message)
        message.request = None  # else each remembered answer keeps its request's payload


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
