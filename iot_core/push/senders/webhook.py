"""A signed POST. Never follows a redirect, reads little of an answer, ends within its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iot_core.push.post import Poster
from iot_core.push.senders import tls
from iot_core.push.senders.base import Sender
from iot_core.push.webhook import headers

if TYPE_CHECKING:
    from iot_core.push.answer import Answer
    from iot_core.push.outbox import Endpoint
    from iot_core.push.parcel import Parcel
    from iot_core.push.senders.base import Access

__all__ = ["WebhookSender"]


class WebhookSender(Sender):
    """Keeps its own connections: nothing is shared with other targets but the loop."""

    places = 32

    def __init__(self, target: Endpoint, access: Access) -> None:
        self._target = target
        self._access = access
        self._poster: Poster | None = None

    async def send(self, parcel: Parcel) -> Answer:
        """Post it, signed with every secret that is good now."""
        target = self._target
        if self._poster is None:
            own = tls.context(target.options) if target.options.keys() & {"ca", "cert"} else None
            access = self._access
            self._poster = Poster(target.url, allow_private=access.allow_private, timeout_s=access.timeout_s, tls=own)
        secrets = [target.secret]
        if target.old_secret and target.old_secret_until and target.old_secret_until > datetime.now(UTC):
            secrets.append(target.old_secret)
        signed = headers(secrets, parcel.message_id, parcel.data, content_type=parcel.content_type)
        return await self._poster.post(signed, parcel.data)

    async def close(self) -> None:
        """Close the connections."""
        if self._poster is not None:
            await self._poster.close()
