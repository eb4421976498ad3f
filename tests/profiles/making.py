"""Profiles made in a test: only what matters is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from iot_core.model import Decoded, Uplink
from iot_core.profiles import Profile, Profiles, load_file, uplink_of

__all__ = ["HEAD", "Make", "decode", "put", "values_of"]

HEAD = """\
model: trial
vendor: Trial
title: {vi: Thử, en: Trial}
source: this test
interval: 60s
examples:
  - {payload: "", held: empty}
  - {payload: "1", online: true}
"""
Make = Callable[..., Profile]


def making(tmp_path: Path, profiles: Profiles) -> Make:
    """Give the function that writes a profile into a class's folder and compiles it."""

    def build(text: str, class_key: str = "air_quality", *, head: str = HEAD) -> Profile:
        folder = tmp_path / class_key
        folder.mkdir(exist_ok=True)
        (folder / "trial.yaml").write_text(head + text, encoding="utf-8")
        return load_file(folder / "trial.yaml", profiles)

    return build


def put(path: Path, text: str) -> Path:
    """Write a file that a core follows, in one step: it looks in a thread, and must see no half of a change.

    A file system that tells times by the second must not hide a change within one.
    """
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    written = part.stat().st_mtime_ns
    os.utime(part, ns=(written, written + len(text)))
    return part.replace(path)


def decode(profile: Profile, data: str | bytes, *, topic: str = "", port: int | None = None) -> Decoded:
    """Decode text, or bytes written in hexadecimal after `hex:`."""
    if isinstance(data, str) and data.startswith("hex:"):
        return profile.decode(uplink_of(profile, data=bytes.fromhex(data[4:]), topic=topic, port=port))
    if isinstance(data, bytes):
        return profile.decode(uplink_of(profile, data=data, topic=topic, port=port))
    uplink = uplink_of(profile, text=data, topic=topic)
    assert isinstance(uplink, Uplink)
    return profile.decode(uplink)


def values_of(decoded: Decoded) -> list[dict[str, object]]:
    """Give the values of each sample, floats as near as the published figures are."""
    return [
        {
            key: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            for key, value in each.values.items()
        }
        for each in decoded.samples
    ]
