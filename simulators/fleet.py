"""Which devices stand in the city: N of four classes over three protocols, the same ones for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from simulators.city import Building, buildings, somewhere, within
from simulators.physics import AirStation, Detector, HouseMeter, Lamp, MainMeter, Physics
from simulators.physics.chance import between, seeded

if TYPE_CHECKING:
    from iot_core.profiles import Profile, Profiles

__all__ = ["BURNING", "Planned", "plan"]

DEFAULT_SEED: Final = 1
BURNING: Final = buildings()[0]
"""The building that the demo sets on fire."""
UNITS_PER_GATEWAY: Final = 16
_PARTS: Final = {"fire_detector": 0.15, "air_quality": 0.15, "water_meter": 0.30, "streetlight": 0.40}
_PREFIX: Final = {"fire_detector": "bao-chay", "air_quality": "khong-khi", "water_meter": "nuoc", "streetlight": "den"}
_NAMES: Final = {
    "fire_detector": "Đầu báo cháy",
    "air_quality": "Trạm không khí",
    "water_meter": "Đồng hồ nước",
    "streetlight": "Đèn đường",
}
_JSON, _SENML_JSON, _SENML_CBOR = 50, 110, 112
_RATED_WATTS: Final = (60.0, 90.0, 120.0, 150.0)


@dataclass(frozen=True, slots=True)
class Voice:
    """A way to speak: a model over a protocol."""

    protocol: str
    profile: Profile
    content_format: int | None = None
    buffered: int = 1
    """How many observations go into one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A device to be: where it stands, what it measures, how it speaks. `building` is empty outdoors."""

    key: str
    name: str
    class_key: str
    ward: str
    latitude: float
    longitude: float
    voice: Voice
    physics: Physics
    building: str = ""

    @property
    def model(self) -> str:
        """The key of its profile."""
        return self.voice.profile.model


def voices(profiles: Profiles, class_key: str) -> tuple[Voice, ...]:
    """List the ways in which devices of a class speak, in the order in which a growing city gets them."""
    native = profiles.native(class_key)
    models = sorted((each for each in profiles.all() if each.class_key == class_key), key=lambda each: each.model)
    vendors = [voice for profile in models for voice in _vendor(profile)]
    modbus = [voice for voice in vendors if voice.protocol == "modbus"]
    others = [voice for voice in vendors if voice.protocol != "modbus"]
    if profiles.classes[class_key].life_safety:  # an alarm never waits for a buffer to fill, nor for a poll
        first = [Voice("mqtt", native), Voice("coap", native, _JSON), Voice("mqtt", native), *modbus]
    else:
        first = [Voice("mqtt", native), *modbus, Voice("coap", native, _JSON), Voice("mqtt", native, buffered=5)]
    more = [Voice("coap", native, _SENML_CBOR), Voice("mqtt", native), *others, Voice("coap", native, _SENML_JSON)]
    return (*first, *more)


def _vendor(profile: Profile) -> list[Voice]:
    """Say how a vendor's model speaks. What comes over LoRaWAN needs a network server; channels, several devices."""
    if profile.model.startswith("native-") or profile.channels != ("",):
        return []
    if profile.modbus is not None:
        return [Voice("modbus", profile)]
    if profile.address.startswith("mqtt:"):
        return [Voice("mqtt", profile)]
    return [Voice("coap", profile, _SENML_CBOR)] if profile.address.startswith("iot:") else []


def plan(profiles: Profiles, *, devices: int, seed: int) -> tuple[Planned, ...]:
    """Plan a city. The first two detectors stand in the building that will burn, one on MQTT, one on CoAP."""
    counts = {key: max(2, int(devices * part)) for key, part in _PARTS.items()}
    counts["streetlight"] = max(2, devices - sum(counts.values()) + counts["streetlight"])
    return tuple(
        _planned(class_key, number, voice, seed)
        for class_key, count in counts.items()
        for number, voice in enumerate(islice(cycle(voices(profiles, class_key)), count))
    )


def _planned(class_key: str, number: int, voice: Voice, seed: int) -> Planned:
    own = seeded(seed, class_key, number)
    if class_key == "fire_detector":
        building = buildings()[number // 2 % len(buildings())]
        return _detector(building, number, voice, seed, own)
    place = somewhere(seed, class_key, number)
    return Planned(
        key=_key(_PREFIX[class_key], place.ward.key, number, seed),
        name=f"{_NAMES[class_key]} {place.name} {number + 1}",
        class_key=class_key,
        ward=place.ward.key,
        latitude=round(place.latitude, 6),
        longitude=round(place.longitude, 6),
        voice=voice,
        physics=_physics(class_key, voice, seed, own),
    )


def _key(prefix: str, where: str, number: int, seed: int) -> str:
    """Name a device. Cities of other seeds are other cities, so that a counter never jumps between two of them."""
    return f"{prefix}-{where}-{number + 1:03}" + ("" if seed == DEFAULT_SEED else f"-s{seed}")


def _detector(building: Building, number: int, voice: Voice, seed: int, own: int) -> Planned:
    place = within(building.ward, seed, building.key)
    storey = number // 2 // len(buildings()) + 1
    return Planned(
        key=_key("bao-chay", building.key, number, seed),
        name=f"Đầu báo cháy {building.name}, tầng {storey}, số {number % 2 + 1}",
        class_key="fire_detector",
        ward=building.ward.key,
        latitude=round(place.latitude + 0.00006 * (number % 2), 6),
        longitude=round(place.longitude + 0.00006 * (number % 2), 6),
        voice=voice,
        physics=Detector(city=seed, seed=own, distance=1.5 + 0.8 * (number % 2)),
        building=building.key,
    )


def _physics(class_key: str, voice: Voice, city: int, own: int) -> Physics:
    if class_key == "air_quality":
        return AirStation(city, own)
    if class_key == "streetlight":
        return Lamp(city, own, rated=_RATED_WATTS[own % len(_RATED_WATTS)])
    if voice.protocol == "modbus":  # ultrasonic meters on mains speak Modbus; a house's speaks by radio
        return MainMeter(city, own, mean=between(20, 120, own, "mean"))
    return HouseMeter(city, own, mean=between(0.3, 0.8, own, "mean"))


def gateways(planned: Sequence[Planned]) -> Iterator[tuple[Planned, str, int]]:
    """Place the Modbus devices: device, gateway, unit id. A larger city leaves the places of a smaller one alone."""
    ranks: Counter[str] = Counter()
    for each in planned:
        if each.voice.protocol == "modbus":
            rank = ranks[each.class_key]
            ranks[each.class_key] += 1
            yield each, f"{each.class_key}-{rank // UNITS_PER_GATEWAY + 1}", rank % UNITS_PER_GATEWAY + 1
