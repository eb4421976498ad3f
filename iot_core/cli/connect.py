"""What a technician types into a device: where it sends, as whom, on which topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from iot_core.cli.session import endpoint, local_core

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["Ways", "facts", "ways"]

UNKNOWN = "HOST:PORT"


@dataclass(frozen=True, slots=True)
class Ways:
    """Where devices reach the core, each as `HOST:PORT`."""

    mqtt: str = UNKNOWN
    coap: str = UNKNOWN


def ways() -> Ways:
    """Find where devices reach the core that this command talks to; the core on this machine left it in its state."""
    directory = local_core(needed=False)
    running = None if directory is None else directory.running()
    if running is None or endpoint().url != running.url.rstrip("/"):
        return Ways()
    host = urlsplit(running.url).hostname or "127.0.0.1"
    found = {name: f"{host}:{port}" for name, port in running.ports.items() if name in {"mqtt", "coap"}}
    return Ways(**found)


def facts(added: shapes.DeviceAdded, where: Ways) -> list[tuple[str, str]]:
    """List what goes into the device, by the scheme of its address; headings as codes."""
    scheme, _, rest = added.address.partition(":")
    if scheme == "iot":
        return _native(rest, added.secret or "SECRET", where)
    if scheme == "mqtt":
        return [
            ("cli.into_broker", where.mqtt),
            ("cli.into_user", added.device.key),
            ("cli.into_password", added.secret or "-"),
            ("cli.into_topic", rest),
        ]
    return [("cli.into_address", added.address)]


def _native(key: str, secret: str, where: Ways) -> list[tuple[str, str]]:
    return [
        ("cli.into_broker", where.mqtt),
        ("cli.into_user", key),
        ("cli.into_password", secret),
        ("cli.into_topic", f"iot/v1/{key}/telemetry"),
        ("cli.into_status", f"iot/v1/{key}/status"),
        ("cli.into_coap", f"coap://{where.coap}/v1/{key}/telemetry?token={secret}"),
    ]
