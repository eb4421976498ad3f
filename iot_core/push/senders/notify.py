"""E-mail, Telegram, Zalo or SMS gateways and a hundred others, by apprise's URLs (which hold their secrets).

apprise is not asynchronous and some services hang, so each send has a daemon thread; a target has at most PLACES.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from iot_core.errors import RequestError
from iot_core.push.answer import Answer
from iot_core.push.senders.base import PLACES, Sender, reachable, word

if TYPE_CHECKING:
    from iot_core.push.outbox import Endpoint
    from iot_core.push.parcel import Parcel
    from iot_core.push.senders.base import Access

__all__ = ["NotifySender", "check", "host", "shown"]


async def check(url: str) -> None:
    """Check that apprise knows what to do with a URL. Raises RequestError, which does not repeat it."""
    if await asyncio.to_thread(_service, url) is None:  # the first time it imports for half a second
        raise RequestError("push.bad_apprise")


def shown(url: str) -> str:
    """Give a URL for people: the service, nothing of where and as whom."""
    return f"{url.partition('://')[0].lower()}://…"


class NotifySender(Sender):
    """Hands messages to apprise."""

    def __init__(self, target: Endpoint, access: Access) -> None:
        self._url = target.secret
        self._access = access
        self._busy = 0

    async def send(self, parcel: Parcel) -> Answer:
        """Send one message; the thread of one that hangs keeps its place until it ends."""
        if self._busy >= PLACES:
            return Answer(None, "timeout")
        named = host(self._url)
        try:
            if named:
                async with asyncio.timeout(self._access.timeout_s):
                    await reachable(named, 0, self._access)
            self._busy += 1
            async with asyncio.timeout(self._access.timeout_s):
                sent = await self._in_thread(parcel)
        except OSError as exc:
            return Answer(None, word(exc))
        return Answer(None, None if sent else "service")

    async def _in_thread(self, parcel: Parcel) -> bool:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def settle(result: bool) -> None:
            self._busy -= 1
            if not done.done():
                done.set_result(result)

        def work() -> None:
            result = False
            with contextlib.suppress(Exception):  # a plugin of a hundred authors; what it says may hold the secret
                result = _notify(self._url, parcel)
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name="push notify", daemon=True).start()
        return await done


def _notify(url: str, parcel: Parcel) -> bool:
    import apprise  # noqa: PLC0415 - as in `_service`

    service = _service(url)
    if service is None:
        return False
    many = apprise.Apprise()
    many.add(service)
    kinds = {"critical": "failure", "high": "failure", "medium": "warning"}
    # That it is plain text makes an e-mail in HTML show what is written, line by line, and run none of it.
    sent: Any = many.notify(
        title=parcel.subject, body=parcel.data.decode(), notify_type=kinds.get(parcel.severity, "info"),
        body_format=apprise.NotifyFormat.TEXT,
    )  # fmt: skip
    return bool(sent)


def _service(url: str) -> Any:
    import apprise  # noqa: PLC0415 - half a second, only where somebody uses it

    # It logs URLs and answers, which hold secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    with contextlib.suppress(Exception):
        service: Any = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is not None and service is not False:
            service.redirects = False
            return service
    return None


# Of these the host in the URL is a host; of others it is a token, and the service's own address is fixed in its plugin.
_NAMES_A_HOST: Final = (
    "amqp amqps apprise apprises bark barks deltachat deltachats emby embys enigma2 enigma2s evolution evolutions"
    " flowtriq flowtriqs fluxer fluxers form forms goalert goalerts gorush gorushs gotify gotifys growl hassio hassios"
    " humhub humhubs irc ircs jellyfin jellyfins json jsons kodi kodis lametric lametrics mailto mailtos mastodon"
    " mastodons matrix matrixs misskey misskeys mmost mmosts mqtt mqtts ncloud nclouds nctalk nctalks notica noticas"
    " notifico notificos ntfy ntfys onebot onebots opsimate opsimates parsep parseps pinglet pinglets pjet pjets"
    " pushdeer pushdeers rocket rockets rsyslog session sessions signal signals smpp smpps smseagle smseagles sogs"
    " synology synologys syslog toot toots workflow workflows xbmc xbmcs xml xmls xmpp xmpps zulip"
)
_WITH_HOST: Final = frozenset(_NAMES_A_HOST.split())


def host(url: str) -> str:
    """Give the host that a URL itself names, so that it can be checked; empty where the plugin knows its service's."""
    with contextlib.suppress(ValueError):
        parsed = URL(url)
        if parsed.scheme in _WITH_HOST:
            return str(parsed.query.get("smtp") or parsed.host or "")
    return ""
