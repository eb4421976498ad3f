"""Look for units at a place, read-only and one request at a time, and tell which models they may be.

Each unit id is asked for one register, then for its identification; what it is, its own words and each model's `detect`
say. Where they say nothing, the models whose registers it has, all of them plausible, are named as possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from drivers.modbus.address import Address, Line, Place
from drivers.modbus.link import Broken, Malformed, Refused, Silent
from drivers.modbus.pdu import Block, Cells
from iot_core.errors import ConfigError
from iot_core.model import Uplink

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from iot_core.profiles import Profile

__all__ = ["TIMEOUT_S", "Exchange", "Found", "scan", "unit_ids"]

TIMEOUT_S: Final = 0.4
_PAUSE_S: Final = 0.01
_TARGET_SILENT: Final = (0x0A, 0x0B)
_MOST_BLOCKS: Final = 6
"""A model that needs more requests than this is not tried on the chance that it fits."""
_NOBODY_HAS: Final = (251, 253)
"""Unit ids outside what the specification hands out: who answers to both answers to all, and is one device."""
_FIRST: Final = (Cells("holding", 0, 1), Cells("input", 0, 1))


class Asker(Protocol):
    """What can be read (Link)."""

    async def read(
        self, unit_id: int, block: Block, *, timeout_s: float | None = None, pause_s: float = 0
    ) -> list[int]: ...
    async def identify(self, unit_id: int, *, timeout_s: float | None = None) -> dict[str, str]: ...


class Exchange(Protocol):
    """A way to hold the connection for a request (Gateway.exchange, or a link of one's own)."""

    def __call__(self) -> AbstractAsyncContextManager[Asker]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A unit that answers. `model` is proven by `detect`; `possible` models merely fit."""

    address: str
    unit_id: int
    identification: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    possible: tuple[str, ...] = ()
    every_id: bool = False
    """It answers whatever the unit id: one device, reached directly."""

    def data(self) -> dict[str, Any]:
        """Give it as scripts read it."""
        return {
            "address": self.address,
            "unit_id": self.unit_id,
            "identification": dict(self.identification),
            "model": self.model,
            "possible": list(self.possible),
            "every_id": self.every_id,
        }


def unit_ids(text: str, place: Place) -> list[int]:
    """Read `1-247` or `1,5,10-20`. Raises ConfigError."""
    lowest, highest = (1, 247) if isinstance(place, Line) else (0, 255)
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
            raise ConfigError("modbus.bad_units", units=text, lowest=lowest, highest=highest)
        low, high = int(first), int(last or first)
        if not lowest <= low <= high <= highest:
            raise ConfigError("modbus.bad_units", units=text, lowest=lowest, highest=highest)
        ids += range(low, high + 1)
    return list(dict.fromkeys(ids))


async def scan(
    place: Place, units: Sequence[int], profiles: Iterable[Profile], exchange: Exchange, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Found | None]:
    """Ask each unit id; give what is there, None where nobody is, in order. Raises Broken when the place is away."""
    models = [each for each in profiles if each.modbus is not None]
    if not isinstance(place, Line) and len(units) > 1 and await _answers_all(exchange, timeout_s):
        found = await _Unit(place, units[0], exchange, timeout_s).look(models)
        if found is not None:
            yield Found(**{name: getattr(found, name) for name in _KEPT}, every_id=True)
            return
    for unit_id in units:
        yield await _Unit(place, unit_id, exchange, timeout_s).look(models)


_KEPT: Final = ("address", "unit_id", "identification", "model", "possible")


async def _answers_all(exchange: Exchange, timeout_s: float) -> bool:
    for unit_id in _NOBODY_HAS:
        if not await _is_there(exchange, unit_id, timeout_s):
            return False
    return True


async def _is_there(exchange: Exchange, unit_id: int, timeout_s: float) -> bool:
    """Say whether anybody answers to a unit id, be it with a no."""
    for block in _FIRST:
        await asyncio.sleep(_PAUSE_S)
        async with exchange() as link:
            try:
                await link.read(unit_id, block, timeout_s=timeout_s)
            except Refused as exc:
                return exc.code not in _TARGET_SILENT
            except Malformed:
                return True
            except (Silent, Broken):  # some gateways close instead of saying no; the next request opens anew
                continue
            return True
    return False


class _Unit:
    """One unit id while it is looked at; nothing is asked twice."""

    def __init__(self, place: Place, unit_id: int, exchange: Exchange, timeout_s: float) -> None:
        self._address = str(Address(place, unit_id))
        self._unit_id = unit_id
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._read: dict[tuple[str, int, int], list[int] | None] = {}

    async def look(self, models: Sequence[Profile]) -> Found | None:
        """Say what is there."""
        if not await _is_there(self._exchange, self._unit_id, self._timeout_s):
            return None
        said = await self._identification()
        proven: list[str] = []
        possible: list[str] = []
        for profile in models:
            assert profile.modbus is not None
            detect = profile.modbus.detect
            if detect is None or not (detect.fits(said) and detect.holds(await self._registers(detect.reads))):
                continue
            (proven if detect.certain else possible).append(profile.model)
        if not proven:
            for profile in models:
                if profile.model not in possible and await self._fits(profile):
                    possible.append(profile.model)
        several = proven if len(proven) > 1 else possible if not proven else []
        return Found(
            address=self._address,
            unit_id=self._unit_id,
            identification=said,
            model=proven[0] if len(proven) == 1 else None,
            possible=tuple(several),
        )

    async def _identification(self) -> dict[str, str]:
        await asyncio.sleep(_PAUSE_S)
        try:
            async with self._exchange() as link:
                return await link.identify(self._unit_id, timeout_s=self._timeout_s)
        except (Refused, Malformed, Silent, Broken):
            return {}

    async def _fits(self, profile: Profile) -> bool:
        """Say whether the unit has all registers of a model that says nothing else of itself, with plausible values."""
        modbus = profile.modbus
        assert modbus is not None
        if modbus.detect is not None:
            return False
        reads = modbus.reads(0)
        if not reads or len(reads) > _MOST_BLOCKS:
            return False
        registers = await self._registers(reads)
        if len(registers) < len(reads) or not any(any(words) for words in registers.values()):
            return False
        decoded = profile.decode(Uplink(driver="modbus", address=self._address, registers=registers))
        values = [(key, value) for sample in decoded.samples for key, value in sample.values.items()]
        metrics = {metric.key: metric for metric in profile.device_class.metrics}
        plausible = all(
            isinstance(value, (bool, int, float, str)) and metrics[key].plausible(value) for key, value in values
        )
        return bool(values) and plausible and not decoded.problems

    async def _registers(self, reads: Sequence[Block]) -> dict[str, Sequence[int]]:
        """Read blocks, as far as the unit has them; the first that it has not ends it."""
        found: dict[str, Sequence[int]] = {}
        for block in reads:
            key = (block.table, block.address, block.count)
            if key not in self._read:
                self._read[key] = await self._ask(block)
            words = self._read[key]
            if words is None:
                break
            found[f"{block.table}:{block.address}"] = words
        return found

    async def _ask(self, block: Block) -> list[int] | None:
        await asyncio.sleep(_PAUSE_S)
        try:
            async with self._exchange() as link:
                return await link.read(self._unit_id, block, timeout_s=self._timeout_s)
        except (Refused, Malformed, Silent, Broken):
            return None
