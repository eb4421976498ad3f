"""Look for units at a place, read-only and one request at a time, and tell which models they may be.

Each unit id is asked for one register, then for its identification; what it is, its own words and each model's `detect`
say. Where they prove nothing, the models whose registers it has, all of them plausible, are guesses: those with the
most signs and values first, each with what speaks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from drivers.modbus.address import Address, Line, Place
from drivers.modbus.link import Broken, Malformed, Refused, Silent
from drivers.modbus.pdu import Block, Cells
from iot_core.errors import ConfigError
from iot_core.model import Uplink

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from iot_core.profiles import ModbusMap, Profile
    from iot_core.profiles.detect import Detect, Judged

__all__ = ["TIMEOUT_S", "Exchange", "Found", "Guess", "scan", "unit_ids"]

TIMEOUT_S: Final = 0.4
_PAUSE_S: Final = 0.01
UNIT_S: Final = 60.0
"""How long one unit may take: at 9600 baud a meter that has every register that any model has needs half of it."""
_TARGET_SILENT: Final = (0x0A, 0x0B)
_MOST_BLOCKS: Final = 8
"""A model that needs more requests than this is not tried on the chance that it fits."""
_MOST_UNANSWERED: Final = 6
"""A unit that meets what it does not have with silence costs a time-out each; after so many it is asked no more."""
_GAP: Final = 8
"""Registers between two values that are read along, where the unit allows it."""
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
class Guess:
    """A model that a unit may be, and why: signs of its `detect` that are there, and plausible values."""

    model: str
    signs: int = 0
    of: int = 0
    values: int = 0
    """Plausible values that are not zero."""
    zeros: int = 0
    """... and those that are: a register that is not used reads zero, too."""

    @property
    def weight(self) -> int:
        """How much speaks for it: a sign counts as much as three values, and each zero against it."""
        return 6 * self.signs + 2 * self.values - self.zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A unit that answers. `model` is proven by `detect`; what is in `guesses` merely fits, the likeliest first."""

    address: str
    unit_id: int
    identification: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    guesses: tuple[Guess, ...] = ()
    every_id: bool = False
    """It answers whatever the unit id: one device, reached directly."""
    cut_short: bool = False
    """Its time was over before it was asked for everything."""
    registers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """What was read of it on behalf of the likeliest model."""

    @property
    def possible(self) -> tuple[str, ...]:
        """The models that it may be."""
        return tuple(each.model for each in self.guesses)

    def data(self) -> dict[str, Any]:
        """Give it as scripts read it."""
        return {
            "address": self.address,
            "unit_id": self.unit_id,
            "identification": dict(self.identification),
            "model": self.model,
            "possible": list(self.possible),
            "guesses": [{**asdict(each), "weight": each.weight} for each in self.guesses],
            "every_id": self.every_id,
            "cut_short": self.cut_short,
            "registers": {block: list(words) for block, words in self.registers.items()},
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
    place: Place,
    units: Sequence[int],
    profiles: Iterable[Profile],
    exchange: Exchange,
    timeout_s: float = TIMEOUT_S,
    *,
    unit_s: float = UNIT_S,
) -> AsyncIterator[Found | None]:
    """Ask each unit id; give what is there, None where nobody is, in order. Raises Broken when the place is away.

    An answer may take `timeout_s`, a unit `unit_s`: one that dribbles through every question holds nobody up.
    """
    models = [each for each in profiles if each.modbus is not None]
    if not isinstance(place, Line) and len(units) > 1 and await _answers_all(exchange, timeout_s):
        found = await _Unit(place, units[0], exchange, timeout_s, unit_s).look(models)
        if found is not None:
            yield replace(found, every_id=True)
            return
    for unit_id in units:
        yield await _Unit(place, unit_id, exchange, timeout_s, unit_s).look(models)


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

    def __init__(self, place: Place, unit_id: int, exchange: Exchange, timeout_s: float, unit_s: float) -> None:
        self._address = str(Address(place, unit_id))
        self._unit_id = unit_id
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._read: dict[tuple[str, int, int], list[int] | None] = {}
        self._unanswered = 0
        self._now = asyncio.get_running_loop().time
        self._until = self._now() + unit_s
        self._cut_short = False

    async def look(self, models: Sequence[Profile]) -> Found | None:
        """Say what is there."""
        if not await _is_there(self._exchange, self._unit_id, self._timeout_s):
            return None
        said = await self._identification()
        proven: list[Guess] = []
        maybe: list[tuple[Profile, Judged | None]] = []
        for profile in models:
            assert profile.modbus is not None
            detect = profile.modbus.detect
            judged = None if detect is None else detect.judge(said, await self._signs(detect))
            if detect is not None and judged is not None and judged.complete and detect.certain:
                proven.append(Guess(model=profile.model, signs=judged.held, of=judged.of))
            elif judged is None or not judged.refuted:
                maybe.append((profile, judged))
        guesses = proven if len(proven) > 1 else []
        if not proven:
            guesses = [each for profile, judged in maybe if (each := await self._guess(profile, judged)) is not None]
            guesses.sort(key=lambda each: (-each.weight, each.model))
        likeliest = next(iter([*proven, *guesses]), None)
        return Found(
            address=self._address,
            unit_id=self._unit_id,
            identification=said,
            model=proven[0].model if len(proven) == 1 else None,
            guesses=tuple(guesses),
            registers=await self._registers_of(likeliest, models),
            cut_short=self._cut_short,
        )

    async def _registers_of(self, likeliest: Guess | None, models: Sequence[Profile]) -> dict[str, Sequence[int]]:
        """Give all registers of the likeliest model: whoever accepts this unit has its first values then."""
        profile = next((each for each in models if likeliest is not None and each.model == likeliest.model), None)
        return {} if profile is None or profile.modbus is None else await self._all_registers(profile.modbus)

    async def _signs(self, detect: Detect) -> dict[str, Sequence[int]]:
        """Read what `detect` looks at; what the unit does not have is left out."""
        found: dict[str, Sequence[int]] = {}
        for block in detect.reads:
            found |= await self._registers([block])
        return found

    async def _identification(self) -> dict[str, str]:
        await asyncio.sleep(_PAUSE_S)
        try:
            async with self._exchange() as link:
                return await link.identify(self._unit_id, timeout_s=self._timeout_s)
        except (Refused, Malformed, Silent, Broken):
            return {}

    async def _guess(self, profile: Profile, judged: Judged | None) -> Guess | None:
        """Say what speaks for a model: the unit must have all of its registers, with plausible values."""
        modbus = profile.modbus
        assert modbus is not None
        registers = await self._all_registers(modbus)
        # A unit that reads zero everywhere could be anything; but coils of a panel in peace are zero.
        bits = all(name.startswith(("coil:", "discrete:")) for name in registers)
        if not registers or not (bits or any(any(words) for words in registers.values())):
            return None
        decoded = profile.decode(Uplink(driver="modbus", address=self._address, registers=registers))
        values = [(key, value) for sample in decoded.samples for key, value in sample.values.items()]
        metrics = {metric.key: metric for metric in profile.device_class.metrics}
        plausible = all(
            isinstance(value, (bool, int, float, str)) and metrics[key].plausible(value) for key, value in values
        )
        if not values or not plausible or decoded.problems:
            return None
        telling = sum(bool(value) for _, value in values)
        return Guess(
            model=profile.model,
            signs=judged.held if judged is not None else 0,
            of=judged.of if judged is not None else 0,
            values=telling,
            zeros=len(values) - telling,
        )

    async def _all_registers(self, modbus: ModbusMap) -> dict[str, Sequence[int]]:
        """Read all that a model has, over gaps or each block by itself; nothing where one is refused."""
        for gap in dict.fromkeys((modbus.most_gap(_GAP), 0)):
            reads = modbus.reads(gap)
            if reads and len(reads) <= _MOST_BLOCKS:
                registers = await self._registers(reads)
                if len(registers) == len(reads):
                    return registers
        return {}

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
        if self._unanswered >= _MOST_UNANSWERED:
            return None
        if self._now() >= self._until:
            self._cut_short = True
            return None
        await asyncio.sleep(_PAUSE_S)
        try:
            async with self._exchange() as link:
                return await link.read(self._unit_id, block, timeout_s=self._timeout_s)
        except (Silent, Broken):
            self._unanswered += 1
            return None
        except (Refused, Malformed):
            return None
