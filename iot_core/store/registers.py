"""Where the registers of each model start from 0 again, for the SQL that works consumption out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import asyncpg

from iot_core.model import DeviceClass

_NOTE: Final = """
INSERT INTO iot.register (profile, metric, modulus) SELECT * FROM unnest($1::text[], $2::text[], $3::float8[])
ON CONFLICT (profile, metric) DO UPDATE SET modulus = excluded.modulus
"""


class Model(Protocol):
    """What is asked of a profile."""

    @property
    def model(self) -> str: ...
    @property
    def device_class(self) -> DeviceClass: ...
    def rollover(self, key: str) -> float | None: ...


async def note_registers(connection: asyncpg.Connection, models: Iterable[Model]) -> None:
    """Note the width of every counter that a profile knows. A profile that is gone keeps its notes: units had it."""
    known = [
        (each.model, metric.key, width)
        for each in models
        for metric in each.device_class.metrics
        if metric.counter and (width := each.rollover(metric.key)) is not None
    ]
    if known:
        await connection.execute(_NOTE, *(list(column) for column in zip(*known, strict=True)))
