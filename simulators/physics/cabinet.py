"""A lighting cabinet: the lamps of a street on three phases behind a contactor and an energy meter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from simulators.physics.chance import between, seeded, wander
from simulators.physics.light import Lamp, dim_at, power_factor
from simulators.physics.weather import weather

_SHARES = (0.35, 0.33, 0.32)


@dataclass(frozen=True, slots=True)
class Cabinet:
    """A cabinet that feeds `lamps` luminaires of one kind; nobody works on it and nothing has tripped."""

    city: int
    seed: int
    lamps: int = 36
    rated: float = 120.0

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the meter and the contacts say."""
        at, dim = time.timestamp(), dim_at(time)
        lamp = Lamp(self.city, self.seed, self.rated)
        one = lamp.at(time)
        power = self.lamps * float(one["power"])
        factor = power_factor(dim)
        energy = self.lamps * lamp.energy(time)
        values: dict[str, float | int | bool | str] = {
            "on": dim > 0,
            "mode": "automatic",
            "power": power,
            "apparent_power": power / factor,
            "reactive_power": power * math.tan(math.acos(factor)),
            "power_factor": factor,
            "frequency": 50 + 0.02 * wander(seeded(self.city, "frequency"), at, 30),
            "voltage": one["voltage"],
            "current": power / (float(one["voltage"]) * factor),
            "energy": energy,
            "energy_export": 0.0,
            "reactive_energy": 0.31 * energy,
            "temperature": weather(self.city, time).temperature + 6 + 4 * dim,
        }
        for phase, share in enumerate(_SHARES, 1):
            voltage = float(one["voltage"]) + between(-1.5, 1.5, self.seed, "phase", phase)
            values[f"voltage_l{phase}"] = voltage
            values[f"power_l{phase}"] = share * power
            values[f"current_l{phase}"] = share * power / (voltage * factor)
            values[f"power_factor_l{phase}"] = factor
        quiet = ("door_open", "breaker_tripped", "contactor_fault", "leakage", "supply_loss", "overload", "fault")
        return values | dict.fromkeys(quiet, False)
