"""`iot sim run`: a simulated city against a core that runs already, here or elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from iot_core.client import Client
from iot_core.messages import text
from iot_core.profiles import load
from iot_core.state import make_folder
from simulators.faults import afflict, told
from simulators.firmware import Flash, Radio, Updating
from simulators.fleet import SMALLEST, plan, plan_of
from simulators.ledger import Ledger
from simulators.ports import LOOPBACK
from simulators.registration import Memory, register
from simulators.screen import Figures, Screen
from simulators.signals import ending
from simulators.town import Endpoints, running_town
from simulators.verdict import Faults, Numbers, by_protocol, numbers

if TYPE_CHECKING:
    from simulators.faults import Wish
    from simulators.fleet import Planned

_FIGURES_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The core to speak to, and the address under which it reaches Modbus gateways and cameras here (empty: none)."""

    url: str
    token: str
    endpoints: Endpoints
    gateway_host: str
    memory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a city, for how long. `seconds` None: until Ctrl-C."""

    devices: int
    seconds: float | None
    seed: int
    models: Sequence[str] = ()
    """Play these models only; none: a city of all kinds."""
    profiles: str = ""
    """Folder of own profiles, which override shipped ones."""
    signers: Sequence[bytes] = ()
    """Public keys of firmware signers that are built into the devices; none: they take no firmware."""
    loss: float = 0.0
    """Which share of the parts of a firmware image is lost on the way."""
    faults: Sequence[Wish] = ()


class Summary(msgspec.Struct, frozen=True):
    """What was sent, and how much of it nobody answered; parts of firmware asked for, and those lost on the way."""

    published: Numbers
    unanswered: int
    firmware_parts: int = 0
    firmware_lost: int = 0
    faults: Faults | msgspec.UnsetType = msgspec.UNSET


def is_here(host: str) -> bool:
    """Say whether a host is this machine's loopback."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def memory_folder(root: Path, url: str) -> Path:
    """Choose where the secrets of the devices at one core are kept."""
    folder = root / urlsplit(url).netloc.replace(":", "-").replace("[", "").replace("]", "")
    for each in (root.parent, root):
        each.mkdir(parents=True, exist_ok=True)
    make_folder(folder)
    return folder


def _speakable(size: Size, target: Target) -> Sequence[Planned]:
    """Plan the city, without Modbus devices and cameras where the core could not reach them."""
    profiles = load(Path(size.profiles) if size.profiles else None)
    if size.models:
        planned = plan_of(profiles, size.models, devices=size.devices, seed=size.seed)
    else:
        planned = plan(profiles, devices=max(size.devices, SMALLEST), seed=size.seed)
    return [each for each in planned if target.gateway_host or each.voice.protocol not in {"modbus", "camera"}]


async def run_sim(size: Size, target: Target, screen: Screen) -> Summary:
    """Register a city, let it speak for its time, and say what it said."""
    ledger = Ledger()
    async with Client(target.url, target.token) as client:
        memory = Memory.read(target.memory)
        try:
            registered = await register(
                client, _speakable(size, target), memory, run=f"{datetime.now(UTC):%Y%m%dT%H%M%S}",
                host=target.gateway_host or LOOPBACK,
            )  # fmt: skip
        finally:
            memory.write(target.memory)
    for device in registered.devices:
        memory.follow(device, target.memory)
    if size.signers:
        for number, device in enumerate(registered.devices):
            flash = Flash(target.memory / "flash" / device.key)
            device.updating = Updating(
                device.key, device.secrets, device.plan.model, flash, size.signers, Radio(size.loss, size.seed + number)
            )
    count = Counter(device.plan.voice.protocol for device in registered.devices)
    wards = len({device.plan.ward for device in registered.devices})
    devices = by_protocol(count)
    screen.line(text("demo.registered", devices=len(registered.devices), wards=wards, **devices))
    struck = afflict(registered.devices, size.faults, size.seed)
    for line in told(struck):
        screen.line(line)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with ending() as ended:
        async with running_town(registered, target.endpoints, ledger) as town:
            while not ended.is_set() and (size.seconds is None or loop.time() - start < size.seconds):
                _forget(ledger)
                published = by_protocol(ledger.published)
                screen.figures(Figures(second=loop.time() - start, devices=devices, published=published))
                await ended.wait_for(_FIGURES_S)
            screen.line(text("demo.resting"))
            await town.rest()
    unanswered = sum(not line.acknowledged for line in ledger.sent)
    radios = [device.updating.radio for device in registered.devices if device.updating is not None]
    faults = Faults({fault: len(keys) for fault, keys in struck.items()}, ledger.broken) if struck else msgspec.UNSET
    summary = Summary(
        numbers(ledger.published), unanswered, sum(each.asked for each in radios), sum(each.cut for each in radios),
        faults,
    )  # fmt: skip
    screen.line(text("demo.sim_done", published=ledger.published.total(), unanswered=unanswered))
    for problem, times in ledger.problems.most_common(5):
        screen.line(text("demo.verdict_problem", problem=problem, times=times))
    return summary


def _forget(ledger: Ledger) -> None:
    """Keep only what waits for an answer: no tables are at hand to hold the rest against."""
    ledger.sent = [line for line in ledger.sent if not line.acknowledged]
