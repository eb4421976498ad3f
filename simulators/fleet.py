"""Which devices stand in the city: N of four classes over three protocols, the same ones for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from iot_core.errors import NotFoundError
from iot_core.profiles import example_uplink, native_model
from iot_core.sparkplug import SCHEME
from simulators.city import Building, buildings, somewhere, within
from simulators.physics import (
    AirStation,
    Anything,
    Button,
    Cabinet,
    Camera,
    Detector,
    HouseMeter,
    Lamp,
    MainMeter,
    Physics,
    RiverGauge,
    WaterProbe,
    WeatherStation,
)
from simulators.physics.chance import between, seeded

if TYPE_CHECKING:
    from iot_core.profiles import Profile, Profiles

__all__ = ["BURNING", "SMALLEST", "Planned", "plan", "plan_of", "voice_of"]

DEFAULT_SEED: Final = 1
SMALLEST: Final = 8
"""Devices of the smallest city: two of each class that it has."""
BURNING: Final = buildings()[0]
"""The building that the demo sets on fire."""
UNITS_PER_GATEWAY: Final = 16
_PARTS: Final = {"fire_detector": 0.15, "air_quality": 0.15, "water_meter": 0.30, "streetlight": 0.40}
_PREFIX: Final = {
    "air_quality": "khong-khi",
    "camera_health": "camera",
    "fire_detector": "bao-chay",
    "flood_gauge": "muc-nuoc",
    "lighting_cabinet": "tu-den",
    "panic_button": "khan-cap",
    "streetlight": "den",
    "water_meter": "nuoc",
    "water_quality": "chat-luong-nuoc",
    "weather": "khi-tuong",
}
_NAMES: Final = {
    "air_quality": "Trạm không khí",
    "camera_health": "Camera",
    "fire_detector": "Đầu báo cháy",
    "flood_gauge": "Trạm đo mực nước",
    "lighting_cabinet": "Tủ chiếu sáng",
    "panic_button": "Nút khẩn cấp",
    "streetlight": "Đèn đường",
    "water_meter": "Đồng hồ nước",
    "water_quality": "Trạm chất lượng nước",
    "weather": "Trạm khí tượng",
}
_BRIDGE_CLASS: Final = "lighting_cabinet"
"""A city's LoRaWAN gateway hangs in a lighting cabinet."""
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
    channel: str = ""
    """Of a gateway or panel that says nothing of itself: the channel that speaks of the device."""

    @property
    def native(self) -> bool:
        """Say whether it speaks our own contract (docs/protocol.md)."""
        return self.profile.model == native_model(self.profile.class_key)


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
    bridge: bool = False
    """It publishes for the devices that cannot speak for themselves: a LoRaWAN network server."""

    @property
    def bridged(self) -> bool:
        """Say whether it is heard through a bridge only."""
        return self.voice.profile.address.startswith("lorawan:")

    @property
    def model(self) -> str:
        """The key of its profile, or of that of the gateway which speaks for it."""
        return self.voice.profile.model

    @property
    def gateway(self) -> str:
        """The key of the gateway or panel whose channel it is; empty for a device that speaks itself."""
        return f"{self.key}-gw" if self.voice.channel else ""


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


def voice_of(profile: Profile) -> Voice | None:
    """Say how a model speaks; None for one of a driver that the simulator does not know.

    One that only feeds devices behind it speaks of one device, by its first channel.
    """
    if profile.modbus is not None:
        return Voice("modbus", profile, channel="" if "" in profile.channels else profile.channels[0])
    if profile.model == native_model(profile.class_key) or profile.address.startswith(("lorawan:", SCHEME)):
        return Voice("mqtt", profile)
    if profile.address.startswith("mqtt:"):
        return Voice("mqtt", profile, channel=_channel(profile))
    if profile.address.startswith("camera:"):
        return Voice("camera", profile)
    return Voice("coap", profile, _SENML_CBOR) if profile.address.startswith("iot:") else None


def _channel(profile: Profile) -> str:
    """Name a channel that a model speaks of, by its examples: a message may name it; none where it speaks of itself."""
    heard = [profile.decode(example_uplink(profile, each)).samples for each in profile.examples]
    names = [sample.channel for samples in heard for sample in samples]
    return "" if "" in names or not names else names[0]


def _vendor(profile: Profile) -> list[Voice]:
    """Say how a vendor's model speaks in the city. What comes over LoRaWAN, or feeds several devices, is not in it."""
    if profile.model.startswith("native-") or profile.address.startswith("lorawan:") or profile.channels != ("",):
        return []
    voice = voice_of(profile)
    return [] if voice is None or voice.channel else [voice]


