"""Only alarms of the burning detectors, and only after the fire began, are in the script."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from simulators.audit import Raised
from simulators.ledger import Ledger
from simulators.story import Fires
from tests.simulators.conftest import device

T0 = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)


def raised(key: str, second: float) -> Raised:
    at = T0 + timedelta(seconds=second)
    return Raised(1, key, "fire_detector.smoke", at, at, at)


@pytest.mark.parametrize(("second", "expected"), [(-0.1, False), (0.0, True), (3.0, True)])
def test_an_alarm_from_before_the_fire_is_not_in_the_script(second: float, expected: bool) -> None:
    fires, it = Fires(Ledger()), device("native-fire-detector", "mqtt")
    assert not fires.explain(raised(it.key, second))
    fires.begin([it], T0)
    assert fires.explain(raised(it.key, second)) is expected
    assert not fires.explain(raised("den-hong-gai-001", second))


def test_the_first_smoke_of_each_burning_detector_is_noted() -> None:
    ledger = Ledger()
    fires, it = Fires(ledger), device("native-fire-detector", "mqtt")
    ledger.send("mqtt", it.key, [(T0, {"smoke": True})])
    fires.begin([it], T0)
    ledger.send("mqtt", it.key, [(T0, {"smoke": False})])
    (line,) = ledger.send("mqtt", it.key, [(T0, {"smoke": True})])
    ledger.send("mqtt", it.key, [(T0, {"smoke": True})])
    ledger.send("mqtt", "bao-chay-cho-ha-tu-031", [(T0, {"smoke": True})])
    assert fires.first == {it.key: line}
