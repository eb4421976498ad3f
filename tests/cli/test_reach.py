"""Which core is asked, with which token; the page; completion; colours."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import IOT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Core, Iot

RED = "\x1b["


def test_address_and_token_come_from_options_or_environment(core: Core, iot: Iot) -> None:
    env = {"IOT_URL": core.url, "IOT_TOKEN": core.token}
    assert iot("device", "list", env=env).code == 0
    assert iot("--url", core.url, "device", "list", "--token", core.token).code == 0
    assert iot("device", "list", "--state", str(core.state)).code == 2  # the option of `device list` is another
    assert iot("--state", str(core.state), "device", "list").code == 0


def test_the_local_token_goes_to_the_local_core_named_by_its_address(core: Core) -> None:
    assert core("device", "list", env={"IOT_URL": core.url + "/"}).code == 0


def test_a_wrong_token_is_refused_with_a_sentence(core: Core, iot: Iot) -> None:
    ended = iot("device", "list", "--url", core.url, env={"IOT_TOKEN": "wrong"})
    assert (ended.code, ended.out) == (1, "")
    assert "token" in ended.err.lower()


def test_an_address_without_a_token_says_that_none_was_given(core: Core, iot: Iot) -> None:
    for command in (["device", "list"], ["alarm", "watch"]):
        ended = iot(*command, "--url", core.url)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"No token was given for {core.url}. Set IOT_TOKEN")


def test_a_token_that_cannot_be_one_is_refused_before_it_is_sent(core: Core, iot: Iot) -> None:
    assert core.token.endswith("\n")  # as `$(cat token)` or an editor may leave it; accepted above
    ended = iot("device", "list", "--url", core.url, "--token", "a\nb")
    assert (ended.code, ended.out) == (2, "")
    assert "Copy it again" in ended.err


def test_page_gives_an_address_that_answers_and_a_fresh_code_each_time(core: Core) -> None:
    first, second = core.json("page"), core.json("page")
    assert first["code"] != second["code"]
    assert first["url"].startswith(core.url)
    with urllib.request.urlopen(core.url + "/", timeout=20) as response:  # noqa: S310 - http, by its fixture
        assert response.status == 200
    assert re.search(rf"Code +{'[0-9A-Z-]' * 4}", core("page").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(iot: Iot, shell: str) -> None:
    ended = iot("completion", shell)
    assert ended.code == 0
    assert f"_IOT_COMPLETE={shell}_complete" in ended.out


def test_bash_completes_commands_options_and_what_the_core_knows(core: Core) -> None:
    core.add("sl-complete-7")
    core("area", "add", "complete-9", "--name", "Phường 9")
    core("push", "add", "complete-ioc", "--webhook", "http://127.0.0.1:9/x")

    def completed(*words: str) -> list[str]:
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        ended = core(env={"_IOT_COMPLETE": "bash_complete", **asked})
        return [line.partition(",")[2] for line in ended.out.splitlines()]

    assert completed("iot", "al") == ["alarm"]
    assert completed("iot", "device", "add", "x", "--pro") == ["--profile"]
    assert completed("iot", "device", "list", "--state", "si") == ["silent"]
    assert completed("iot", "device", "add", "x", "--profile", "seeed-s50") == ["seeed-s500"]
    assert completed("iot", "device", "list", "--class", "fire_d") == ["fire_detector"]
    # A busy core may not answer within the second and a half that Tab waits for it; one presses again.
    wait_until(lambda: completed("iot", "device", "show", "sl-complete") == ["sl-complete-7"])
    wait_until(lambda: completed("iot", "device", "list", "--area", "comp") == ["complete-9"])
    wait_until(lambda: completed("iot", "push", "test", "comp") == ["complete-ioc"])
    core("push", "remove", "complete-ioc")


def test_completion_of_keys_is_silent_without_a_core(iot: Iot) -> None:
    env = iot.environment({"_IOT_COMPLETE": "bash_complete", "COMP_WORDS": "iot device show s", "COMP_CWORD": "3"})
    done = subprocess.run([*IOT], env=env, capture_output=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


def test_models_are_completed_whatever_is_wrong_with_the_settings_here(iot: Iot) -> None:
    asked = {"_IOT_COMPLETE": "bash_complete", "COMP_WORDS": "iot profile show seeed-s50", "COMP_CWORD": "3"}
    for wrong in ({"IOT_TIMEZONE": "Asia/Halong"}, {"IOT_MQTT_PROT": "1"}, {"IOT_CONFIG": "/nowhere/iot.toml"}):
        done = subprocess.run([*IOT], env=iot.environment(asked | wrong), capture_output=True, timeout=60, check=True)
        assert done.stdout.split() == [b"plain,seeed-s500"]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("cp1258", "Pha\u0323m vi"), ("cp850", "Pham vi"), ("ascii", "Pham vi"), ("utf-8", "Phạm vi")],
)
def test_a_console_that_lacks_letters_is_written_to_with_the_nearest_ones(iot: Iot, encoding: str, said: str) -> None:
    code = "from iot_core.cli.streams import speak_every_language; speak_every_language(); print('Phạm vi →')"
    env = iot.environment({"PYTHONIOENCODING": encoding})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode(encoding).startswith(said)
    listed = subprocess.run(
        [*IOT, "--lang", "vi", "profile", "list"], env=env, capture_output=True, timeout=60, check=True
    )
    assert "native-streetlight" in listed.stdout.decode(encoding)


def test_contexts_are_completed_whether_their_core_answers_or_not(iot: Iot, tmp_path: Path) -> None:
    kept = tmp_path / "iot" / "contexts.json"
    kept.parent.mkdir()
    away = {"url": "https://127.0.0.1:9", "token": "t", "user": "an", "fingerprint": ""}
    kept.write_text(json.dumps({"current": "site", "contexts": {"site": away, "plant": away}}))
    kept.chmod(0o600)
    for line in ("iot context use s", "iot context remove s", "iot logout s"):
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "IOT_CONTEXTS_DIR": str(tmp_path)}
        env = iot.environment({"_IOT_COMPLETE": "bash_complete", **asked})
        done = subprocess.run([*IOT], env=env, capture_output=True, timeout=60, check=True)
        assert (done.stdout.split(), done.stderr) == ([b"plain,site"], b"")


def on_a_terminal(core: Core, *arguments: str, **env: str) -> str:
    """Run `iot` with a terminal as its stdout; give what it saw."""
    master, slave = pty.openpty()
    environment = core.environment({"TERM": "xterm-256color", "COLUMNS": "120", **env})
    process = subprocess.Popen([*IOT, *arguments], env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65_536):
            seen += chunk
    except OSError:
        pass  # how Linux tells the end of a terminal
    os.close(master)
    process.wait(timeout=60)
    return seen.decode()


def test_a_terminal_gets_colours_unless_no_color_says_otherwise(core: Core) -> None:
    core.add("sl-colour")
    for arguments in (["device", "list", "--search", "sl-colour"], ["device", "show", "nowhere-at-all-zzz"]):
        assert RED in on_a_terminal(core, *arguments)
        seen = on_a_terminal(core, *arguments, NO_COLOR="1")
        assert RED not in seen  # neither colour nor bold
    assert RED not in core("device", "list").out
