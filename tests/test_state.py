"""One core for one state directory, and secrets that only their owner reads."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from iot_core.errors import StartError
from iot_core.messages import said
from iot_core.state import Running, StateDir, locked, start_error, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_second_core_is_told_which_one_runs(state_path: Path) -> None:
    with locked(state_path) as state:
        with pytest.raises(StartError, match="start.already_taken"), locked(state_path):
            pass
        state.announce(Running(pid=4711, url="http://127.0.0.1:8080"))
        with pytest.raises(StartError, match="start.already_running") as caught, locked(state_path):
            pass
        assert "4711" in said(caught.value)
        assert "http://127.0.0.1:8080" in said(caught.value)
    with locked(state_path):
        pass


def test_core_file_is_gone_when_the_core_has_ended(state_path: Path) -> None:
    with locked(state_path) as state:
        state.announce(Running(pid=1, url="http://127.0.0.1:1", ports={"coap": 5683}))
        assert StateDir(state_path).running() == Running(pid=1, url="http://127.0.0.1:1", ports={"coap": 5683})
    assert StateDir(state_path).running() is None


def test_token_is_read_by_its_owner_only(state_path: Path) -> None:
    with locked(state_path) as state:
        state.write_token("secret")
        assert mode(state.token_file) == 0o600
        assert state.read_token() == "secret"
        assert mode(state.lock_file) == 0o600


def test_directory_is_open_to_nobody_but_root_children(state_path: Path) -> None:
    with locked(state_path):
        assert mode(state_path) == (0o711 if os.geteuid() == 0 else 0o700)


def test_directory_with_other_things_keeps_its_mode(state_path: Path) -> None:
    state_path.mkdir(mode=0o700)
    (state_path / "letters").touch()
    with locked(state_path):
        assert mode(state_path) == 0o700


def test_file_where_the_directory_should_be_is_refused(state_path: Path) -> None:
    state_path.touch()
    with pytest.raises(StartError, match="start.state_unusable"), locked(state_path):
        pass


@pytest.mark.root
def test_directory_of_another_user_is_refused(state_path: Path) -> None:
    state_path.mkdir()
    os.chown(state_path, 65534, 65534)
    with pytest.raises(StartError, match="start.state_not_ours"), locked(state_path):
        pass


def test_run_folder_that_someone_else_prepared_is_refused(state_path: Path) -> None:
    with locked(state_path) as state:
        (state_path / "run").symlink_to("/")
        with pytest.raises(StartError, match="start.state_not_ours"):
            state.run()


def test_private_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"old")
    write_private(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    with pytest.raises(StartError):
        write_private(tmp_path / "nowhere" / "file", b"")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "start.disk_full"),
        (errno.EDQUOT, "start.disk_full"),
        (errno.EACCES, "start.state_denied"),
        (errno.EROFS, "start.state_denied"),
        (errno.ENAMETOOLONG, "start.state_unusable"),
    ],
)
def test_what_the_system_says_becomes_a_sentence_of_ours(number: int, code: str) -> None:
    error = start_error(OSError(number, os.strerror(number), "/srv/iot"), Path("/srv/iot"))
    assert error.code == code
    assert "/srv/iot" in said(error)