def plan(profiles: Profiles, *, devices: int, seed: int) -> tuple[Planned, ...]:
    """Plan a city. The first two detectors stand in the building that will burn, one on MQTT, one on CoAP."""
    counts = {key: max(2, int(devices * part)) for key, part in _PARTS.items()}
    counts["streetlight"] = max(2, devices - sum(counts.values()) + counts["streetlight"])
    return tuple(
        _planned(class_key, number, voice, seed)
        for class_key, count in counts.items()
        for number, voice in enumerate(islice(cycle(voices(profiles, class_key)), count))
    )


def plan_of(profiles: Profiles, models: Sequence[str], *, devices: int, seed: int) -> tuple[Planned, ...]:
    """Plan devices of these models only, one after the other; beside them a bridge where one of them needs it.

    Raises NotFoundError for a model that nobody can play.
    """
    voices: list[Voice] = []
    for model in models:
        voice = voice_of(profiles.get(model))
        if voice is None:
            raise NotFoundError("demo.no_such_face", model=model, address=profiles.get(model).address)
        voices.append(voice)
    numbers: Counter[str] = Counter()
    planned: list[Planned] = []
    for voice in islice(cycle(voices), devices):
        class_key = voice.profile.class_key
        planned.append(_planned(class_key, numbers[class_key], voice, seed))
        numbers[class_key] += 1
    if any(each.bridged for each in planned):
        number = numbers[_BRIDGE_CLASS]
        bridge = _planned(_BRIDGE_CLASS, number, Voice("mqtt", profiles.native(_BRIDGE_CLASS)), seed)
        planned.insert(0, replace(bridge, bridge=True))
    return tuple(planned)


def _planned(class_key: str, number: int, voice: Voice, seed: int) -> Planned:
    own = seeded(seed, class_key, number)
    if class_key == "fire_detector":
        building = buildings()[number // 2 % len(buildings())]
        return _detector(building, number, voice, seed, own)
    place = somewhere(seed, class_key, number)
    return Planned(
        key=_key(_PREFIX.get(class_key, class_key.replace("_", "-")), place.ward.key, number, seed),
        name=f"{_NAMES.get(class_key, voice.profile.device_class.title.vi)} {place.name} {number + 1}",
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
        physics=Detector(city=seed, seed=own, distance=1.5 + 0.8 * (number % 2), zone=_tells_zones(voice)),
        building=building.key,
    )


def _tells_zones(voice: Voice) -> bool:
    return "smoke" not in voice.profile.metrics and "heat" not in voice.profile.metrics


def _physics(class_key: str, voice: Voice, city: int, own: int) -> Physics:
    if class_key == "water_meter" and voice.protocol != "modbus":  # a house's meter speaks by radio
        return HouseMeter(city, own, mean=between(0.3, 0.8, own, "mean"))
    made = _PHYSICS.get(class_key)
    return Anything(voice.profile.device_class, own) if made is None else made(city, own)


_PHYSICS: Final[Mapping[str, Callable[[int, int], Physics]]] = {
    "air_quality": AirStation,
    "camera_health": Camera,
    "fire_detector": lambda city, own: Detector(city=city, seed=own),
    "flood_gauge": RiverGauge,
    "lighting_cabinet": lambda city, own: Cabinet(city, own, lamps=20 + own % 30),
    "panic_button": lambda _, own: Button(seed=own),
    "streetlight": lambda city, own: Lamp(city, own, rated=_RATED_WATTS[own % len(_RATED_WATTS)]),
    "water_meter": lambda city, own: MainMeter(city, own, mean=between(20, 120, own, "mean")),
    "water_quality": WaterProbe,
    "weather": WeatherStation,
}
"""What a device of each class measures; what speaks Modbus is on mains, so a water meter is then one of a main."""


def gateways(planned: Sequence[Planned]) -> Iterator[tuple[Planned, str, int]]:
    """Place the Modbus devices: device, gateway, unit id. A larger city leaves the places of a smaller one alone."""
    ranks: Counter[str] = Counter()
    for each in planned:
        if each.voice.protocol == "modbus":
            rank = ranks[each.class_key]
            ranks[each.class_key] += 1
            yield each, f"{each.class_key}-{rank // UNITS_PER_GATEWAY + 1}", rank % UNITS_PER_GATEWAY + 1
