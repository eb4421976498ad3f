"""A batch key is stolen: Minh sees it in the inbox, ends the key, and the honest devices stay."""

from __future__ import annotations

import json
import re
import secrets
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cli.conftest import Core
    from tests.walkthroughs.terminal import Terminal


def claim(city: Core, batch: str, key: str, serial: str, reply: str) -> tuple[int, dict[str, Any]]:
    """Ask as a device does."""
    body = json.dumps({"batch": batch, "key": key, "serial": serial, "reply": reply}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{city.port}/v1/claim", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the core of this test
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_a_stolen_batch_key_is_seen_ended_and_harms_nobody(terminal: Terminal, city: Core) -> None:
    made = terminal("batch create --count 10 --until 90d --profile native-water-meter", "--name", "Lot 12")
    batch, key = re.search(r"Batch (b_\w+):", made.text), re.search(r"MQTT password\) +(\S+)", made.text)
    assert batch is not None
    assert key is not None
    stolen = (batch[1], key[1])
    terminal("device add minh-1 --profile native-water-meter --serial M-1 --planned").has("minh-1")
    honest = secrets.token_hex(16)
    status, given = claim(city, *stolen, "M-1", honest)
    assert (status, given["device"]) == (200, "minh-1")
    assert city.tell("minh-1", given["secret"], volume=1.5) == "2.04"
    own = secrets.token_hex(16)
    assert claim(city, *stolen, "M-2", own)[0] == 202

    # The thief: a clone of the meter that is in, of the one that waits, and numbers that he made up.
    assert claim(city, *stolen, "M-1", secrets.token_hex(16)) == (403, {"state": "refused"})
    assert claim(city, *stolen, "M-2", secrets.token_hex(16))[0] == 403
    for number in range(3):
        assert claim(city, *stolen, f"FAKE-{number}", secrets.token_hex(16))[0] == 202
    seen = terminal("inbox").has("M-2", "FAKE-0", "FAKE-2", "Shown by others")
    numbers = re.findall(r"claim:(\d+) +FAKE", seen.text)
    assert len(numbers) == 3

    terminal(f"batch revoke {batch[1]}").has("is revoked")
    terminal("batch list").has("revoked")
    assert claim(city, *stolen, "FAKE-9", secrets.token_hex(16))[0] == 403
    assert claim(city, *stolen, "M-2", own)[0] == 403, "the key opens nothing, not even for those who wait"
    terminal("inbox reject " + " ".join(f"claim:{number}" for number in numbers)).has("3 claims refused")
    terminal(f"audit {batch[1]}").has("claim.refused", "cloned", "revoked", "batch.revoke")
    assert city.tell("minh-1", given["secret"], volume=2.5) == "2.04", "who is in stays in"

    # The meter that waited is known by its label: Minh lets it in with a new key.
    again = terminal("batch create --count 1 --until 8h --profile native-water-meter")
    batch, key = re.search(r"Batch (b_\w+):", again.text), re.search(r"MQTT password\) +(\S+)", again.text)
    assert batch is not None
    assert key is not None
    waiting = re.search(r"claim:(\d+) +M-2", terminal("inbox").text)
    assert waiting is not None
    terminal(f"inbox reject claim:{waiting[1]}")
    assert claim(city, batch[1], key[1], "M-2", own)[0] == 403, "the refused reply opens nothing again"
    fresh = secrets.token_hex(16)
    assert claim(city, batch[1], key[1], "M-2", fresh)[0] == 202
    anew = re.search(r"claim:(\d+) +M-2", terminal("inbox").text)
    assert anew is not None
    terminal(f"inbox accept claim:{anew[1]} --key minh-2").has("minh-2")
    status, given = claim(city, batch[1], key[1], "M-2", fresh)
    assert city.tell("minh-2", given["secret"], volume=0.5) == "2.04"
