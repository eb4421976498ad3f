"""Secrets in Mosquitto's form, held against Mosquitto's own program."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import check_secret, hash_secret
from tests.conftest import missing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mosquitto_passwd() -> str:
    found = shutil.which("mosquitto_passwd")
    if found is None:
        missing("mosquitto_passwd is not installed: apt-get install --no-install-recommends mosquitto")
    return found


@pytest.mark.parametrize("options", [["-H", "sha512-pbkdf2"], ["-H", "sha512"], []])
def test_hashes_of_mosquitto_passwd_are_understood(mosquitto_passwd: str, options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.touch(mode=0o600)
    done = subprocess.run(
        [mosquitto_passwd, *options, "-b", file, "aq-1", "Bí mật 1"], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("this mosquitto_passwd has no choice of hashes")
    hashed = file.read_text().strip().removeprefix("aq-1:")
    assert check_secret("Bí mật 1", hashed)
    assert not check_secret("Bí mật 2", hashed)


def test_our_hash_has_the_shape_of_mosquitto_passwd(mosquitto_passwd: str, tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.touch(mode=0o600)
    subprocess.run([mosquitto_passwd, "-b", file, "aq-1", "secret"], check=True)
    theirs = file.read_text().strip().removeprefix("aq-1:").split("$")
    ours = hash_secret("secret").split("$")
    assert [len(part) for part in ours] == [len(part) for part in theirs]
    assert ours[:3] == theirs[:3]


@given(st.text(max_size=60))
def test_a_secret_opens_its_own_hash_and_no_other(secret: str) -> None:
    hashed = hash_secret(secret)
    assert check_secret(secret, hashed)
    assert not check_secret(secret + "x", hashed)
    assert hash_secret(secret) != hashed  # salted


@given(st.text(max_size=80) | st.sampled_from(["$7$$$", "$7$0$AAAA$AAAA", "$7$99999999999$AAAA$AAAA", "$6$é$AAAA"]))
def test_a_broken_hash_lets_nobody_in(hashed: str) -> None:
    assert not check_secret("", hashed)


def test_a_new_secret_has_more_than_128_bits_and_is_never_the_same() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) * 6 >= 128 for secret in made)
