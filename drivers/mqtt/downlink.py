"""What is published for a command: natively, on a vendor's topic, or into a network server's queue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import msgspec

from iot_core.errors import CommandRejected

if TYPE_CHECKING:
    from iot_core.model import Command, MountedUnit, Value
    from iot_core.profiles import Profiles

__all__ = ["Outgoing", "outgoing"]

NATIVE = "iot:"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    topic: str
    payload: bytes
    retain: bool = False


def outgoing(unit: MountedUnit, command: Command, profiles: Profiles, heard_on: str) -> Outgoing:
    """Write a command for a unit. `heard_on` is the topic that it was last heard on, empty when it never was.

    Raises CommandRejected where the model cannot be told, or its network server is not known yet.
    """
    if unit.address.startswith(NATIVE):
        return Outgoing(f"iot/v1/{unit.device_key}/commands", msgspec.json.encode(command))
    profile = profiles.get(unit.profile)
    before, _, after = profile.address.partition("{address}")
    own = unit.address.removeprefix(before).removesuffix(after)
    made = profile.downlink(command.name, cast("Mapping[str, Value]", command.params), own)
    if made.topic:
        return Outgoing(made.topic, made.payload, made.retain)
    queued = made.queued(heard_on, own) if heard_on else None
    if queued is None:
        raise CommandRejected("command.never_heard", device=unit.device_key)
    return Outgoing(*queued)
