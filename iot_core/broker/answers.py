"""What an outside broker is told when it asks us over HTTP who may log in and speak where. Pure.

    EMQX      POST JSON  {username, password, clientid} | {username, action, topic}     -> {"result": "allow" | "deny"}
    RabbitMQ  POST form  username, password | vhost | resource, name | ..., routing_key -> allow | deny

RabbitMQ's `auth_http.user_path` is /broker/auth; its vhost_path, resource_path and topic_path are all /broker/acl.
A client id that looks like a device's key belongs to that device (`takes_over`): else one device could take over
another one's session, and read its commands.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from iot_core import sparkplug
from iot_core.broker.rights import READ, WRITE, covers
from iot_core.model import is_key

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AclAsk",
    "Answer",
    "Format",
    "LoginAsk",
    "acl_ask",
    "answer",
    "core_may_login",
    "login_ask",
    "may",
    "takes_over",
]

_EXCHANGE: Final = "amq.topic"
_SPARKPLUG: Final = "spBv1___0"
_QUEUE: Final = re.compile(r"mqtt-subscription-(.+)qos[01]|mqtt-will-(.+)", re.DOTALL)


class Format(StrEnum):
    """Whose words are spoken."""

    EMQX = "emqx"
    RABBITMQ = "rabbitmq"


@dataclass(frozen=True, slots=True)
class LoginAsk:
    """Ask whether a client may connect."""

    format: Format
    username: str
    password: str
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class AclAsk:
    """Ask whether a client may do that. RabbitMQ also asks about virtual hosts, exchanges and queues: no topic then."""

    format: Format
    username: str
    action: str = ""
    topic: str = ""
    resource: str = "vhost"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP answer; its status is always 200, because the brokers read the body."""

    content_type: str
    body: bytes


class _Emqx(msgspec.Struct, frozen=True):
    """One body for both questions; EMQX sends what the operator's template names."""

    username: str = ""
    password: str | None = None
    clientid: str = ""
    action: str = ""
    topic: str = ""


def login_ask(content_type: str, body: bytes) -> LoginAsk | None:
    """Read the question of a broker; None when it makes no sense (answer 400)."""
    if _is_json(content_type):
        asked = _emqx(body)
        return LoginAsk(Format.EMQX, asked.username, asked.password or "", asked.clientid) if asked else None
    form = _form(body)
    if "username" not in form:
        return None
    return LoginAsk(Format.RABBITMQ, form["username"], form.get("password", ""), form.get("client_id", ""))


def acl_ask(content_type: str, body: bytes) -> AclAsk | None:
    """Read the question of a broker; None when it makes no sense (answer 400)."""
    if _is_json(content_type):
        asked = _emqx(body)
        if asked is None or not asked.topic:
            return None
        action = {"publish": WRITE, "subscribe": READ}.get(asked.action, "")
        return AclAsk(Format.EMQX, asked.username, action, asked.topic, "topic")
    form = _form(body)
    if "username" not in form:
        return None
    # RabbitMQ speaks AMQP inside: levels are parted by dots, one level is a star.
    topic = form.get("routing_key", "").replace(".", "/").replace("*", "+")
    if topic.startswith(_SPARKPLUG):  # what mqtt.sparkplug = true makes of its dot
        topic = f"{sparkplug.NAMESPACE}{topic.removeprefix(_SPARKPLUG)}"
    kind = "topic" if "routing_key" in form else form.get("resource", "vhost")
    return AclAsk(Format.RABBITMQ, form["username"], form.get("permission", ""), topic, kind, form.get("name", ""))


def core_may_login(ask: LoginAsk, username: str, password: str) -> bool:
    """Say whether the one who asks is the core's own account (`mqtt.username`, `mqtt.password`)."""
    return bool(username and password) and (
        hmac.compare_digest(ask.username.encode(), username.encode())
        and hmac.compare_digest(ask.password.encode(), password.encode())
    )


def takes_over(ask: LoginAsk, core_client: str = "") -> bool:
    """Say whether a device asks to connect under a client id that is another one's, or one of the core's own."""
    if core_client and (ask.client_id == core_client or ask.client_id.startswith(f"{core_client}-")):
        return True
    return is_key(ask.client_id) and ask.client_id != ask.username


def may(ask: AclAsk, rights: Iterable[tuple[str, str]], core_client: str = "") -> bool:
    """Say whether somebody with these rights (action, topic filter) may do what is asked.

    RabbitMQ keeps a client's subscriptions in queues named after its client id: a device's is its key. The core's own
    account has several connections; `core_client` is how all their client ids begin, empty for everybody else.
    """
    match ask.resource:
        case "vhost":
            return True
        case "exchange":
            return ask.name == _EXCHANGE and ask.action in {READ, WRITE}
        case "queue":
            found = _QUEUE.fullmatch(ask.name)
            return found is not None and _is_own(found[1] or found[2], ask.username, core_client)
        case "topic":
            return any(action == ask.action and covers(granted, ask.topic) for action, granted in rights)
        case _:
            return False


def _is_own(client_id: str, username: str, core_client: str) -> bool:
    if core_client:
        return client_id == core_client or client_id.startswith(f"{core_client}-")
    return client_id == username


def answer(kind: Format, *, allowed: bool) -> Answer:
    """Say yes or no in the broker's words."""
    word = "allow" if allowed else "deny"
    if kind is Format.EMQX:
        return Answer("application/json", msgspec.json.encode({"result": word, "is_superuser": False}))
    return Answer("text/plain", word.encode())


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _emqx(body: bytes) -> _Emqx | None:
    try:
        return msgspec.json.decode(body, type=_Emqx)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except (ValueError, UnicodeError):
        return {}
    return {name: values[0] for name, values in fields.items()}
