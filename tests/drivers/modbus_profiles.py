"""Profiles reduced to what the Modbus driver asks of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from drivers.modbus.pdu import Block
from iot_core.errors import NotFoundError
from iot_core.profiles.modbus import ModbusMap, Read

__all__ = ["Model", "Models", "Read", "Registers", "merge", "models"]


def merge(atoms: Sequence[Block], gap: int, longest: int | None = None) -> tuple[Block, ...]:
    """Merge as the shipped profiles do."""
    return ModbusMap((), (), longest).merge(cast("Sequence[Read]", atoms), gap)


@dataclass(frozen=True)
class Registers:
    blocks: tuple[Read, ...]
    longest: int | None = None
    timeout_s: float | None = None
    pause_s: float = 0.0

    def atoms(self, channels: Collection[str] | None = None) -> tuple[Read, ...]:
        del channels
        return self.blocks

    def most_gap(self, max_gap: int) -> int:
        return max_gap

    def merge(self, atoms: Sequence[Block], gap: int) -> tuple[Block, ...]:
        return merge(atoms, gap, self.longest)


@dataclass(frozen=True)
class Model:
    interval: timedelta
    modbus: Registers | None
    broken: str = ""


@dataclass
class Models:
    models: dict[str, Model] = field(default_factory=dict)

    def get(self, model: str) -> Model:
        if model not in self.models:
            raise NotFoundError("profile.unknown", model=model, like="")
        return self.models[model]


def models(interval_s: float, *blocks: Read, name: str = "acme-meter") -> Models:
    return Models({name: Model(timedelta(seconds=interval_s), Registers(blocks))})
