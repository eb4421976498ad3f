"""Whoever's system is dark or light can read the page: every text on every ground that it stands on (WCAG 2.2 AA)."""

from __future__ import annotations

import re
from importlib import resources
from itertools import product

import pytest

STYLE = (resources.files("iot_core.api") / "page" / "style.css").read_text(encoding="utf-8")
SEVERITIES = ("critical", "high", "medium", "low")
STATES = ("ok", "never", "silent")
TEXT, SIGN = 4.5, 3.0
"""The least contrast of a text (1.4.3), and of a sign or an edge that means something (1.4.11)."""
Colour = tuple[float, ...]


def palette(scheme: str) -> dict[str, Colour]:
    dark, light = STYLE.split("@media (prefers-color-scheme: light)")
    found = re.findall(r"--([a-z]+): #([0-9a-f]{6});", dark)
    if scheme == "light":
        found += re.findall(r"--([a-z]+): #([0-9a-f]{6});", light.partition("\n}")[0])
    return {name: tuple(int(said[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, said in found}


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(share * a + (1 - share) * b for a, b in zip(one, other, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    """Relative luminances as WCAG 2.2 defines them."""

    def luminance(colour: Colour) -> float:
        red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_text_can_be_read_on_every_ground(scheme: str) -> None:
    colours = palette(scheme)
    white = (1.0, 1.0, 1.0)
    pairs = {
        (text, ground): (colours[text], colours[ground])
        for text, ground in product(("ink", "soft", "error", "ok", *SEVERITIES), ("ground", "panel", "raised"))
    }
    pairs |= {(state, "panel"): (colours[state], colours["panel"]) for state in STATES}
    for severity in SEVERITIES:  # an alarm that nobody has taken yet: .alarm.unacknowledged
        ground = mixed(colours[severity], colours["raised"], 0.22)
        pairs[severity, "its alarm"] = mixed(colours[severity], colours["ink"], 0.65), ground
        pairs["ink", f"{severity} alarm"] = colours["ink"], ground
    pairs |= {("white", ground): (white, colours[ground]) for ground in ("go", "lost")}
    pairs["mark", "sea"] = colours["mark"], colours["sea"]
    assert {pair: round(contrast(*both), 2) for pair, both in pairs.items() if contrast(*both) < TEXT} == {}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_sign_on_the_map_can_be_told_from_its_ground(scheme: str) -> None:
    colours = palette(scheme)
    signs = (*STATES, *SEVERITIES, "scale")
    assert {name for name in signs if contrast(colours[name], colours["sea"]) < SIGN} == set()


def test_both_schemes_say_every_colour_but_those_that_suit_both() -> None:
    dark, light = palette("dark"), palette("light")
    assert {name for name in dark if dark[name] == light[name]} == {"go", "lost"}


def test_no_script_and_no_rule_has_a_colour_of_its_own() -> None:
    rules = re.sub(r"--[a-z]+: #[0-9a-f]+;", "", STYLE)
    assert set(re.findall(r"#[0-9a-f]{3,8}\b(?=[;, )])", rules)) == {"#fff"}
    for script in (resources.files("iot_core.api") / "page").iterdir():
        if script.name.endswith(".js"):
            assert re.findall(r"\"#[0-9a-f]{3,8}\"", script.read_text(encoding="utf-8")) == [], script.name
