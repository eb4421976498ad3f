"""Make the city known to a core over its API: areas, devices, secrets; what stood there before is taken over.

A core shows a device's secret once, so secrets are kept in a file of ours (mode 0600), with the ports of the gateways.
A device whose model or address changed is retired, and its place gets a new key.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from iot_core.api.shapes import AreaNew, Device, DeviceNew, DeviceState
from iot_core.model import Lifecycle
from iot_core.profiles import native_model
from iot_core.sparkplug import SCHEME
from iot_core.state import write_private
from simulators.city import PROVINCE, PROVINCE_CODE, PROVINCE_EN, PROVINCE_KEY, WARDS
from simulators.device import SimDevice
from simulators.faces.camera import LOGIN_NAME
from simulators.fleet import gateways
from simulators.ports import LOOPBACK, free_port
from simulators.secret import Secrets

if TYPE_CHECKING:
    from iot_core.client import Client
    from simulators.fleet import Planned

__all__ = ["Memory", "Registered", "register", "retire_all"]

FILE = "simulated.json"
BATCH = 500


class Memory(msgspec.Struct):
    """What the simulator must remember between runs."""

    secrets: dict[str, str] = {}
    others: dict[str, str] = {}
    """Second secrets, of devices that were brought a new one and have not been let in with it yet."""
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

    def give(self, device: SimDevice) -> None:
        """Give a device what its flash holds."""
        device.secrets.shown = device.secrets.newest = self.secrets.get(device.key, "")
        device.secrets.other = self.others.get(device.key, "")

    def follow(self, device: SimDevice, folder: Path) -> None:
        """Write a device's secrets into its flash whenever they change."""

        def keep(now: Secrets) -> None:
            self.secrets[device.key] = now.shown
            self.others.pop(device.key, None)
            if now.other:
                self.others[device.key] = now.other
            self.write(folder)

        device.secrets.keep = keep


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device that is asked is reached; a camera has no unit id."""

    host: str
    port: int
    unit_id: int


@dataclass(slots=True)
class Registered:
    """The devices of the city as the core knows them, the unit ids behind each gateway, and where cameras listen."""

    devices: list[SimDevice] = field(default_factory=list)
    behind: dict[tuple[str, int], list[tuple[SimDevice, int]]] = field(default_factory=dict)
    cameras: list[tuple[SimDevice, tuple[str, int]]] = field(default_factory=list)
    retired: int = 0


async def register(
    client: Client, planned: Sequence[Planned], memory: Memory, *, run: str, host: str = LOOPBACK, sole: bool = False
) -> Registered:
    """Register what is not there yet, and give every device its address and secret.

    `sole`: no other simulated device may stand there, because one that nobody plays would only be silent.
    """
    await _areas(client)
    there = {device.key: device for device in await everything(client)}
    places = _places(planned, memory, host)
    result = Registered()
    for each in planned:
        device = await _settled(client, each, places.get(each.key), there)
        device.run = run
        result.devices.append(device)
        place = places.get(each.key)
        if place is not None and device.plan.voice.protocol == "camera":
            result.cameras.append((device, (place.host, place.port)))
        elif place is not None:
            result.behind.setdefault((place.host, place.port), []).append((device, place.unit_id))
    result.retired = await _make_room(client, result.devices, there, sole=sole)
    for device in result.devices:
        if (found := there.get(device.key)) is not None:
            await _take_back(client, device, found, memory)
    bridge = next((device for device in result.devices if device.plan.bridge), None)
    if bridge is not None:
        bridge.behind = [device for device in result.devices if device.plan.bridged]
    new = [device for device in result.devices if device.key not in there]
    await _add(client, [_new(device) for device in new if not device.plan.bridged], memory)
    await _add_gateways(client, new, memory)
    for device, _ in result.cameras:
        await _keep_login(client, device, memory)
    gateway = "" if bridge is None else bridge.key
    await _add(client, [_new(device, gateway) for device in new if device.plan.bridged], memory)
    for device in result.devices:
        memory.give(device)
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


async def retire_all(client: Client) -> tuple[int, list[str]]:
    """Retire all simulated devices; give their number, and the keys of the city's areas that stand empty now."""
    active = [device for device in await everything(client) if _plays(device)]
    for device in active:
        await client.remove_device(device.key)
    city = {PROVINCE_KEY, *(ward.key for ward in WARDS)}
    return len(active), [area.key for area in (await client.areas()).items if area.key in city and not area.devices]


def _plays(device: Device) -> bool:
    return device.simulated and device.lifecycle is not Lifecycle.RETIRED


