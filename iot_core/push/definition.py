"""What a person says of a target, checked: where it is, what it gets, how it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from yarl import URL

from iot_core import hours
from iot_core.errors import RequestError
from iot_core.model import Severity, is_key
from iot_core.push import template
from iot_core.push.addresses import check_reachable, parse_url, shown_url
from iot_core.push.cap import sender_fits
from iot_core.push.senders import notify, syslog, tls
from iot_core.push.senders.mqtt import topic_of
from iot_core.push.webhook import check_secret, new_secret

KINDS: Final = ("webhook", "mqtt", "apprise", "syslog", "feed")
FORMATS: Final = {
    "webhook": ("json", "cap", "text", "cef"),
    "mqtt": ("json", "cap", "text", "cef"),
    "apprise": ("text",),
    "syslog": ("cef", "json", "text"),
    "feed": ("cap",),
}
_WITH_TLS: Final = ("https", "mqtts", "syslog+tls")
SCOPES: Final = ("Public", "Restricted")
_OPTIONS: Final = frozenset({"username", "ca", "cert", "key", "sender", "sender_name", "scope", "audit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A target to be. `url` of apprise is the secret; `secret` of a webhook is made when none is brought along."""

    key: str
    kind: str = "webhook"
    url: str = ""
    secret: str | None = field(default=None, repr=False)
    format: str = ""
    language: str = "vi"
    template: str | None = None
    classes: Sequence[str] = ()
    areas: Sequence[str] = ()
    hours: str = ""
    min_severity: Severity = Severity.LOW
    accepts_simulated: bool = False
    watchdog: bool = False
    heartbeat_s: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


async def checked(said: Definition, *, allow_private: bool) -> Definition:
    """Check a target, and give it as it is kept: URL for people apart from its secret. Raises RequestError."""
    if not is_key(said.key):
        raise RequestError("push.bad_key", key=said.key)
    if said.kind not in KINDS:
        raise RequestError("push.bad_kind", kind=said.kind, kinds=", ".join(KINDS))
    format_ = said.format or FORMATS[said.kind][0]
    if format_ not in FORMATS[said.kind]:
        raise RequestError("push.bad_format", kind=said.kind, formats=", ".join(FORMATS[said.kind]))
    if said.language not in ("vi", "en"):
        raise RequestError("push.bad_language")
    hours.parse(said.hours)
    if said.template is not None:
        if format_ in ("cap", "cef"):
            raise RequestError("push.template_format", format=format_)
        template.check(said.template)
    _check_options(said)
    url, secret = await _place(said, allow_private=allow_private)
    return replace(said, url=url, secret=secret, format=format_)


def _check_options(said: Definition) -> None:
    if unknown := sorted(said.options.keys() - _OPTIONS):
        raise RequestError("push.bad_option", name=unknown[0], names=", ".join(sorted(_OPTIONS)))
    if (sender := said.options.get("sender")) is not None and not sender_fits(sender):
        raise RequestError("push.bad_sender")
    if said.options.get("scope", "Public") not in SCOPES:
        raise RequestError("push.bad_scope", scopes=", ".join(SCOPES))
    if said.options.keys() & {"ca", "cert", "key"}:
        if said.url.strip().partition("://")[0] not in _WITH_TLS:  # what is given for nothing is believed to guard
            raise RequestError("push.certificate_unused")
        tls.check(said.options)


async def _place(said: Definition, *, allow_private: bool) -> tuple[str, str]:
    match said.kind:
        case "feed":
            return "", ""
        case "apprise":
            await notify.check(said.url)
            if host := notify.host(said.url):
                await check_reachable(host, 0, allow_private=allow_private)
            return notify.shown(said.url), said.url
        case "webhook":
            parsed = parse_url(said.url)
            await check_reachable(parsed.host or "", parsed.port or 0, allow_private=allow_private)
            return str(parsed), new_secret() if said.secret is None else check_secret(said.secret)
        case "syslog":
            parsed = _url(said.url, tuple(syslog.PORTS), "push.bad_syslog")
            await check_reachable(parsed.host or "", parsed.port or 0, allow_private=allow_private)
            return str(parsed), ""
        case _:
            parsed = _url(said.url, ("mqtt", "mqtts"), "push.bad_mqtt", host=False)
            topic = topic_of(said.url)
            if not topic or set("+#\0") & set(topic) or topic.startswith("$"):
                raise RequestError("push.bad_topic")
            if not parsed.host and not topic.startswith("iot/alarms/"):
                raise RequestError("push.bad_home_topic")
            if parsed.host:
                await check_reachable(parsed.host, parsed.port or 0, allow_private=allow_private)
            return said.url.strip(), said.secret or ""


def _url(said: str, schemes: Sequence[str], code: str, *, host: bool = True) -> URL:
    try:
        parsed = URL(said.strip())
        _ = parsed.port
    except ValueError as exc:
        raise RequestError(code) from exc
    if parsed.scheme not in schemes or (host and not parsed.host):
        raise RequestError(code)
    if parsed.user is not None or parsed.password is not None:
        raise RequestError("push.userinfo")
    return parsed


def shown(kind: str, url: str) -> str:
    """Give a target's URL for people."""
    return shown_url(url) if kind == "webhook" else url
