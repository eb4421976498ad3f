"""What a broker elsewhere asks us: may this client connect, may it speak there (broker/answers.py says how)."""

from __future__ import annotations

from ipaddress import ip_address

from aiohttp import web

from iot_core.api.access import who
from iot_core.api.roles import Action, outside, require
from iot_core.api.routes import SERVICES, connection
from iot_core.broker.answers import (
    AclAsk,
    Answer,
    LoginAsk,
    acl_ask,
    answer,
    core_may_login,
    login_ask,
    may,
    takes_over,
)
from iot_core.broker.rights import core, rights_of, vendor
from iot_core.errors import RequestError
from iot_core.registry.credentials import Authenticator, bridges, may_sign_in, senders

__all__ = ["add_routes"]

AUTHENTICATE = web.AppKey("authenticate", Authenticator)
_MOST = 16 * 1024
_BEYOND = {"Authorization", "Forwarded", "X-Forwarded-For"}


async def auth(request: web.Request) -> web.Response:
    """Say whether a client may connect."""
    await _only_brokers(request)
    asked = login_ask(request.content_type, await _body(request))
    if asked is None:
        raise RequestError("api.broker_question")
    return _response(answer(asked.format, allowed=await _may_login(request, asked)))


async def acl(request: web.Request) -> web.Response:
    """Say whether a client may speak or listen somewhere."""
    await _only_brokers(request)
    asked = acl_ask(request.content_type, await _body(request))
    if asked is None:
        raise RequestError("api.broker_question")
    mqtt = request.app[SERVICES].settings.mqtt
    core_client = mqtt.client_id if mqtt.username and asked.username == mqtt.username else ""
    return _response(answer(asked.format, allowed=may(asked, await _rights(request, asked), core_client)))


async def _only_brokers(request: web.Request) -> None:
    """Answer this machine, or who shows an admin token: anyone else could try secrets here, a proxy's clients too."""
    if not _BEYOND & set(request.headers) and _is_loopback(request):
        return
    async with connection(request.app[SERVICES]) as borrowed:
        asker = await who(request, borrowed)
    if require(asker, Action.TOKENS) is not None:
        raise outside(asker, Action.TOKENS, "*")


def _is_loopback(request: web.Request) -> bool:
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


async def _may_login(request: web.Request, asked: LoginAsk) -> bool:
    mqtt = request.app[SERVICES].settings.mqtt
    if core_may_login(asked, mqtt.username, mqtt.password):
        return True
    return not takes_over(asked, mqtt.client_id) and await request.app[AUTHENTICATE](asked.username, asked.password)


async def _rights(request: web.Request, asked: AclAsk) -> list[tuple[str, str]]:
    services = request.app[SERVICES]
    if services.settings.mqtt.username and asked.username == services.settings.mqtt.username:
        return core(services.profiles)
    async with connection(services) as borrowed:
        if not await may_sign_in(borrowed, asked.username):
            return []  # it was let in before it was revoked
        found, bridged = await senders(borrowed), await bridges(borrowed)
    own = [each for each in found if asked.username in {each.device_key, each.gateway}]
    below = [each for each in bridged if each[0] == asked.username]
    return rights_of(asked.username, vendor(own, services.profiles, below))


async def _body(request: web.Request) -> bytes:
    data = await request.read()
    return data if len(data) <= _MOST else b""


def _response(said: Answer) -> web.Response:
    return web.Response(body=said.body, content_type=said.content_type)


def add_routes(router: web.UrlDispatcher) -> None:
    """Place them where the guides for EMQX and RabbitMQ say."""
    router.add_post("/broker/auth", auth)
    router.add_post("/broker/acl", acl)
