"""Tasmota's discovery: retained messages that say who is there, before anything was measured. No I/O.

tasmota/discovery/MAC/config   {"t": "den_001", "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"], "md": ...}
tasmota/discovery/MAC/sensors  {"sn": {what its next SENSOR message will say}, "ver": 1}

Source: arendst/Tasmota 080cdb4, tasmota/tasmota_xdrv_driver/xdrv_12_discovery.ino (SetOption19 0, the default, is on);
GetTopic_P of support.ino for what the words of a full topic stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from iot_core.model import FOUND, Find

if TYPE_CHECKING:
    from drivers.mqtt.topics import Topics
    from iot_core.driver import Units
    from iot_core.model import Uplink

__all__ = ["FILTERS", "Discovery", "find_in"]

_PREFIX: Final = "tasmota/discovery/"
FILTERS: Final = (f"{_PREFIX}+/config", f"{_PREFIX}+/sensors")
_REMEMBERED: Final = 10_000
_LARGEST: Final = 8_192
"""Bytes of a message that are read; Tasmota's own are below 2,000."""
_TELE: Final = 2
"""Which of the prefixes `tp` telemetry has."""
_SAYS: Final = ("dn", "md", "sw", "ip", "mac")
"""Its name, module, version and addresses, for people."""


_Short = Annotated[str, msgspec.Meta(max_length=100)]
"""Longer than Tasmota lets any of them be."""


class _Config(msgspec.Struct, frozen=True):
    """What we need of a `config` message."""

    t: _Short
    ft: _Short
    tp: tuple[_Short, ...]
    hn: _Short = ""
    mac: _Short = ""

    @property
    def sensor_topic(self) -> str:
        """The topic that its measurements come on."""
        whole = self.ft
        parts = {"prefix": self.tp[_TELE], "topic": self.t, "hostname": self.hn, "id": self.mac}
        for name, value in parts.items():
            whole = whole.replace(f"%{name}%", value)
        whole = whole.replace("#", "").replace("//", "/")
        return f"{whole}{'' if whole.endswith('/') else '/'}SENSOR"


class Discovery:
    """What was discovered so far: the two messages of a device come in any order."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._configs: dict[str, tuple[_Config, dict[str, str]]] = {}
        self._sensors: dict[str, dict[str, Any]] = {}

    @staticmethod
    def meant(topic: str) -> bool:
        """Say whether a topic is one of discovery."""
        return topic.startswith(_PREFIX)

    def heard(self, topic: str, payload: bytes, units: Units) -> tuple[str, bytes] | None:
        """Give the address of a device and what is known of it; None while that is too little, or for what is none."""
        if len(payload) > _LARGEST:
            return None
        mac, _, kind = topic.removeprefix(_PREFIX).partition("/")
        try:
            if kind == "config":
                said = msgspec.json.decode(payload, type=dict[str, Any])
                config = msgspec.convert(said, _Config)
                _ = config.sensor_topic
                told = {name: str(said[name])[:100] for name in _SAYS if said.get(name)}
                _bounded(self._configs, mac)[mac] = config, told
            elif kind == "sensors":
                sensors = msgspec.json.decode(payload, type=dict[str, dict[str, Any] | int])
                _bounded(self._sensors, mac)[mac] = sensors["sn"]
        except (msgspec.MsgspecError, UnicodeError, RecursionError, LookupError):
            return None
        known = self._configs.get(mac)
        if known is None:
            return None
        config, told = known
        sender = self._topics.sender(config.sensor_topic, units)
        if sender is None:
            return None
        sample = msgspec.json.encode(self._sensors[mac]).decode() if mac in self._sensors else ""
        return sender[0], msgspec.json.encode(Find(says=told, topic=config.sensor_topic, sample=sample))


def find_in(uplink: Uplink, find: bytes) -> Uplink:
    """Make a find of the uplink that it came with."""
    return msgspec.structs.replace(uplink, kind=FOUND, payload=find, content_format=None)


def _bounded(kept: dict[str, Any], mac: str) -> dict[str, Any]:
    if mac not in kept and len(kept) >= _REMEMBERED:  # senders choose the names, so they do not choose the size
        kept.clear()
    return kept
