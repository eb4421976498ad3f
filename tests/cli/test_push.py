"""`iot push`: a place is added, tried, listed with what went wrong, removed."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from iot_core.api.shapes import AlarmPush
from iot_core.cli.alarm import delivery
from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Core


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Run a webhook receiver; give its address and what it got."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Stay quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", got
        server.shutdown()
        thread.join()


def test_a_place_is_added_tested_listed_and_removed(core: Core) -> None:
    with receiver() as (url, got):
        said = core("push", "add", "ioc", "--webhook", url).out
        assert re.search(r"Secret +whsec_\S+\n", said)
        assert "shown this once" in said
        tested = core("push", "test", "ioc")
        assert tested.code == 0
        wait_until(lambda: bool(got))
        headers, body = got[0]
        assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= headers.keys()
        assert b"push.test" in body
        assert headers["webhook-id"] in tested.out
        wait_until(lambda: core.json("push", "list")[0]["last_delivered_at"] is not None)
        assert re.search(rf"ioc +webhook +{re.escape(url)} +low +0 +0 +\d{{4}}-", core("push", "list").out)
        assert core("push", "remove", "ioc").code == 0
    assert core.json("push", "list") == []
    assert core("push", "test", "ioc").code == 1


def test_a_place_that_is_down_shows_backlog_and_last_error(core: Core, free_port: Callable[[], int]) -> None:
    core("push", "add", "down", "--webhook", f"http://127.0.0.1:{free_port()}/", "--min-severity", "high")
    core("push", "test", "down")
    wait_until(lambda: bool(core.json("push", "list")[0]["last_error"]))
    target = core.json("push", "list")[0]
    assert (target["key"], target["backlog"], target["min_severity"]) == ("down", 1, "high")
    assert target["last_error"] == "unreachable"
    listed = core("push", "list").out
    assert "cannot be reached" in listed
    assert "unreachable" not in listed
    assert "không kết nối được" in core("push", "list", "--lang", "vi").out
    assert core("push", "remove", "down").code == 0


def test_what_became_of_an_alarms_messages_is_said_in_words(core: Core, free_port: Callable[[], int]) -> None:
    core("push", "add", "away", "--webhook", f"http://127.0.0.1:{free_port()}/")
    core.tell("smoke-push", core.add("smoke-push", "native-fire-detector"), smoke=True, seq=1)
    number = str(core.json("alarm", "list", "--device", "smoke-push")[0]["id"])
    wait_until(lambda: core.json("alarm", "show", number)["pushes"][0]["attempts"] > 0)
    said = core("alarm", "show", number).out
    assert re.search(r"away: raised, waiting; tries so far: \d+, the last one: cannot be reached\n", said)
    assert re.search(
        r"away: phát sinh, đang chờ; đã thử \d+ lần, lần cuối: không kết nối được\n",
        core("alarm", "show", number, "--lang", "vi").out,
    )
    (tried, *_) = [step for step in core.json("alarm", "show", number, "--trace")["steps"] if step["what"] == "failed"]
    assert (tried["subject"], tried["detail"]["error"]) == ("away", "unreachable")
    assert "gửi lỗi  away" in core("alarm", "show", number, "--trace", "--lang", "vi").out
    core("push", "remove", "away")
    assert re.search(r"away: raised, given up \S+ \S+ \S+: target was removed\n", core("alarm", "show", number).out)


def test_an_unknown_place_names_the_near_ones(core: Core) -> None:
    core("push", "add", "night-shift", "--webhook", "http://127.0.0.1:9/")
    for command in ("test", "remove"):
        ended = core("push", command, "nightshift")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err == "There is no push target “nightshift”. Did you mean night-shift?\n"
    assert core("push", "remove", "night-shift").code == 0


def test_a_class_or_area_that_is_not_there_is_refused_with_the_near_ones(core: Core) -> None:
    core("area", "add", "hong-gai", "--name", "Hồng Gai", "--kind", "ward")
    core("push", "add", "near", "--webhook", "http://127.0.0.1:9/")
    add, chain = (
        ("push", "add", "far", "--webhook", "http://127.0.0.1:9/"),
        ("escalation", "add", "far", "--step", "1m:near"),
    )
    for words in (add, chain):
        said = core(*words, "--class", "fire_detektor")
        assert (said.code, "Did you mean fire_detector" in said.err) == (1, True), said.err
    for words in (add, chain, ("center", "add", "far", "--name", "Far")):
        said = core(*words, "--area", "hong-gay")
        assert (said.code, "Did you mean hong-gai" in said.err) == (1, True), said.err
    assert core("push", "remove", "near").code == 0


def test_a_heartbeat_comes_from_a_whole_core(core: Core) -> None:
    with receiver() as (url, got):
        core("push", "add", "beat", "--webhook", url, "--heartbeat", "1")
        wait_until(lambda: any(b"iot.heartbeat" in body for _, body in got))
        assert core("push", "remove", "beat").code == 0


def test_half_a_letter_is_no_traceback(core: Core) -> None:
    ended = core("alarm", "comment", "1", "Hạ Long \udcc4")
    assert (ended.code, ended.err) == (1, "A word is not UTF-8: a letter was cut in half. Type it anew.\n")


def test_a_place_that_a_chain_tells_is_not_removed(core: Core) -> None:
    core("push", "add", "told", "--webhook", "http://127.0.0.1:9/")
    assert core("escalation", "add", "telling", "--step", "1m:told").code == 0
    refused = core("push", "remove", "told")
    assert (refused.code, "iot escalation remove telling" in refused.err) == (1, True)
    assert core("escalation", "remove", "telling").code == 0
    assert core("push", "remove", "told").code == 0


def test_a_message_that_nobody_tried_to_send_yet_has_no_failure() -> None:
    push = AlarmPush(
        target="ioc", type="alarm.raised", created_at=datetime(2026, 6, 1, tzinfo=UTC), attempts=0, last_status=None,
        last_error=None, last_error_said=None, delivered_at=None, dead_at=None,
    )  # fmt: skip
    assert delivery(push) == "waiting, not tried yet"


def test_a_bad_address_is_refused_and_a_missing_one_is_asked_for(core: Core) -> None:
    assert core("push", "add", "bad", "--webhook", "ftp://x/").code == 1
    asked = core("push", "add", "bad")
    assert (asked.code, "--webhook, --mqtt" in asked.err) == (2, True)
    assert "push add NAME --webhook URL" in core("push", "list").out


def test_messages_are_listed_proven_traced_and_brought_back(core: Core) -> None:
    with receiver() as (url, got):
        core("push", "add", "ioc", "--webhook", url, "--class", "fire_detector", "--hours", "daily 00:00-24:00")
        core.tell("smoke-way", core.add("smoke-way", "native-fire-detector"), smoke=True, seq=1)
        alarm = core.json("alarm", "list", "--device", "smoke-way")[0]
        number = str(alarm["id"])
        wait_until(lambda: core.json("push", "log", "ioc", "--state", "delivered"))
        (message,) = core.json("push", "log", "--alarm", number)
        assert (message["last_status"], message["attempts"]) == (204, 1)
        assert message["body_digest"] == hashlib.sha256(got[0][1]).hexdigest()
        steps = [step["what"] for step in core.json("alarm", "show", number, "--trace")["steps"]]
        assert {"measured", "received", "raised", "queued", "tried", "delivered"} <= set(steps)
        assert steps[-1] == "delivered"
        said = core("alarm", "show", number, "--trace").out
        assert re.search(r"ms  measured  smoke-way .*smoke=yes", said)
        assert re.search(r"alarm written .*value=yes  threshold=yes", said)
        assert "đã giao  ioc" in core("alarm", "show", number, "--trace", "--lang", "vi").out
        core("alarm", "show", number)
        raised_at = datetime.fromisoformat(alarm["raised_at"])
        its_day = raised_at.astimezone(ZoneInfo("Asia/Ho_Chi_Minh")).date().isoformat()
        proof = next(row for row in core.json("push", "prove", "--day", its_day) if str(row["alarm"]) == number)
        assert (proof["targets"], proof["delivered"]) == (1, 1)
        assert proof["seen_at"] is not None
        assert "First delivered" in core("push", "prove", "--day", its_day).out
        wrong = core("push", "prove", "--day", "today")
        assert (wrong.code, "%Y" in wrong.err) == (2, False)
        said = core("alarm", "kpi").out
        assert "\nWhat rang most\n" in said
        assert "Times an alarm rang" in said, "not the alarms: one rings again after its shelving"
        core("push", "test", "ioc")
        logged = core("push", "log", "ioc", "--lang", "vi").out
        assert {kind for kind in ("phát sinh", "bản tin thử", "raised", "push.test") if kind in logged} == {
            "phát sinh", "bản tin thử"
        }  # fmt: skip
        assert "rotated" not in core("push", "rotate", "ioc").err
        assert core("push", "retry", "ioc").out.strip().endswith("0.")
        assert core("push", "retry").code == 2
        assert core("push", "remove", "ioc").code == 0
