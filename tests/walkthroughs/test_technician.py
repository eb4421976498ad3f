"""Lan's first hour: four devices on three protocols, one of them exchanged, a detector walked past."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.walkthroughs.terminal import Screen
from tests.walkthroughs.things import flow_meter, publish

if TYPE_CHECKING:
    from tests.cli.conftest import Core
    from tests.walkthroughs.terminal import Terminal


def secret_of(screen: Screen) -> str:
    """Copy the secret from where it was shown once."""
    found = re.search(r"^MQTT password +(\S+)$", screen.text, re.MULTILINE)
    assert found is not None, screen.text
    return found[1]


def test_four_devices_on_three_protocols_are_alive_within_the_hour(terminal: Terminal, city: Core) -> None:
    mqtt = city.port + 1
    terminal("area add lan-ward", "--name", "Phường Hồng Hà").has("lan-ward")
    lamp = terminal("device add lan-lamp --profile native-streetlight --area lan-ward --qr").has("iot device show")
    publish(mqtt, "lan-lamp", secret_of(lamp), on=True, power=61.5)
    terminal("device test lan-lamp --since 5m --wait 30s --no-command").has("PASSED", "power", "61.5")

    meter = terminal("device add lan-meter --profile native-water-meter --serial WM-1 --area lan-ward")
    assert city.tell("lan-meter", secret_of(meter), volume=120.5) == "2.04"
    terminal("device test lan-meter --since 5m --wait 30s").has("PASSED", "120.5", "not said (need not be)")

    detector = terminal("device add lan-smoke --profile native-fire-detector --area lan-ward")
    publish(mqtt, "lan-smoke", secret_of(detector), smoke=False, temperature=24.5)
    with flow_meter() as port:
        terminal(f"device add lan-flow --profile tuf-2000m --address 127.0.0.1:{port}/4").has(f"127.0.0.1:{port}/4")
        terminal("device test lan-flow --since 5m --wait 40s").has("PASSED", "100000.25", "20.5")

    listed = terminal("device list --search lan-").text
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("lan-")] == [
        "lan-flow", "lan-lamp", "lan-meter", "lan-smoke",
    ]  # fmt: skip
    shown = terminal("device show lan-lamp").has("yes", "Phường Hồng Hà", "active", "passed its test", "61.5")
    assert len(shown.text.splitlines()) <= 40, "one screen"

    _walk(terminal, city, secret_of(detector))
    _exchange(terminal, city, secret_of(meter))


def _walk(terminal: Terminal, city: Core, secret: str) -> None:
    """Set a detector off on purpose."""
    window = terminal("device test lan-smoke --walk 30m").has("alarms of lan-smoke are tests").number("maintenance end")
    publish(city.port + 1, "lan-smoke", secret, smoke=True)
    terminal("device show lan-smoke").has("Being tested until")
    terminal(f"maintenance end {window}").has("is over")
    assert "Being tested" not in terminal("device show lan-smoke").text
    terminal("maintenance start lan-lamp --for 2h", "--reason", "new driver").has("iot undo")
    terminal("device show lan-lamp").has("Under maintenance until", "new driver")
    terminal("device list --search lan-lamp --output json").has('"maintenance"')


def _exchange(terminal: Terminal, city: Core, old_secret: str) -> None:
    """Hang up another meter in the place of one that is broken."""
    replaced = terminal("device replace lan-meter --serial WM-2").has("lan-meter")
    assert city.tell("lan-meter", old_secret, volume=1.0) == "4.01", "the old secret is dead"
    assert city.tell("lan-meter", secret_of(replaced), volume=0.25) == "2.04"
    terminal("device show lan-meter").has("WM-2", "0.25")
    terminal("audit lan-meter").has("device.replace", "WM-1")
