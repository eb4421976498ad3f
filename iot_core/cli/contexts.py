"""Cores that somebody signed in to from here: address, pinned certificate, token. One file, closed to others (0600)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from iot_core.cli.endings import reason
from iot_core.errors import ConfigError, NotFoundError
from iot_core.settings import environment

__all__ = ["Context", "Contexts", "file", "read", "write"]

LOCAL: Final = "local"
"""No context: the core that runs on this machine."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A core, and how to show oneself to it. `fingerprint` is empty where this system trusts its certificate."""

    url: str
    token: str
    user: str
    fingerprint: str = ""


class Contexts(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, and the one that is used."""

    current: str = ""
    contexts: Mapping[str, Context] = {}

    def named(self, name: str) -> Context:
        """Give one. Raises NotFoundError naming those that there are."""
        found = self.contexts.get(name)
        if found is None:
            raise NotFoundError("login.no_context", name=name, known=", ".join(sorted(self.contexts)) or "-")
        return found

    def of_url(self, url: str) -> Context | None:
        """Give the one with this address."""
        return next((each for each in self.contexts.values() if each.url == url), None)


def file() -> Path:
    """Name the file: $XDG_CONFIG_HOME/iot, on Windows %APPDATA%."""
    folder = environment("IOT_CONTEXTS_DIR") or environment("XDG_CONFIG_HOME") or environment("APPDATA")
    return (Path(folder) if folder else Path.home() / ".config") / "iot" / "contexts.json"


def read() -> Contexts:
    """Read the file; without one there are none. Raises ConfigError for one that is damaged or open to others."""
    path = file()
    try:
        said = path.read_bytes()
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigError("login.open_file", file=path)
        return msgspec.json.decode(said, type=Contexts)
    except FileNotFoundError:
        return Contexts()
    except (OSError, msgspec.DecodeError) as exc:
        raise ConfigError("login.bad_file", file=path, detail=getattr(exc, "strerror", None) or str(exc)) from exc


def write(contexts: Contexts) -> None:
    """Replace the file at once, readable for its owner only. Raises ConfigError."""
    path = file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".contexts.")  # mkstemp: 0600
        try:
            with os.fdopen(handle, "wb") as new:
                new.write(msgspec.json.format(msgspec.json.encode(contexts)) + b"\n")
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise ConfigError("login.bad_file", file=path, detail=reason(exc)) from exc
