"""The resource `/v1/claim`: a new device claims itself with its batch's key (docs/provisioning.md).

2.04 with JSON: accepted with a secret, or waiting; 4.03 refused, 4.00 no claim, 5.03 the store is away
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiocoap import Message, resource
from aiocoap.numbers.codes import Code

from drivers.coap import answers
from iot_core.driver import ClaimState
from iot_core.errors import RequestError, StoreUnavailable

if TYPE_CHECKING:
    from drivers.coap.inflight import InFlight
    from iot_core.driver import Claim, Count

__all__ = ["Claims"]

_JSON: Final = 50
_MOST: Final = 4_096
_CODES: Final = {
    ClaimState.ACCEPTED: Code.CHANGED,
    ClaimState.WAITING: Code.CHANGED,
    ClaimState.REFUSED: Code.FORBIDDEN,
}


class Claims(resource.Resource):  # type: ignore[misc] # aiocoap is untyped
    """What new devices post to."""

    def __init__(self, claim: Claim, count: Count, in_flight: InFlight) -> None:
        super().__init__()
        self.ct = _JSON
        self.rt = "iot.claim"
        self._claim = claim
        self._count = count
        self._in_flight = in_flight

    async def needs_blockwise_assembly(self, request: Message) -> bool:
        """Say no: a claim fits into one datagram, and blocks of strangers are kept nowhere."""
        del request
        return False

    async def render_post(self, request: Message) -> Message:
        """Answer a claim."""
        if request.opt.block1 is not None or len(request.payload) > _MOST:
            return answers.too_large(_MOST)
        if self._in_flight.full:
            return answers.busy()
        return await self._in_flight.carry(self._answer(request))

    async def _answer(self, request: Message) -> Message:
        host = str(request.remote.hostinfo).rpartition(":")[0] if ":" in request.remote.hostinfo else ""
        came_from = (host or str(request.remote.hostinfo)).strip("[]")
        try:
            claimed = await self._claim(bytes(request.payload), driver="coap", came_from=came_from)
        except RequestError:
            self._count("claims_malformed")
            return answers.no_claim()
        except StoreUnavailable:
            self._count("coap_store_unavailable")
            return answers.store_unavailable()
        return Message(code=_CODES[claimed.state], payload=claimed.body, content_format=_JSON)
