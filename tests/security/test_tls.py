"""TLS on the API: in clear on this machine only; a certificate of our own is trusted by its fingerprint, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import socket
import ssl
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
from click.testing import CliRunner

from iot_core.api.certificate import is_loopback, tls_of
from iot_core.cli import login
from iot_core.cli.root import iot
from iot_core.client import Client
from iot_core.errors import ConfigError, RequestError
from iot_core.settings import Api
from iot_core.state import StateDir
from tests import servers
from tests.cli.conftest import IOT, Core, running_core

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "four unrelated words 1"


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    """Run a core that others can reach, with a certificate of its own and one user."""
    with running_core(servers.free_ports(3), {"IOT_API_HOST": "0.0.0.0"}) as running:
        running.folder.joinpath("password").write_text(f"{PASSWORD}\n")
        added = running("user", "add", "an", "--role", "operator", "--password-file", str(running.folder / "password"))
        assert added.code == 0, added.err
        yield running


@pytest.fixture
def laptop(core: Core, tmp_path: Path) -> dict[str, str]:
    """Give the environment of another computer: no state of a core, contexts of its own."""
    kept = {key: value for key, value in core.environment().items() if key != "IOT_STATE"}
    return kept | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path)}


def url(core: Core) -> str:
    return f"https://127.0.0.1:{core.port}"


def fingerprint(core: Core) -> str:
    running = StateDir(core.state).running()
    assert running is not None
    return running.fingerprint


def run(laptop: dict[str, str], *words: str, feed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IOT, *words], env=laptop, input=feed, capture_output=True, timeout=60, check=False, text=True
    )


def test_a_core_that_others_reach_has_tls_and_prints_its_fingerprint(core: Core) -> None:
    assert "https://0.0.0.0" in core.said.read_text()
    assert fingerprint(core) in core.said.read_text()
    assert stat.S_IMODE((core.state / "api.key").stat().st_mode) == 0o600
    assert core("device", "list").code == 0, "the command line on the core's machine knows its certificate"


def test_login_asks_once_whether_the_fingerprint_is_right(core: Core, laptop: dict[str, str], tmp_path: Path) -> None:
    refused = run(laptop, "login", url(core), "--user", "an", "--password-file", "-", feed=PASSWORD)
    assert refused.returncode == 1
    assert fingerprint(core) in refused.stderr, "nobody can be asked: it says what to compare"
    seen = on_a_terminal(laptop, "login", url(core), "--user", "an", answers=("y\n", f"{PASSWORD}\n"))
    assert fingerprint(core) in seen
    assert PASSWORD not in seen
    assert "Signed in" in seen
    file = tmp_path / "config" / "iot" / "contexts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(laptop, "device", "list").returncode == 0
    listed = json.loads(run(laptop, "context", "list", "--output", "json").stdout)
    assert [(each["name"], each["user"], each["current"]) for each in listed] == [("127.0.0.1", "an", True)]
    assert "token" not in listed[0]
    file.chmod(0o644)
    opened = run(laptop, "device", "list")
    assert (opened.returncode, "chmod 600" in opened.stderr) == (2, True)


def test_contexts_are_used_left_and_signed_out_of(core: Core, laptop: dict[str, str]) -> None:
    signed_in = run(
        laptop, "login", url(core), "--user", "an", "--password-file", "-", "--fingerprint", fingerprint(core),
        "--name", "site", feed=PASSWORD,
    )  # fmt: skip
    assert signed_in.returncode == 0, signed_in.stderr
    assert run(laptop, "context", "use", "nowhere").returncode == 1
    assert run(laptop, "context", "use", "local").returncode == 0
    assert run(laptop, "device", "list").returncode == 3, "no core runs on that computer"
    assert run(laptop, "context", "use", "site").returncode == 0
    mine = json.loads(core("--output", "json", "token", "list").out)
    token = max((each for each in mine if each["user"] == "an"), key=lambda each: each["id"])
    assert run(laptop, "logout").returncode == 0
    left = json.loads(core("--output", "json", "token", "list").out)
    assert token["id"] not in [each["id"] for each in left]
    assert json.loads(run(laptop, "context", "list", "--output", "json").stdout) == []


def test_a_fingerprint_in_the_environment_pins_the_certificate_for_a_token(core: Core, laptop: dict[str, str]) -> None:
    mine = laptop | {"IOT_URL": url(core), "IOT_TOKEN": core.token.strip()}
    unknown = run(mine, "device", "list")
    assert (unknown.returncode, "IOT_FINGERPRINT" in unknown.stderr) == (1, True), unknown.stderr
    assert run(mine | {"IOT_FINGERPRINT": fingerprint(core).lower()}, "device", "list").returncode == 0
    other = run(mine | {"IOT_FINGERPRINT": "AA:" * 31 + "AA"}, "device", "list")
    assert (other.returncode, "another certificate" in other.stderr) == (1, True), other.stderr
    wrong = run(mine | {"IOT_FINGERPRINT": "sha256:17"}, "device", "list")
    assert (wrong.returncode, "64" in wrong.stderr) == (1, True), wrong.stderr


def test_a_core_with_another_certificate_than_the_trusted_one_gets_no_token(core: Core, laptop: dict[str, str]) -> None:
    other = "AA:" * 31 + "AA"
    ended = run(
        laptop, "login", url(core), "--user", "an", "--password-file", "-", "--fingerprint", other, feed=PASSWORD
    )
    assert ended.returncode == 1
    assert "another certificate" in ended.stderr

    async def ask() -> None:
        async with Client(url(core), core.token.strip(), fingerprint=other, lang="en") as client:
            await client.me()

    with pytest.raises(RequestError, match=r"login\.other_certificate"):
        asyncio.run(ask())


@pytest.mark.parametrize("trusted", ["", "AA" * 32])
async def test_a_refused_certificate_leaves_no_connection_open(core: Core, trusted: str) -> None:
    with pytest.raises(RequestError, match=r"login\."):
        async with Client(url(core), core.token.strip(), fingerprint=trusted, lang="en") as client:
            await client.me()
    open_ = [each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == core.port]
    assert open_ == [], "a command that ended now would leave it to the garbage collector"


async def test_who_asks_in_clear_where_tls_is_spoken_is_told_of_https(core: Core) -> None:
    plain = url(core).replace("https", "http", 1)
    async with Client(plain, core.token.strip()) as client:
        with pytest.raises(RequestError) as said:
            await client.me()
    assert said.value.code == "api.cut_off_plain"
    assert said.value.facts["secure"] == url(core)


async def test_a_request_to_the_trusted_certificate_succeeds(core: Core) -> None:
    async with Client(url(core), core.token.strip(), fingerprint=fingerprint(core), lang="en") as client:
        assert (await client.me()).role == "admin"


def test_no_secret_stands_in_a_log_of_core_broker_or_database_nor_in_a_process_list(core: Core) -> None:
    added = json.loads(core("--output", "json", "device", "add", "aq-1", "--profile", "native-air-quality").out)
    secrets = {core.token.strip(), PASSWORD, added["secret"]}
    secrets |= {file.read_text().strip() for file in (core.state / "broker").glob("secret")}

    async def ask() -> None:
        unknown = {"Authorization": f"Bearer {core.token.strip()}x"}
        async with aiohttp.ClientSession() as http:
            for path in ("/api/v1/me", f"/api/v1/devices/'{core.token.strip()}", f"/?token={core.token.strip()}"):
                async with http.get(url(core) + path, headers=unknown, ssl=False) as reply:
                    await reply.read()
            body = {"user": "an'; SELECT 1/0", "password": PASSWORD}
            async with http.post(url(core) + "/api/v1/login", json={**body, "name": "x"}, ssl=False) as reply:
                await reply.read()

    asyncio.run(ask())
    logs = [core.said, core.folder / "log.txt", *core.state.rglob("*.log")]
    assert {"broker.log", "start.log"} <= {file.name for file in logs}, "the logs that are looked at are there"
    for file in logs:
        text = file.read_text(errors="replace")
        assert not [each for each in secrets if each in text], file.name
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = process.read_bytes().decode(errors="replace")
            assert not [each for each in secrets if each in line], line.split("\0")[0]


def test_without_a_pin_an_unknown_certificate_is_refused(core: Core) -> None:
    async def ask() -> None:
        async with Client(url(core), core.token.strip(), lang="en") as client:
            await client.me()

    with pytest.raises(RequestError, match=r"login\.untrusted"):
        asyncio.run(ask())


def test_a_login_in_clear_to_another_machine_is_refused_before_anything_is_sent(laptop: dict[str, str]) -> None:
    ended = run(laptop, "login", "http://192.0.2.1:8080", "--user", "an", "--password-file", "-", feed=PASSWORD)
    assert (ended.returncode, "not encrypted" in ended.stderr) == (1, True)
    named = run(laptop, "login", "https://an:secret@192.0.2.1", "--password-file", "-", feed=PASSWORD)
    assert (named.returncode, "secret" in named.stderr) == (1, False)


def test_a_server_that_takes_connections_and_never_speaks_tls_is_called_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_CONNECT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = CliRunner().invoke(iot, ["login", f"https://127.0.0.1:{silent.getsockname()[1]}", "--lang", "en"])
    assert said.exit_code != 0
    assert "did not answer within 1 s" in said.output


def test_old_tls_is_refused_and_the_cookie_is_for_tls_only(core: Core) -> None:
    def try_old() -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", core.port), 10) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain, server_hostname="127.0.0.1").close()

    async def ask() -> str:
        async with aiohttp.ClientSession() as http:
            body = {"user": "an", "password": PASSWORD}
            headers = {"X-Requested-With": "iot"}
            async with http.post(url(core) + "/api/v1/session", json=body, headers=headers, ssl=False) as reply:
                assert reply.headers["Strict-Transport-Security"]
                return str(reply.headers["Set-Cookie"])

    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        try_old()
    assert "Secure" in asyncio.run(ask())


@pytest.mark.parametrize(("host", "tls", "expected"), [
    ("127.0.0.1", "auto", False), ("::1", "auto", False), ("localhost", "auto", False), ("127.0.0.1", "on", True),
    ("0.0.0.0", "auto", True), ("::", "auto", True), ("iot.example.vn", "auto", True),
    ("0.0.0.0", "off", False),
])  # fmt: skip
def test_beyond_this_machine_there_is_tls_unless_somebody_says_otherwise(
    host: str, tls: str, expected: bool, tmp_path: Path
) -> None:
    made = tls_of(Api(host=host, tls=tls), tmp_path)
    assert (made is not None) is expected
    assert is_loopback(host) is (host in {"127.0.0.1", "::1", "localhost"})


def test_a_given_certificate_is_shown_and_a_wrong_one_named(tmp_path: Path) -> None:
    own = tls_of(Api(tls="on"), tmp_path)
    assert own is not None
    given = tls_of(Api(certificate=str(tmp_path / "api.crt"), key=str(tmp_path / "api.key")), tmp_path / "none")
    assert given is not None
    assert (given.fingerprint, given.own) == (own.fingerprint, False)
    assert tls_of(Api(tls="on"), tmp_path) is not None
    (tmp_path / "api.key").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"start\.bad_certificate"):
        tls_of(Api(certificate=str(tmp_path / "api.crt"), key=str(tmp_path / "api.key")), tmp_path)
    with pytest.raises(ConfigError, match=r"config\.invalid"):
        tls_of(Api(certificate=str(tmp_path / "api.crt")), tmp_path)


def on_a_terminal(env: dict[str, str], *words: str, answers: tuple[str, ...]) -> str:
    """Run `iot` with a terminal, answer what it asks, and give what was seen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*IOT, *words], env=env | {"TERM": "dumb", "COLUMNS": "200"}, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    waiting = list(answers)
    prompts = (b"]: ", b"word: ")
    try:
        while chunk := os.read(master, 65_536):
            seen += chunk
            if waiting and seen.endswith(prompts):
                os.write(master, waiting.pop(0).encode())
    except OSError:
        pass  # how Linux tells the end of a terminal
    os.close(master)
    process.wait(timeout=60)
    return seen.decode().replace("\r\n", "\n")
