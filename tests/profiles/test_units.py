"""Units of measure: what devices write becomes what the class means."""

from __future__ import annotations

import pytest

from iot_core.profiles.units import conversion, is_ucum, meant
from iot_core.profiles.values import apply


@pytest.mark.parametrize(
    ("value", "wire", "ucum", "mass", "expected"),
    [
        (100.1, "[degF]", "Cel", None, 37.833333),
        (298.15, "K", "Cel", None, 25.0),
        (98123, "Pa", "hPa", None, 981.23),
        (760, "mm[Hg]", "hPa", None, 1013.2472),
        (29.92, "[in_i'Hg]", "hPa", None, 1013.2045370),
        (46791.262, "W.h", "kW.h", None, 46.791262),
        (1.5, "l/s", "m3/h", None, 5.4),
        (0.65, "/", "%", None, 65.0),
        # 1 ppb in ug/m3 at 25 degC and 1 atm: SO2 2.6186, NO2 1.8804, O3 1.9619; CO 1 ppm 1144.9.
        (1, "ppb", "ug/m3", 64.066, 2.618680),
        (1, "[ppb]", "ug/m3", 46.006, 1.880482),
        (1, "ppb", "ug/m3", 47.998, 1.961905),
        (1, "ppm", "ug/m3", 28.010, 1144.900879),
        (20, "Cel", "Cel", None, 20.0),
    ],
)
def test_conversion(value: float, wire: str, ucum: str, mass: float | None, expected: float) -> None:
    linear = conversion(wire, ucum, mass)
    assert linear is not None
    assert apply(linear, value) == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_converted_is_refused() -> None:
    assert conversion("lx", "Cel") is None
    assert conversion("Pa", "Cel") is None
    assert conversion("[ppm]", "ug/m3") is None  # of which gas?
    assert conversion("", "Cel") is None


def test_a_tenth_is_a_tenth() -> None:
    linear = conversion("Cel", "Cel")
    assert linear is not None
    tenth = type(linear)(0.1)
    assert [apply(tenth, raw) for raw in (352, 3, 7, -101)] == [35.2, 0.3, 0.7, -10.1]


@pytest.mark.parametrize(
    "unit", ["g", "kg/m3", "Bq/m3", "uSv/h", "{count}", "/h", "1/min", "g/m2", "mm[Hg]", "kN", "%", "m2", "W.h/km"]
)
def test_a_class_may_use_any_unit_of_ucum(unit: str) -> None:
    assert is_ucum(unit)


@pytest.mark.parametrize("unit", ["kWh", "°C", "degC", "ppm", "hello", "", "m//s", "ug/m³", "{open"])
def test_what_ucum_writes_otherwise_is_refused(unit: str) -> None:
    assert not is_ucum(unit)


def test_a_unit_as_people_write_it_is_answered_with_what_was_meant() -> None:
    assert (meant("kWh"), meant("degC"), meant("hello")) == ("kW.h", "Cel", "")


@pytest.mark.parametrize(
    ("said", "ucum", "one"),
    [
        ("mph", "m/s", 0.44704),
        ("inHg", "hPa", 33.863788),
        ("psi", "bar", 0.0689475729),
        ("mH2O", "bar", 0.0980665),
        ("°F", "Cel", -17.2222222),
        ("MWh", "kW.h", 1000.0),
    ],
)
def test_what_manuals_write_for_a_unit_is_known(said: str, ucum: str, one: float) -> None:
    found = conversion(said, ucum)
    assert found is not None
    assert apply(found, 1) == pytest.approx(one)
