"""Wait for one message of a device, beside a running core: `iot profile try MODEL --live mqtt:...`.

The broker is the one that the core on this machine started, or `IOT_BROKER=HOST:PORT` with `IOT_BROKER_USER` and
`IOT_BROKER_PASSWORD`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiomqtt
import msgspec

from iot_core.errors import DeviceUnreachable, RequestError
from iot_core.model import Uplink
from iot_core.settings import environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iot_core.profiles import Profile

__all__ = ["look"]

CORE = "_core"
"""The account that the core made for itself on the broker it started (iot_core/broker/mosquitto.py)."""


async def look(address: str, profile: Profile, timeout_s: float, state: Path) -> Sequence[Uplink]:
    """Wait for the next message of the device at `address`. Raises DeviceUnreachable when none comes in time."""
    host, port, username, password = _broker(state)
    topics = _topics(address, profile)
    try:
        async with (
            asyncio.timeout(timeout_s),
            aiomqtt.Client(host, port, username=username, password=password) as client,
        ):
            for topic in topics:
                await client.subscribe(topic, qos=1)
            async for message in client.messages:
                if message.retain:
                    continue  # of any age
                said = bytes(message.payload)
                return [Uplink(driver="mqtt", address=address, topic=str(message.topic), payload=said)]
    except TimeoutError:
        raise DeviceUnreachable("driver.heard_nothing", address=address, seconds=f"{timeout_s:g}") from None
    except (aiomqtt.MqttError, OSError) as exc:
        raise DeviceUnreachable("driver.no_broker", broker=f"{host}:{port}", detail=str(exc)) from exc
    raise DeviceUnreachable("driver.heard_nothing", address=address, seconds=f"{timeout_s:g}")


def _topics(address: str, profile: Profile) -> Sequence[str]:
    before, _, after = profile.address.partition("{address}")
    inner = address[len(before) : len(address) - len(after)]
    if f"{before}{inner}{after}" != address or not inner:
        raise RequestError("driver.other_address", address=address, template=profile.address)
    if not profile.topics:
        return (f"iot/v1/{inner}/telemetry",)
    return tuple(topic.replace("{address}", inner) for topic in profile.topics)


def _broker(state: Path) -> tuple[str, int, str | None, str | None]:
    """Say which broker is meant, and as whom."""
    named = environment("IOT_BROKER")
    if named:
        host, _, port = named.rpartition(":")
        if not host or not port.isdecimal():
            raise RequestError("driver.bad_broker", broker=named)
        return host, int(port), environment("IOT_BROKER_USER") or None, environment("IOT_BROKER_PASSWORD") or None
    own = _core_port(state)
    if own is None:
        raise RequestError("driver.no_core")
    try:
        secret = (state / "broker" / "secret").read_text(encoding="ascii")
    except OSError:
        return "127.0.0.1", own, None, None  # the embedded broker asks for no password
    return "127.0.0.1", own, CORE, secret


def _core_port(state: Path) -> int | None:
    """Read where the broker of the core on this machine listens; None when no core runs."""
    try:
        port = msgspec.json.decode((state / "core.json").read_bytes())["ports"]["mqtt"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
    return port if isinstance(port, int) else None
