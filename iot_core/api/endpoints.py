"""Where devices send to, for the person who types it into one."""

from iot_core.api import shapes
from iot_core.api.routes import Call, NoQuery, Reach, get

_EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not listened on


async def endpoints(call: Call[NoQuery]) -> shapes.Endpoints:
    """Say where the broker and the CoAP server listen, as seen by whoever asks."""
    services = call.services
    broker = services.broker.endpoint if services.broker is not None else services.settings.mqtt
    tls = services.settings.mqtt.tls_port
    return shapes.Endpoints(
        mqtt=_reached(call, broker.host, broker.port),
        coap=reached_coap(call),
        mqtts=_reached(call, broker.host, tls) if tls else None,
    )


def reached_coap(call: Call[NoQuery]) -> str:
    """Say where the CoAP server is, `HOST:PORT`."""
    coap = call.services.settings.coap
    return _reached(call, coap.host, coap.port)


def reached_claims(call: Call[NoQuery], *, tls: bool = False) -> str | None:
    """Say where new devices claim themselves over MQTT, in clear or over TLS; None where they cannot."""
    claims = call.services.settings.claims
    port = claims.tls_port if tls else claims.port
    return _reached(call, claims.host, port) if port else None


def _reached(call: Call[NoQuery], host: str, port: int) -> str:
    """Write `HOST:PORT`; what listens on every address is reached at the name that the asker used for the API."""
    name = (call.request.url.host or host) if host in _EVERY_ADDRESS else host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


routes = (get("/endpoints", endpoints, reach=Reach.ANY),)
