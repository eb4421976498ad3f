"""Make the city known to a core over its API: areas, devices, secrets; what stood there before is taken over.

A core shows a device's secret once, so secrets are kept in a file of ours (mode 0600), with the ports of the gateways.
A device whose secret is lost, or whose model or address changed, is retired, and its place gets a new key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from iot_core.api.shapes import AreaNew, Device, DeviceNew, DeviceState
from iot_core.errors import ConflictError
from iot_core.model import Lifecycle
from iot_core.state import write_private
from simulators.city import PROVINCE, PROVINCE_CODE, PROVINCE_EN, PROVINCE_KEY, WARDS
from simulators.device import SimDevice
from simulators.fleet import gateways
from simulators.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from iot_core.client import Client
    from simulators.fleet import Planned

__all__ = ["Memory", "Registered", "register", "retire_strangers"]

FILE = "simulated.json"
BATCH = 500


class Memory(msgspec.Struct):
    """What the simulator must remember between runs."""

    secrets: dict[str, str] = {}
    ports: dict[str, int] = {}

    @staticmethod
    def read(folder: Path) -> Memory:
        """Read it, or begin anew."""
        try:
            return msgspec.json.decode((folder / FILE).read_bytes(), type=Memory)
        except (OSError, msgspec.DecodeError):
            return Memory()

    def write(self, folder: Path) -> None:
        """Keep it, for its owner only."""
        write_private(folder / FILE, msgspec.json.encode(self))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Modbus device is reached."""

    host: str
    port: int
    unit_id: int


@dataclass(slots=True)
class Registered:
    """The devices of the city as the core knows them, and the unit ids behind each gateway's host and port."""

    devices: list[SimDevice] = field(default_factory=list)
    behind: dict[tuple[str, int], list[tuple[SimDevice, int]]] = field(default_factory=dict)


async def register(
    client: Client, planned: Sequence[Planned], memory: Memory, *, run: str, host: str = LOOPBACK
) -> Registered:
    """Register what is not there yet, and give every device its address and secret."""
    await _areas(client)
    there = {device.key: device for device in await everything(client)}
    places = _places(planned, memory, host)
    result = Registered()
    new: list[tuple[SimDevice, DeviceNew]] = []
    for each in planned:
        place = places.get(each.key)
        device = await _settled(client, each, place, there, memory)
        device.run = run
        result.devices.append(device)
        if place is not None:
            result.behind.setdefault((place.host, place.port), []).append((device, place.unit_id))
        if device.key not in there:
            new.append((device, _new(device)))
    await _add(client, new, memory)
    for device in result.devices:
        device.secret = memory.secrets.get(device.key, "")
    return result


async def everything(client: Client) -> list[Device]:
    """List all devices, page by page, the retired ones too."""
    found: list[Device] = []
    for state in (None, DeviceState.RETIRED):
        after: str | None = None
        while True:
            page = (await client.devices(state=state, limit=1000, after=after)).items
            found += page
            if len(page) < 1000:
                break
            after = page[-1].key
    return found


async def retire_strangers(client: Client, keep: Iterable[SimDevice]) -> int:
    """Retire simulated devices of earlier cities, which would only be silent in this one."""
    kept = {device.key for device in keep}
    strangers = [
        device.key
        for device in await everything(client)
        if device.simulated and device.lifecycle is not Lifecycle.RETIRED and device.key not in kept
    ]
    for key in strangers:
        await client.remove_device(key)
    return len(strangers)


async def _areas(client: Client) -> None:
    there = {area.key for area in (await client.areas()).items}
    wanted = [AreaNew(key=PROVINCE_KEY, name=PROVINCE, name_en=PROVINCE_EN, kind="province", code=PROVINCE_CODE)]
    wanted += [
        AreaNew(key=ward.key, name=ward.name, name_en=ward.name_en, kind="ward", code=ward.code, parent=PROVINCE_KEY)
        for ward in WARDS
    ]
    for area in wanted:
        if area.key not in there:
            await client.add_area(area)


def _places(planned: Sequence[Planned], memory: Memory, host: str) -> dict[str, Place]:
    """Give each Modbus device its port and unit id. A gateway keeps its port as long as nobody else takes it."""
    ports: dict[str, int] = {}
    places: dict[str, Place] = {}
    for each, gateway, unit_id in gateways(planned):
        if gateway not in ports:
            ports[gateway] = memory.ports[gateway] = free_port(
                memory.ports.get(gateway, 0), avoid=ports.values(), host=host
            )
        places[each.key] = Place(host, ports[gateway], unit_id)
    return places


async def _settled(
    client: Client, each: Planned, place: Place | None, there: Mapping[str, Device], memory: Memory
) -> SimDevice:
    """Find the key under which a planned device lives: its own, or its own with a number."""
    for number in count(1):
        key = each.key if number == 1 else f"{each.key}-{number}"
        device = SimDevice(replace(each, key=key), _address(each, key, place))
        found = there.get(key)
        if found is None:
            return device
        usable = found.profile == each.model and found.address == device.address and found.simulated
        if usable and (key in memory.secrets or place is not None):
            if found.lifecycle is Lifecycle.RETIRED:
                try:
                    added = await client.restore_device(key)
                except ConflictError:
                    continue
                if added.secret is not None:
                    memory.secrets[key] = added.secret
            return device
        if found.simulated and found.lifecycle is not Lifecycle.RETIRED:
            await client.remove_device(key)
    raise AssertionError("count is endless")


def _address(each: Planned, key: str, place: Place | None) -> str:
    inner = key if place is None else f"{place.host}:{place.port}/{place.unit_id}"
    return each.voice.profile.address.replace("{address}", inner)


def _new(device: SimDevice) -> DeviceNew:
    plan = device.plan
    return DeviceNew(
        key=plan.key,
        name=plan.name,
        profile=plan.model,
        area=plan.ward,
        latitude=plan.latitude,
        longitude=plan.longitude,
        address=device.address,
        simulated=True,
    )


async def _add(client: Client, new: Sequence[tuple[SimDevice, DeviceNew]], memory: Memory) -> None:
    for start in range(0, len(new), BATCH):
        added = await client.add_devices([each for _, each in new[start : start + BATCH]])
        for each in added.items:
            if each.secret is not None:
                memory.secrets[each.device.key] = each.secret
