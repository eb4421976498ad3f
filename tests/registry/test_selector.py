"""A selector means what it says, and what it does not understand it names."""

from __future__ import annotations

import pytest

from iot_core.errors import RequestError
from iot_core.registry.selector import Term, parse, where


@pytest.mark.parametrize(
    ("said", "terms"),
    [
        ("class=streetlight", [Term("class", False, "streetlight")]),
        (" class = streetlight AND area!=06685 ", [Term("class", False, "streetlight"), Term("area", True, "06685")]),
        ("search=\"ha long\" and label='phase 1'", [Term("search", False, "ha long"), Term("label", False, "phase 1")]),
        ('key="and"', [Term("key", False, "and")]),
    ],
)
def test_a_selector_is_read(said: str, terms: list[Term]) -> None:
    assert list(parse(said)) == terms


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("", "registry.bad_selector"),
        ("class", "registry.bad_selector"),
        ("class=", "registry.bad_selector"),
        ("class=a or class=b", "registry.bad_selector"),
        ("class=a and", "registry.bad_selector"),
        ("class=a; DROP TABLE iot.device", "registry.bad_selector"),
        ("colour=red", "registry.no_selector_field"),
    ],
)
def test_what_cannot_be_understood_is_named(said: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(said)
    assert caught.value.code == code


def test_values_are_parameters_and_never_sql() -> None:
    condition, parameters = where(parse("""key="x' OR true --" and label!=b"""), first=3)
    assert "OR true" not in condition
    assert parameters == ["x' OR true --", "b"]
    assert "$3" in condition
    assert "$4" in condition
