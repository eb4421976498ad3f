"""What a technician types into a device: where it sends, as whom, on which topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["facts", "into"]


def facts(added: shapes.DeviceAdded, where: shapes.Endpoints) -> list[tuple[str, str]]:
    """List what goes into a device that was just added."""
    return into(added.device.key, added.address, added.secret, where)


def into(key: str, address: str, secret: str | None, where: shapes.Endpoints) -> list[tuple[str, str]]:
    """List what goes into a device, by the scheme of its address; headings as codes."""
    scheme, _, rest = address.partition(":")
    if scheme == "iot":
        return _native(rest, secret, where)
    if scheme == "mqtt":
        return [
            ("cli.into_broker", where.mqtt),
            *([("cli.into_tls", where.mqtts)] if where.mqtts else []),
            ("cli.into_user", key),
            ("cli.into_password", secret or text("cli.into_unchanged")),
            ("cli.into_topic", rest),
        ]
    return [("cli.into_address", address)]


def _native(key: str, secret: str | None, where: shapes.Endpoints) -> list[tuple[str, str]]:
    return [
        ("cli.into_broker", where.mqtt),
        *([("cli.into_tls", where.mqtts)] if where.mqtts else []),
        ("cli.into_user", key),
        ("cli.into_password", secret or text("cli.into_unchanged")),
        ("cli.into_topic", f"iot/v1/{key}/telemetry"),
        ("cli.into_status", f"iot/v1/{key}/status"),
        ("cli.into_coap", f"coap://{where.coap}/v1/{key}/telemetry?token={secret or 'SECRET'}"),
    ]
