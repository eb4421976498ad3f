"""`iot alarm` as two operators type it at once: the version that one saw keeps the other's deed from being overrun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from tests.cli.conftest import Core

DEEDS = (
    ("ack",), ("assign", "lan"), ("comment", "on my way"), ("shelve", "--until", "2h", "--note", "dust"), ("unshelve",),
    ("out-of-service", "--note", "dust"), ("close", "--cause", "dust"), ("reopen",), ("undo",),
)  # fmt: skip


@pytest.fixture
def alarm(core: Core) -> dict[str, Any]:
    secret = core.add("smoke-two", "native-fire-detector")
    core.tell("smoke-two", secret, tamper=True)
    wait_until(lambda: bool(core.json("alarm", "list", "--device", "smoke-two")))
    (found,) = core.json("alarm", "list", "--device", "smoke-two")
    return dict(found)


def test_every_deed_is_refused_when_the_alarm_is_not_as_it_was_seen(core: Core, alarm: dict[str, Any]) -> None:
    number, seen = str(alarm["id"]), str(alarm["version"])
    assert f"Version     {seen}" in core("alarm", "show", number).out
    assert core("alarm", "comment", number, "the guard is on the way").code == 0
    for deed, *more in DEEDS:
        refused = core("alarm", deed, number, *more, "--version-seen", seen)
        assert refused.code == 1, deed
        assert "has changed since you looked" in refused.err, deed
    now = core.json("alarm", "show", number)
    assert (now["state"], now["version"]) == ("unacknowledged", int(seen) + 1)

    assert core("alarm", "ack", number, "--version-seen", str(now["version"])).code == 0
    assert core.json("alarm", "show", number)["state"] == "acknowledged"
    several = core("alarm", "ack", number, number, "--version-seen", seen)
    assert (several.code, "the version of one alarm" in several.err) == (1, True)
    core("device", "remove", "smoke-two")
