"""`iot rule` as people type it: a change is tried on what is stored, shown, and asked for where many feel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from tests.cli.conftest import Core

RULE = "fire_detector.battery_level"


def test_change_says_what_it_would_have_raised_before_it_holds(core: Core) -> None:
    secret = core.add("smoke-tried", "native-fire-detector")
    core.tell("smoke-tried", secret, battery=20)
    wait_until(lambda: core.json("device", "show", "smoke-tried")["state"] == "ok")
    core.folder.joinpath("rule.yaml").write_text("when: {below: 30}\n")
    here = ("--where", "device=smoke-tried")

    assert "would have raised nothing" in core("rule", "try", RULE, *here, "--since", "1d").out
    (row,) = core.json("rule", "try", RULE, "rule.yaml", *here, "--since", "1d")
    assert (row["source"], row["value"], row["cleared_at"]) == ("smoke-tried", 20.0, None)
    assert core.json("rule", "list") == []

    changed = core("rule", "set", RULE, "rule.yaml", *here, env={"COLUMNS": "200"})
    assert changed.code == 0, changed.err
    assert core.json("rule", "explain", "smoke-tried")
    (laid,) = core.json("rule", "list")
    assert (laid["where"], laid["body"]) == ("device=smoke-tried", {"when": {"below": 30}})
    assert core("rule", "reset", RULE, *here).code == 0
    assert core.json("rule", "list") == []

    wrong = core("rule", "try", "fire_detector.nothing", "--since", "1d")
    assert (wrong.code, "iot rule explain" in wrong.err) == (1, True)
    core.folder.joinpath("endless.yaml").write_text("a: &a [*a]\n")
    endless = core("rule", "check", RULE, "endless.yaml")
    assert (endless.code, "endless.yaml" in endless.err) == (1, True)
    core("device", "remove", "smoke-tried")


def test_change_that_many_devices_would_feel_is_asked_for(core: Core) -> None:
    for number in range(11):
        core.add(f"smoke-many-{number}", "native-fire-detector")
    core.folder.joinpath("rule.yaml").write_text("when: {below: 15}\n")
    refused = core("rule", "set", RULE, "rule.yaml")
    assert refused.code == 1
    assert "--yes" in refused.err
    assert core.json("rule", "list") == []
    assert core("rule", "set", RULE, "rule.yaml", "--yes").code == 0
    assert core("rule", "reset", RULE, "--yes").code == 0


def test_a_rule_that_guards_life_is_not_switched_off_unasked_and_stays_in_sight(core: Core) -> None:
    core.add("smoke-off", "native-fire-detector")
    core.folder.joinpath("rule.yaml").write_text("enabled: false\n")
    here = ("fire_detector.smoke", "rule.yaml", "--where", "device=smoke-off")
    refused = core("rule", "set", *here)
    assert (refused.code, "--yes" in refused.err) == (1, True)
    assert core.json("rule", "list") == []
    assert core("rule", "set", *here, "--yes").code == 0
    rules = {row["rule"]: row for row in core.json("rule", "explain", "smoke-off")}
    assert rules["fire_detector.smoke"]["said"] is None
    assert "switched off by" in core("rule", "explain", "smoke-off", env={"COLUMNS": "250"}).out
    core("rule", "reset", "fire_detector.smoke", "--where", "device=smoke-off")
    core("device", "remove", "smoke-off")
