"""A signed POST. Never follows a redirect, reads at most 64 KiB of an answer, ends within its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iot_core.push.senders import tls
from iot_core.push.senders.base import Sender
from iot_core.push.webhook import open_session, post

if TYPE_CHECKING:
    import aiohttp

    from iot_core.push.answer import Answer
    from iot_core.push.outbox import Endpoint
    from iot_core.push.parcel import Parcel
    from iot_core.push.senders.base import Access

__all__ = ["WebhookSender"]


class WebhookSender(Sender):
    """Keeps one session: nothing is shared with other targets but the loop."""

    def __init__(self, target: Endpoint, access: Access) -> None:
        self._target = target
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def send(self, parcel: Parcel) -> Answer:
        """Post it, signed with every secret that is good now."""
        target = self._target
        if self._session is None:
            own = tls.context(target.options) if target.options.keys() & {"ca", "cert"} else None
            self._session = open_session(
                allow_private=self._access.allow_private, timeout_s=self._access.timeout_s, tls=own
            )
        secrets = [target.secret]
        if target.old_secret and target.old_secret_until and target.old_secret_until > datetime.now(UTC):
            secrets.append(target.old_secret)
        return await post(
            self._session, target.url, secrets, parcel.message_id, parcel.data,
            content_type=parcel.content_type, allow_private=self._access.allow_private,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
