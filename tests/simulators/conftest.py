"""A small city without a core."""

from __future__ import annotations

from functools import cache

from iot_core.profiles import Profiles, load
from simulators.device import SimDevice
from simulators.fleet import Planned, plan
from simulators.secret import Secrets


@cache
def profiles() -> Profiles:
    return load()


def planned(devices: int = 120, seed: int = 1) -> tuple[Planned, ...]:
    return plan(profiles(), devices=devices, seed=seed)


def device(model: str, protocol: str, *, address: str = "", buffered: int = 1) -> SimDevice:
    """Take a device of a model that speaks a protocol out of a city."""
    found = next(
        each
        for each in planned(400)
        if (each.model, each.voice.protocol, each.voice.buffered) == (model, protocol, buffered)
    )
    inner = address or found.key
    return SimDevice(
        found, found.voice.profile.address.replace("{address}", inner), secrets=Secrets("s3cret"), run="r1"
    )
