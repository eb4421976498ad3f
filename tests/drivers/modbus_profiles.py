"""Profiles reduced to what the Modbus driver asks of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta

from iot_core.errors import NotFoundError


@dataclass(frozen=True)
class Read:
    table: str
    address: int
    count: int


@dataclass(frozen=True)
class Registers:
    blocks: tuple[Read, ...]

    def reads(self, max_gap: int = 0, channels: Collection[str] | None = None) -> tuple[Read, ...]:
        del max_gap, channels
        return self.blocks


@dataclass(frozen=True)
class Model:
    interval: timedelta
    modbus: Registers | None


@dataclass
class Models:
    models: dict[str, Model] = field(default_factory=dict)

    def get(self, model: str) -> Model:
        if model not in self.models:
            raise NotFoundError("profile.unknown", model=model, like="")
        return self.models[model]


def models(interval_s: float, *blocks: Read, name: str = "acme-meter") -> Models:
    return Models({name: Model(timedelta(seconds=interval_s), Registers(blocks))})