async def _make_room(client: Client, devices: Sequence[SimDevice], there: Mapping[str, Device], *, sole: bool) -> int:
    """Retire simulated devices that stand in a place of ours, or all that are not ours."""
    ours = {key for device in devices for key in (device.key, device.plan.gateway)}
    addresses = {device.address for device in devices}
    strangers = [
        device.key
        for device in there.values()
        if _plays(device) and device.key not in ours and (sole or device.address in addresses)
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
    """Give what is asked its port and unit id. Gateways and cameras keep a port as long as nobody else takes it."""
    ports: dict[str, int] = {}
    places: dict[str, Place] = {}
    for each, gateway, unit_id in gateways(planned):
        if gateway not in ports:
            ports[gateway] = memory.ports[gateway] = free_port(
                memory.ports.get(gateway, 0), avoid=ports.values(), host=host
            )
        places[each.key] = Place(host, ports[gateway], unit_id)
    for each in planned:
        if each.voice.protocol == "camera":
            port = free_port(memory.ports.get(each.key, 0), avoid=ports.values(), host=host)
            ports[each.key] = memory.ports[each.key] = port
            places[each.key] = Place(host, port, 0)
    return places


async def _settled(client: Client, each: Planned, place: Place | None, there: Mapping[str, Device]) -> SimDevice:
    """Find the key under which a planned device lives: its own, or its own with a number."""
    for number in count(1):
        key = each.key if number == 1 else f"{each.key}-{number}"
        device = SimDevice(replace(each, key=key), _address(each, key, place))
        found = there.get(device.plan.gateway or key)
        if found is None and key not in there:
            return device
        if found is not None and found.simulated and await _hardware(client, found) == (each.model, device.address):
            return device
    raise AssertionError("count is endless")


async def _hardware(client: Client, found: Device) -> tuple[str | None, str | None]:
    """Give model and address of a device's unit, of a retired one the last it had."""
    if found.lifecycle is not Lifecycle.RETIRED:
        return found.profile, found.address
    units = (await client.device(found.key)).units
    return (units[0].profile, units[0].address) if units else (None, None)


async def _take_back(client: Client, device: SimDevice, found: Device, memory: Memory) -> None:
    """Make a device of an earlier run ours again; one whose secret is lost gets a fresh one."""
    asked = device.plan.voice.protocol in {"modbus", "camera"}
    lost = device.key not in memory.secrets and not asked and not device.plan.bridged
    if found.lifecycle is not Lifecycle.RETIRED:
        if not lost:
            return
        await client.remove_device(device.key)
        if device.plan.gateway:
            await client.remove_device(device.plan.gateway)
    spoken = None
    if device.plan.gateway:
        spoken = await client.restore_device(device.plan.gateway, fresh_secret=lost)
    restored = await client.restore_device(device.key, fresh_secret=lost)
    if spoken is not None:
        await _feed(client, device)
    secret = spoken.secret if spoken is not None and not asked else restored.secret
    if secret is not None:
        memory.secrets[device.key] = secret
        memory.others.pop(device.key, None)


def _address(each: Planned, key: str, place: Place | None) -> str:
    template = each.voice.profile.address
    inner = key if place is None else f"{place.host}:{place.port}/{place.unit_id}"
    if place is not None and template.startswith("camera:"):
        inner = f"{place.host}:{place.port}/stream1?onvif={place.port}"
    return template.replace("{address}", f"sim/{key}" if template.startswith(SCHEME) else inner)


async def _keep_login(client: Client, device: SimDevice, memory: Memory) -> None:
    """Let the core have a camera's login: each time, for it hangs on the unit, which may be another one now."""
    kept = memory.secrets.setdefault(device.key, secrets.token_urlsafe(18))
    await client.set_login(device.key, LOGIN_NAME, kept)


def _new(device: SimDevice, gateway: str = "") -> DeviceNew:
    plan = device.plan
    behind = bool(plan.gateway)  # it has no address of its own
    return DeviceNew(
        key=plan.key,
        name=plan.name,
        profile=native_model(plan.class_key) if behind else plan.model,
        area=plan.ward,
        latitude=plan.latitude,
        longitude=plan.longitude,
        address=None if behind else device.address,
        gateway=gateway or None,
        simulated=True,
    )


async def _add_gateways(client: Client, new: Sequence[SimDevice], memory: Memory) -> None:
    """Add the gateways and panels whose channels speak of devices, and say which channel is whose.

    Whom a gateway speaks for shows the gateway's secret.
    """
    for device in new:
        plan = device.plan
        if plan.gateway:
            added = await client.add_device(
                DeviceNew(key=plan.gateway, profile=plan.model, area=plan.ward, address=device.address, simulated=True)
            )
            if added.secret is not None:
                memory.secrets[device.key] = added.secret
            await _feed(client, device)


async def _feed(client: Client, device: SimDevice) -> None:
    await client.feed_channel(device.plan.gateway, device.plan.voice.channel, device.key)


async def _add(client: Client, new: Sequence[DeviceNew], memory: Memory) -> None:
    for start in range(0, len(new), BATCH):
        added = await client.add_devices(new[start : start + BATCH])
        for each in added.items:
            if each.secret is not None:
                memory.secrets[each.device.key] = each.secret
