"""`iot held` for a person: found, shown whole, replayed after a look at what it would do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Core

DAY = (datetime.now(UTC) - timedelta(days=9)).date()


def test_held_is_searched_shown_and_replayed(core: Core) -> None:
    secret = core.add("sl-replay")
    at = f"{DAY}T08:00:00+07:00"
    core.tell("sl-replay", secret, time=at, power=1.0, seq=1)
    core.tell("sl-replay", secret, time=at, power=2.0, seq=2)
    core.tell("sl-replay", secret, time=at, glow=2.0, seq=3)
    (one,) = core.json("held", "--device", "sl-replay", "--reason", "conflict")
    shown = core("held", "show", str(one["id"])).out
    assert '"power": 2.0' in shown
    assert f"iot held replay --id {one['id']}" in shown
    preview = core("held", "replay", "--device", "sl-replay", "--preview").out
    assert "conflict" in preview
    assert "unknown_metric" in preview
    assert "will replace" in preview
    done = core("held", "replay", "--id", str(one["id"]), "--yes")
    assert "1 uplink replayed: 1 observation stored" in done.out
    (row,) = core.json("telemetry", "get", "sl-replay", "--from", str(DAY))
    assert row["values"]["power"] == 2.0
    assert [each["reason"] for each in core.json("held", "--device", "sl-replay")] == ["unknown_metric"]


def test_held_says_what_to_do_when_nothing_is_chosen_or_there(core: Core) -> None:
    assert "--device, --reason, --id" in core("held", "replay").err
    assert core("held", "show", "99999999").code == 1
    assert core("held", "--reason", "smelly").code == 2
