"""Believable values as pure functions of a seed and a time: the same seed and time give the same values, in any order.

Nothing is stepped, so a counter that integrates (energy, volume) never runs backwards when a simulation starts anew.
"""

from __future__ import annotations

from simulators.physics.air import AirStation
from simulators.physics.anything import Anything
from simulators.physics.button import Button
from simulators.physics.cabinet import Cabinet
from simulators.physics.camera import Camera
from simulators.physics.fire import Detector, Fire
from simulators.physics.light import Lamp
from simulators.physics.river import RiverGauge, WaterProbe
from simulators.physics.station import WeatherStation
from simulators.physics.water import HouseMeter, MainMeter

__all__ = [
    "AirStation",
    "Anything",
    "Button",
    "Cabinet",
    "Camera",
    "Detector",
    "Fire",
    "HouseMeter",
    "Lamp",
    "MainMeter",
    "Physics",
    "RiverGauge",
    "WaterProbe",
    "WeatherStation",
]

Physics = (
    AirStation
    | Anything
    | Button
    | Cabinet
    | Camera
    | Detector
    | HouseMeter
    | Lamp
    | MainMeter
    | RiverGauge
    | WaterProbe
    | WeatherStation
)
"""What a simulated device measures: `at(time)` gives values by the metric keys of its class."""
