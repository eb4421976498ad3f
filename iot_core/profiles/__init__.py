"""The profile language: device_profiles/*.yaml, checked with file, line and key, compiled once, played both ways.

load(folder=None) -> Profiles             shipped device_profiles/, then the own folder, which overrides by key
Profiles.classes: Mapping[str, DeviceClass];  .get(model) -> Profile;  .all() -> Sequence[Profile]
Profiles.native(class_key) -> Profile     the profile of section "native" of docs/protocol.md for that class

Profile.model .vendor .title .class_key .source .interval .address .topics .modbus .metrics .channels .examples
Profile.decode(uplink) -> Decoded         total and bounded: any bytes give values or Problems
Profile.encode(values, *, time, seq, run, address, content_format) -> Encoded(topic, payload, registers, content_format)
Profile.encode_all(...) -> tuple[Encoded, ...]     one for each topic that carries some of the values
Profile.downlink(name, params, address) -> Downlink(topic, payload, port, method, path, writes)   a command's way down
checked_params(class.command(name), params) -> dict    Profile.rollover(metric) -> float | None   where a counter wraps
Profile.modbus.reads(max_gap, channels=None) -> tuple[Read(table, address, count), ...]

check(path_or_model, profiles=None) -> list[CheckResult(model, example, ok, differences)]     for `iot profile check`
explain(profile, uplink) -> list[Step(name, key, before, after, where)]                        for `iot profile try`
uplink_of(profile, *, text=None, data=None, registers=None, topic="", content_format=None) -> Uplink
example_uplink(profile, example) -> Uplink
"""

from __future__ import annotations

from iot_core.profiles.check import CheckResult, Difference, Step, check, check_example, explain
from iot_core.profiles.commands import Downlink, checked_params, checked_setting
from iot_core.profiles.examples import example_uplink, uplink_of
from iot_core.profiles.load import Profiles, load, load_file, native_model
from iot_core.profiles.modbus import ModbusMap, Point, Read, RegisterWrite
from iot_core.profiles.profile import Encoded, Example, Profile

__all__ = [
    "CheckResult",
    "Difference",
    "Downlink",
    "Encoded",
    "Example",
    "ModbusMap",
    "Point",
    "Profile",
    "Profiles",
    "Read",
    "RegisterWrite",
    "Step",
    "check",
    "check_example",
    "checked_params",
    "checked_setting",
    "example_uplink",
    "explain",
    "load",
    "load_file",
    "native_model",
    "uplink_of",
]
